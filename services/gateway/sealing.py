"""Shows an answer to whoever wants to see it before its usage event is written.

Whatever happens there, the event follows: a fault bills nothing, and a cancellation waits.
"""

from __future__ import annotations

import asyncio

from services.common.telemetry import get_logger
from services.gateway.calls import ChatCall
from services.gateway.envelope import Ending
from services.gateway.usage_entry import UsageEntry

_log = get_logger(__name__)


async def seal(call: ChatCall, entry: UsageEntry, ending: Ending) -> bool:
    """Returns whether the task was cancelled meanwhile, which its caller must see to."""
    if call.seal is None:
        return False
    sealing = asyncio.ensure_future(call.seal(entry, ending))
    cancelled = False
    while not sealing.done():
        try:
            await asyncio.shield(sealing)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:  # noqa: BLE001 - an edge: told below
            break
    if sealing.cancelled() or sealing.exception() is not None:
        fault = None if sealing.cancelled() else sealing.exception()
        _log.error("an answer was not taken", request_id=entry.request_id, exc_info=fault)
        entry.basis, entry.quantities = "none", {}
    return cancelled
