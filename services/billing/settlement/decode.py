"""Usage events as charges: what is taken from the wire, checked, and priced again by our own sum.

Everything that reaches a text column is checked here, so that no message can make a whole batch
fail over and over: what is wrong with it raises Unacceptable, and the message is put aside.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

from services.billing.domain.events import Quantities
from services.billing.domain.usage import COST_MAX_NANOUSD, UsageCharge
from services.common.events import EventRecord, UndecodableEvent
from services.common.ids import AccountId, GrantId, KeyId, UsageId
from services.common.kafka import LogMessage
from services.common.money import INT64_MAX, Price, TokenKind, cost_nanousd
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.pricing_pb import price_from_pb

ID_LENGTH_MAX = 200
# SDKs send such a request again by themselves, so its answer is never billed.
RESENT_STATUSES = frozenset({429, 502, 503, 504})
_PRICES_CACHED = 4_096
# Of usage events; what a newer one means for money is not ours to guess.
_VERSION_MAX = 1


class Unacceptable(Exception):
    """A message that billing cannot take; the text says why."""


class Delivery(NamedTuple):
    """A charge and the message that brought it."""

    charge: UsageCharge
    message: LogMessage


def charge_from_message(message: LogMessage) -> UsageCharge:
    """The charge that a usage message stands for. Raises Unacceptable."""
    try:
        record = EventRecord.from_bytes(message.value)
        if record.type != "gateway.UsageRecorded":
            raise Unacceptable(f"not a usage event but {record.type!r}")
        if record.version > _VERSION_MAX:
            raise Unacceptable(f"version {record.version} of {record.type} is newer than ours")
        usage = record.message()
    except UndecodableEvent as error:
        raise Unacceptable(str(error)) from error
    assert isinstance(usage, usage_pb2.UsageRecorded)
    for name, value in (("usage_id", usage.usage_id), ("account_id", usage.account_id)):
        _check_id(name, value, required=True)
    optional = {
        "key_id": usage.key_id, "grant_id": usage.grant_id, "provider_id": usage.provider_id,
    }  # fmt: skip
    for name, value in optional.items():
        _check_id(name, value, required=False)
    if record.account_id != usage.account_id:
        raise Unacceptable("the envelope names another account than the event")
    quantities = _quantities(usage)
    return UsageCharge(
        UsageId(usage.usage_id),
        usage.request_id,
        AccountId(usage.account_id),
        KeyId(usage.key_id),
        GrantId(usage.grant_id),
        usage.model_id,
        usage.price.price_version_id,
        usage.admitted_at_ms or usage.received_at_ms or record.occurred_at_ms,
        _cost(usage, quantities),
        usage.cost_nanousd,
        hashlib.sha256(record.payload).digest(),
        record.traceparent,
        quantities,
        usage.provider_id,
    )


def _quantities(usage: usage_pb2.UsageRecorded) -> Quantities:
    """The tokens by kind; none where nothing is billed, whatever the tokens were."""
    if not _is_billed(usage):
        return ()
    quantities: dict[TokenKind, int] = {}
    try:
        for quantity in usage.quantities:
            kind = TokenKind(quantity.kind)
            quantities[kind] = quantities.get(kind, 0) + quantity.tokens
    except ValueError as error:
        raise Unacceptable(f"the cost cannot be computed: {error}") from error
    if any(tokens > INT64_MAX for tokens in quantities.values()):
        raise Unacceptable("an impossible number of tokens")
    return tuple(sorted(quantities.items()))


def _cost(usage: usage_pb2.UsageRecorded, quantities: Quantities) -> int:
    """The cost by the pinned price; 0 where nothing is billed."""
    if not _is_billed(usage):
        return 0
    try:
        price = _price(usage.price.SerializeToString(deterministic=True))
        cost = cost_nanousd(dict(quantities), price)
    except ValueError as error:
        raise Unacceptable(f"the cost cannot be computed: {error}") from error
    if not 0 <= cost <= COST_MAX_NANOUSD:
        raise Unacceptable(f"an impossible cost: {cost} nano-dollars")
    return cost


def _is_billed(usage: usage_pb2.UsageRecorded) -> bool:
    unbilled = (usage_pb2.REQUEST_OUTCOME_REFUSED, usage_pb2.REQUEST_OUTCOME_CRASHED)
    return (
        usage.usage_basis != usage_pb2.USAGE_BASIS_NONE
        and usage.outcome not in unbilled
        and usage.http_status not in RESENT_STATUSES
    )


@lru_cache(maxsize=_PRICES_CACHED)
def _price(raw: bytes) -> Price:
    return price_from_pb(common_pb2.PriceVersion.FromString(raw))


def _check_id(name: str, value: str, *, required: bool) -> None:
    if required and not value:
        raise Unacceptable(f"without {name}")
    if len(value) > ID_LENGTH_MAX or "\0" in value:
        raise Unacceptable(f"{name} is not an id")
