"""The alert store in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any

import asyncpg

from services.common.ids import new_id
from services.common.postgres.pool import acquired, translated
from services.usage.alerts.ports import Delivery, Endpoint
from services.usage.domain.alerts import Alert, AlertKind, AlertRule, AlertState

_STATE = ", ".join(field.name for field in fields(AlertState))
_ALERT = ", ".join(field.name for field in fields(Alert))
_ENDPOINT = ", ".join(field.name for field in fields(Endpoint))
_DELIVERY = ", ".join(field.name for field in fields(Delivery))

_CHANGE = f"""
INSERT INTO alert_state ({_STATE})
SELECT $1::text, $2::text, $3::text, $4::integer, $5::bigint, $6::bigint, $7::bigint
WHERE $7 = 1 OR EXISTS (
    SELECT FROM alert_state WHERE account_id = $1 AND kind = $2 AND subject = $3
)
ON CONFLICT (account_id, kind, subject) DO UPDATE
SET level = excluded.level, value = excluded.value,
    changed_at_ms = excluded.changed_at_ms, version = excluded.version
WHERE alert_state.version = excluded.version - 1
RETURNING version
"""  # noqa: S608 - names of our own columns
_CLAIM = f"""
UPDATE webhook_delivery SET next_at_ms = $1 WHERE delivery_id IN (
    SELECT delivery_id FROM webhook_delivery WHERE state = 'pending' AND next_at_ms <= $2
    ORDER BY next_at_ms LIMIT $3 FOR UPDATE SKIP LOCKED
) RETURNING {_DELIVERY}
"""  # noqa: S608 - names of our own columns


class PostgresAlertStore:
    """An AlertStore. One change is one transaction."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def rules(self) -> dict[str, dict[AlertKind, AlertRule]]:
        found: dict[str, dict[AlertKind, AlertRule]] = {}
        for row in await self._fetch("SELECT * FROM alert_rule"):
            rule = AlertRule(
                row["kind"], row["threshold"], row["enabled"], row["window_s"], row["min_requests"]
            )
            found.setdefault(row["account_id"], {})[rule.kind] = rule
        return found

    async def save_rule(self, account_id: str, rule: AlertRule, *, by: str, now_ms: int) -> None:
        await self._fetch(
            "INSERT INTO alert_rule (account_id, kind, enabled, threshold, window_s, min_requests,"
            " updated_by, updated_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
            " ON CONFLICT (account_id, kind) DO UPDATE SET enabled = $3, threshold = $4,"
            " window_s = $5, min_requests = $6, updated_by = $7, updated_at_ms = $8",
            account_id,
            rule.kind,
            rule.enabled,
            rule.threshold,
            rule.window_s,
            rule.min_requests,
            by,
            now_ms,
        )

    async def states(self) -> list[AlertState]:
        rows = await self._fetch(f"SELECT {_STATE} FROM alert_state")  # noqa: S608 - as above
        return [AlertState(*row) for row in rows]

    async def change(self, state: AlertState, alert: Alert | None) -> bool:
        with translated():
            async with acquired(self._pool) as connection, connection.transaction():
                if await connection.fetchval(_CHANGE, *astuple(state)) is None:
                    return False
                if alert is not None:
                    await _raise(connection, alert)
        return True

    async def alerts(self, account_id: str, *, limit: int, before: str = "") -> list[Alert]:
        rows = await self._fetch(
            f"SELECT {_ALERT} FROM alert WHERE account_id = $1 AND ($2 = '' OR alert_id < $2)"  # noqa: S608 - as above
            " ORDER BY alert_id DESC LIMIT $3",
            account_id,
            before,
            limit,
        )
        return [Alert(*row) for row in rows]

    async def endpoints(self, account_id: str) -> list[Endpoint]:
        rows = await self._fetch(
            f"SELECT {_ENDPOINT} FROM webhook_endpoint WHERE account_id = $1 ORDER BY endpoint_id",  # noqa: S608 - as above
            account_id,
        )
        return [_endpoint(row) for row in rows]

    async def save_endpoint(self, endpoint: Endpoint) -> None:
        await self._fetch(
            f"INSERT INTO webhook_endpoint ({_ENDPOINT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608 - as above
            " ON CONFLICT (endpoint_id) DO UPDATE SET url = $3, event_types = $4, secret = $5,"
            " previous_secret = $6, previous_until_ms = $7",
            *astuple(endpoint),
        )

    async def delete_endpoint(self, account_id: str, endpoint_id: str) -> bool:
        rows = await self._fetch(
            "DELETE FROM webhook_endpoint WHERE account_id = $1 AND endpoint_id = $2"
            " RETURNING endpoint_id",
            account_id,
            endpoint_id,
        )
        return bool(rows)

    async def claim_due(
        self, *, now_ms: int, limit: int, lease_ms: int
    ) -> Sequence[tuple[Delivery, Endpoint, Alert]]:
        claimed = []
        for row in await self._fetch(_CLAIM, now_ms + lease_ms, now_ms, limit):
            delivery = Delivery(*row)
            [alert] = await self._fetch(
                f"SELECT {_ALERT} FROM alert WHERE alert_id = $1",  # noqa: S608 - as above
                delivery.alert_id,
            )
            endpoints = await self._fetch(
                f"SELECT {_ENDPOINT} FROM webhook_endpoint WHERE endpoint_id = $1",  # noqa: S608 - as above
                delivery.endpoint_id,
            )
            # Deleted meanwhile, and the delivery with it.
            claimed += [(delivery, _endpoint(found), Alert(*alert)) for found in endpoints]
        return claimed

    async def save_delivery(self, delivery: Delivery) -> None:
        await self._fetch(
            "UPDATE webhook_delivery SET state = $2, attempts = $3, next_at_ms = $4,"
            " last_status = $5, last_error = $6 WHERE delivery_id = $1",
            delivery.delivery_id,
            delivery.state,
            delivery.attempts,
            delivery.next_at_ms,
            delivery.last_status,
            delivery.last_error,
        )

    async def deliveries(self, account_id: str, *, limit: int) -> list[Delivery]:
        rows = await self._fetch(
            f"SELECT {_DELIVERY} FROM webhook_delivery WHERE account_id = $1"  # noqa: S608 - as above
            " ORDER BY delivery_id DESC LIMIT $2",
            account_id,
            limit,
        )
        return [Delivery(*row) for row in rows]

    async def _fetch(self, sql: str, *values: object) -> list[Any]:  # Any: asyncpg's records
        with translated():
            async with acquired(self._pool) as connection:
                return list(await connection.fetch(sql, *values))


async def _raise(connection: asyncpg.Connection, alert: Alert) -> None:
    """Records the alert, and its way to every endpoint that wants it."""
    await connection.execute(
        f"INSERT INTO alert ({_ALERT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",  # noqa: S608 - as above
        *astuple(alert),
    )
    wanting = await connection.fetch(
        "SELECT endpoint_id FROM webhook_endpoint WHERE account_id = $1"
        " AND (event_types = '{}' OR $2 = ANY (event_types)) ORDER BY endpoint_id",
        alert.account_id,
        alert.event_type,
    )
    for row in wanting:
        delivery = Delivery(
            new_id("whd", alert.occurred_at_ms),
            row["endpoint_id"],
            alert.alert_id,
            alert.account_id,
            next_at_ms=alert.occurred_at_ms,
        )
        await connection.execute(
            f"INSERT INTO webhook_delivery ({_DELIVERY})"  # noqa: S608 - as above
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            *astuple(delivery),
        )


def _endpoint(row: Any) -> Endpoint:  # Any: asyncpg's record
    values = dict(row)
    return Endpoint(**values | {"event_types": tuple(values["event_types"])})
