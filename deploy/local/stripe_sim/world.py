"""The gateway's state: objects, notices, movements, keys. No IO: time and chance are arguments."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Callable
from typing import Any

from deploy.local.stripe_sim.faults import FaultPlan

Object = dict[str, Any]  # Any: an object of the API is JSON
KEY_LIFE_MS = 24 * 3_600_000
API_VERSION = "2026-06-24.simulator"
_LETTERS = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz"
# Pauses before a notice is delivered again that was not taken: about three days in all.
RETRY_MS = tuple(60_000 * 4**n for n in range(8))
KINDS = (
    "customer", "payment_method", "payment_intent", "charge", "setup_intent", "checkout.session",
    "refund", "dispute", "event", "balance_transaction",
)  # fmt: skip


class ApiError(Exception):
    """An answer that is an error, as the API words it."""

    def __init__(self, status: int, kind: str, message: str, **facts: Any) -> None:
        # Any: further fields of the error object
        super().__init__(message)
        self.status = status
        self.body: Object = {"error": {"type": kind, "message": message, **facts}}


def bad(message: str, **facts: Any) -> ApiError:  # Any: as above
    """The caller's mistake."""
    return ApiError(400, "invalid_request_error", message, **facts)


class World:
    """Everything that the gateway knows; `objects` by kind and id, in the order of their making."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        rng: random.Random,
        secret: str,
        plan: FaultPlan | None = None,
        public_url: str = "http://127.0.0.1:8400",
    ) -> None:
        self.now_ms = now_ms
        self.rng = rng
        self.secret = secret
        self.plan = plan or FaultPlan()
        self.public_url = public_url
        self.bank_delay_ms = 4_000
        self.tax_percent = 0
        self.objects: dict[str, dict[str, Object]] = {kind: {} for kind in KINDS}
        self.keys: dict[str, Object] = {}
        # [when, what, id]
        self.later: list[list[Any]] = []  # Any: number and texts
        # [when, event id, attempt]
        self.outgoing: list[list[Any]] = []  # Any: as above
        self.delivered: dict[str, bool] = {}
        self.changes = 0

    @property
    def now_s(self) -> int:
        """Unix seconds, as the API counts."""
        return self.now_ms() // 1000

    def new_id(self, prefix: str) -> str:
        """A new id."""
        return prefix + "_" + "".join(self.rng.choice(_LETTERS) for _ in range(24))

    def add(self, kind: str, prefix: str, fields: Object) -> Object:
        """Keeps a new object."""
        made: Object = {
            "id": self.new_id(prefix),
            "object": kind,
            "created": self.now_s,
            "livemode": False,
            **fields,
        }
        self.objects[kind][made["id"]] = made
        self.changes += 1
        return made

    def find(self, kind: str, key: str) -> Object:
        """An object. Raises ApiError where there is none."""
        found = self.objects[kind].get(key)
        if found is None:
            raise ApiError(
                404, "invalid_request_error", f"No such {kind}: '{key}'", code="resource_missing"
            )
        return found

    def where(self, kind: str, **wanted: str) -> list[Object]:
        """Objects with these fields, newest first."""
        rows = reversed(list(self.objects[kind].values()))
        return [row for row in rows if all(row.get(n) == v for n, v in wanted.items() if v)]

    def tell(self, event_type: str, subject: Object) -> Object:
        """Makes a notice about an object as it is now, and plans its deliveries."""
        event = self.add(
            "event",
            "evt",
            {
                "type": event_type,
                "api_version": API_VERSION,
                "data": {"object": json.loads(json.dumps(subject))},
                "pending_webhooks": 1,
                "request": {"id": None, "idempotency_key": None},
            },
        )
        self.delivered[event["id"]] = False
        for delay_ms in self.plan.deliveries(self.rng):
            self.outgoing.append([self.now_ms() + delay_ms, event["id"], 0])
        return event

    def move(self, kind: str, amount: int, source: str, *, fee: int = 0, of: str = "") -> Object:
        """Books a movement of money, in cents."""
        return self.add(
            "balance_transaction",
            "txn",
            {
                "type": kind,
                "amount": amount,
                "fee": fee,
                "net": amount - fee,
                "currency": "usd",
                "source": source,
                "reporting_category": of or kind,
                "status": "available",
            },
        )

    def plan_later(self, delay_ms: int, what: str, key: str) -> None:
        """Something that happens by itself after a while."""
        self.later.append([self.now_ms() + delay_ms, what, key])

    def take_due(self) -> list[tuple[str, str]]:
        """What is to happen now, in the order of its time; taken off the list."""
        now = self.now_ms()
        due = sorted(one for one in self.later if one[0] <= now)
        self.later = [one for one in self.later if one[0] > now]
        return [(what, key) for _, what, key in due]

    def deliveries_due(self) -> list[tuple[str, int]]:
        """Notices to deliver now, each with its number of attempts before; taken off the list."""
        now = self.now_ms()
        due = sorted(one for one in self.outgoing if one[0] <= now)
        self.outgoing = [one for one in self.outgoing if one[0] > now]
        return [(event_id, attempt) for _, event_id, attempt in due]

    def delivery_ended(self, event_id: str, attempt: int, *, taken: bool) -> None:
        """Notes how a delivery went; one that was not taken is tried again later."""
        self.changes += 1
        if taken:
            self.delivered[event_id] = True
            self.objects["event"][event_id]["pending_webhooks"] = 0
        elif attempt < len(RETRY_MS):
            self.outgoing.append([self.now_ms() + RETRY_MS[attempt], event_id, attempt + 1])

    def next_at_ms(self) -> int | None:
        """When something is due next."""
        return min((one[0] for one in [*self.later, *self.outgoing]), default=None)

    def payload(self, event_id: str) -> bytes:
        """The bytes of a notice."""
        return json.dumps(self.objects["event"][event_id]).encode()

    def signature(self, payload: bytes, *, secret: str = "", at_s: int | None = None) -> str:
        """The header that signs a delivery now."""
        at_s = self.now_s if at_s is None else at_s
        signed = f"{at_s}.".encode() + payload
        mac = hmac.new((secret or self.secret).encode(), signed, hashlib.sha256).hexdigest()
        return f"t={at_s},v1={mac}"

    def dump(self) -> str:
        """The state as JSON."""
        return json.dumps(
            {
                "objects": self.objects,
                "keys": self.keys,
                "later": self.later,
                "outgoing": self.outgoing,
                "delivered": self.delivered,
            }
        )

    def load(self, text: str) -> None:
        """Takes over a state that `dump` wrote."""
        state = json.loads(text)
        self.objects = {kind: state["objects"].get(kind, {}) for kind in KINDS}
        self.keys, self.later = state["keys"], state["later"]
        self.outgoing, self.delivered = state["outgoing"], state["delivered"]
