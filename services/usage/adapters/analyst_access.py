"""Who may read what, in ClickHouse's own access control.

The embedded engine has one user, `default`, for every connection. Its privileges come from a role
that the service's connections have and an analyst's connection lays down (`SET ROLE NONE`), after
which it may read the analysts' views and nothing else. The views run as `mesh_views`, whose row
policy compares the account with the setting `log_comment` of the asking session: a text that the
engine carries along for any use, and that nobody can change once the session is read-only.

On a server each analyst is a user with privileges, a row policy, a quota and bounds of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

from services.usage.adapters.analyst_views import VIEWS_USER

ENGINE_ROLE = "mesh_engine"
ACCOUNT_SETTING = "log_comment"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one query may take: seconds, bytes of memory, rows and bytes of its answer, threads."""

    time_s: int = 10
    memory_bytes: int = 512 * 1024 * 1024
    result_rows: int = 1_000_000
    result_bytes: int = 64 * 1024 * 1024
    threads: int = 2

    def settings(self) -> dict[str, int | str]:
        """The same as settings of the engine."""
        return {
            "max_execution_time": self.time_s,
            "timeout_overflow_mode": "throw",
            "max_memory_usage": self.memory_bytes,
            "max_bytes_before_external_group_by": 0,
            "max_bytes_before_external_sort": 0,
            "max_result_rows": self.result_rows,
            "max_result_bytes": self.result_bytes,
            "result_overflow_mode": "throw",
            "max_threads": self.threads,
            "max_query_size": 262_144,
            "max_ast_depth": 500,
            "max_ast_elements": 20_000,
            "max_expanded_ast_elements": 100_000,
            "max_subquery_depth": 50,
            "allow_ddl": 0,
            "allow_introspection_functions": 0,
        }


def write_engine_config(folder: Path, *, base: str, tables: Sequence[str], database: str) -> Path:
    """Writes the embedded engine's configuration into the folder; gives the path of the file that
    the engine is to read when it is first opened.
    """
    reads = "".join(f"<query>GRANT SELECT ON {base}.{table}</query>" for table in tables)
    condition = escape(f"account_id = getSetting('{ACCOUNT_SETTING}')")
    policies = "".join(f"<{table}><filter>{condition}</filter></{table}>" for table in tables)
    user = (
        "<no_password/><networks><ip>::/0</ip></networks>"
        "<profile>default</profile><quota>default</quota>"
    )
    users = folder / "users.xml"
    users.write_text(
        "<clickhouse><profiles><default/></profiles><quotas><default/></quotas>"
        f"<roles><{ENGINE_ROLE}><grants><query>GRANT ALL ON *.* WITH GRANT OPTION</query>"
        f"</grants></{ENGINE_ROLE}></roles><users>"
        f"<default>{user}<grants><query>GRANT {ENGINE_ROLE}</query>"
        f"<query>GRANT SELECT ON {database}.*</query></grants></default>"
        f"<{VIEWS_USER}>{user}<grants>{reads}</grants>"
        f"<databases><{base}>{policies}</{base}></databases></{VIEWS_USER}>"
        "</users></clickhouse>",
        encoding="utf-8",
    )
    config = folder / "config.xml"
    path = escape(str(users))
    config.write_text(
        f"<clickhouse><users_config>{path}</users_config></clickhouse>", encoding="utf-8"
    )
    return config


def server_grants(
    *,
    analyst_id: str,
    account_id: str,
    token_sha256: str,
    valid_until_ms: int,
    base: str,
    tables: Sequence[str],
    database: str,
    bounds: Bounds,
) -> list[str]:
    """The statements that make an analyst a user of a ClickHouse server; each may be repeated."""
    user, account = _identifier(analyst_id), _literal(account_id)
    limits = ", ".join(
        f"{name} = {_literal(str(value)) if isinstance(value, str) else value} CONST"
        for name, value in bounds.settings().items()
    )
    valid = f" VALID UNTIL '{_utc(valid_until_ms)}'" if valid_until_ms else ""
    made = [
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED WITH sha256_hash BY {_literal(token_sha256)}"
        f"{valid} DEFAULT DATABASE {database} SETTINGS {limits}, readonly = 1",
        f"GRANT SELECT ON {database}.* TO {user}",
        f"CREATE QUOTA IF NOT EXISTS {user} FOR INTERVAL 1 hour MAX queries = 10000,"
        f" execution_time = 3600 TO {user}",
    ]
    for table in tables:
        made.append(
            f"CREATE ROW POLICY IF NOT EXISTS {user} ON {base}.{table}"
            f" USING account_id = {account} TO {user}"
        )
        made.append(f"GRANT SELECT ON {base}.{table} TO {user}")
    return made


def server_revocation(analyst_id: str, *, base: str, tables: Sequence[str]) -> list[str]:
    """The statements that take an analyst off a ClickHouse server."""
    user = _identifier(analyst_id)
    dropped = [f"DROP USER IF EXISTS {user}", f"DROP QUOTA IF EXISTS {user}"]
    return dropped + [f"DROP ROW POLICY IF EXISTS {user} ON {base}.{table}" for table in tables]


def _utc(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _identifier(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
