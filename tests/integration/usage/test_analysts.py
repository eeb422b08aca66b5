"""Analysts query their account in SQL over ClickHouse's HTTP interface, and nothing else."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from services.common.errors import Forbidden, InvalidArgument, NotFound
from services.common.pb.mesh.usage.v1 import analysts_pb2
from tests.integration.usage.sql_client import OWNER, SqlEndpoint, sql_endpoint
from tests.integration.usage.sql_process import REQUESTS

OTHER = replace(OWNER, account_id="acc_2")
COST = sum(1_000 + number for number in range(REQUESTS))


@pytest.fixture(scope="module")
async def sql(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SqlEndpoint]:
    async with sql_endpoint(tmp_path_factory.mktemp("analysts")) as up:
        yield up


async def test_clickhouse_connect_joins_views_and_is_refused_what_is_not_its_own(
    sql: SqlEndpoint,
) -> None:
    def work() -> None:
        client = clickhouse_connect.get_client(
            host="127.0.0.1", port=sql.port, username="analyst", password=sql.token
        )
        joined = client.query(
            "SELECT r.model_id, count() AS n, any(s.spend_nanousd) AS spend FROM requests AS r"
            " JOIN spend_daily AS s ON s.model_id = r.model_id AND s.day = toDate(r.received_at)"
            " WHERE r.cost_nanousd >= {least:Int64} GROUP BY r.model_id",
            parameters={"least": 1_000},
        )
        [(_, count, spend)] = joined.result_rows
        assert (count, spend) == (REQUESTS, COST)
        for statement, code in (
            ("SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'x String')", 497),
            ("SELECT count() FROM mesh.requests", 497),
        ):
            with pytest.raises(DatabaseError, match=rf"Code: {code}\."):
                client.query(statement)
        with pytest.raises(DatabaseError, match=r"Code: 164\."):
            client.insert("requests", [["acc_1", "use_x"]], column_names=["account_id", "usage_id"])
        others = client.query("SELECT count() FROM requests WHERE account_id != 'acc_1'")
        assert others.result_rows == [(0,)]
        client.close()

    await asyncio.to_thread(work)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_curl_gets_an_answer_in_the_format_that_it_asks_for(sql: SqlEndpoint) -> None:
    command = [
        "curl", "-sS", "--user", f"analyst:{sql.token}",
        f"http://127.0.0.1:{sql.port}/?default_format=JSON", "--data-binary",
        "SELECT sum(cost_nanousd) AS cost FROM requests",
    ]  # fmt: skip
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    assert [row["cost"] for row in json.loads(done.stdout)["data"]] == [COST]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count() FROM requests WHERE account_id = 'acc_2'",
        "SELECT countIf(account_id = 'acc_2') FROM (SELECT * FROM requests)",
        "WITH r AS (SELECT * FROM requests) SELECT count() FROM r WHERE account_id = 'acc_2'",
        "SELECT sum(n) FROM (SELECT 0 AS n UNION ALL SELECT count() FROM analytics.requests"
        " WHERE account_id = 'acc_2')",
        "SELECT count() FROM requests AS a JOIN requests AS b ON a.account_id != b.account_id",
        "SELECT (SELECT count() FROM spend_daily WHERE account_id = 'acc_2')",
        "SELECT count() FROM attempts WHERE account_id = 'acc_2'",
        "SELECT count() FROM latency_hourly WHERE account_id = 'acc_2'",
        "SELECT count() FROM ledger_entries WHERE account_id = 'acc_2'",
        # Fails on rows of others, if any is looked at before it is dropped.
        "SELECT count() FROM requests WHERE throwIf(account_id = 'acc_2')",
        "SELECT count() FROM requests WHERE account_id = 'acc_2' AND toUInt8(usage_id) > 0",
        "SELECT count() FROM requests WHERE 'acc_2' IN (SELECT account_id FROM requests)",
    ],
)
async def test_rows_of_another_account_are_nowhere(sql: SqlEndpoint, statement: str) -> None:
    answer = await asyncio.to_thread(sql.ask, statement)
    assert (answer.status, answer.text.strip()) == (200, "0")


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        # Writes, and whatever else changes something.
        ("INSERT INTO requests (usage_id) VALUES ('x')", 164),
        ("INSERT INTO FUNCTION file('x.csv') SELECT 1", 164),
        ("CREATE TABLE t (a Int8) ENGINE = Memory", 164),
        ("CREATE VIEW v AS SELECT * FROM mesh.requests", 164),
        ("CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(NULL()) LAYOUT(FLAT()) LIFETIME(1)",
         164),
        ("ALTER TABLE mesh.requests DELETE WHERE 1", 164),
        ("DROP VIEW requests", 164),
        ("TRUNCATE TABLE mesh.requests", 164),
        ("BACKUP DATABASE mesh TO File('x')", 164),
        ("SYSTEM RELOAD USERS", 164),
        ("KILL QUERY WHERE 1", 164),
        ("GRANT mesh_engine TO default", 164),
        ("SELECT 1 INTO OUTFILE 'x'", 164),
        # A session that is more than an analyst's.
        ("SET ROLE mesh_engine", 164),
        ("SET readonly = 0", 164),
        ("EXECUTE AS mesh_views SELECT 1", 164),
        ("USE mesh", 164),
        ("SELECT 1; SET ROLE mesh_engine; SELECT count() FROM mesh.requests", 62),
        ("SELECT 1 /* */; SELECT 2 --", 62),
        ("SELECT * FROM requests SETTINGS log_comment = 'acc_2'", 164),
        ("SELECT * FROM (SELECT * FROM requests SETTINGS log_comment = 'acc_2')", 164),
        ("WITH r AS (SELECT * FROM requests SETTINGS readonly = 0) SELECT * FROM r", 164),
        ("SELECT 1 UNION ALL SELECT count() FROM requests SETTINGS max_threads = 9", 164),
        ("SELECT 1 SETTINGS max_execution_time = 100", 164),
        ("SELECT 1 SETTINGS additional_table_filters = {'mesh.requests': '1'}", 164),
        # Other tables.
        ("SELECT * FROM mesh.requests", 497),
        ("SELECT * FROM mesh.analysts", 497),
        ("SELECT * FROM `mesh`.`requests`", 497),
        ("SELECT * FROM `mesh.requests`", 497),
        ("DESCRIBE mesh.requests", 497),
        ("DESCRIBE (SELECT * FROM mesh.requests)", 164),
        ("SHOW CREATE TABLE requests", 164),
        ("SHOW TABLES FROM mesh", 497),
        ("SELECT 1 IN mesh.requests", 497),
        ("SELECT * FROM system.processes", 497),
        ("SELECT * FROM system.users", 497),
        ("SELECT * FROM (SELECT 1) AS t JOIN system.query_log AS q ON 1", 497),
        ("SELECT 1 IN system.processes", 497),
        ("SELECT 1 IN `system.processes`", 497),
        ("EXPLAIN SELECT * FROM requests", 164),
        # Table functions.
        ("SELECT * FROM url('http://127.0.0.1:1/')", 497),
        ("SELECT * FROM file('/etc/passwd')", 497),
        ("SELECT * FROM s3('http://127.0.0.1:1/b/k')", 497),
        ("SELECT * FROM remote('127.0.0.1', 'mesh.requests')", 497),
        ("SELECT * FROM executable('x.sh', 'TSV', 'x String')", 497),
        ("SELECT * FROM Python('settings')", 497),
        ("SELECT * FROM merge('mesh', '.*')", 497),
        ("SELECT * FROM merge('system', 'processes')", 497),
        ("SELECT * FROM view(SELECT * FROM mesh.requests)", 497),
        ("SELECT * FROM loop(mesh.requests)", 497),
        ("SELECT * FROM eval('SELECT 1')", 497),
        ("SELECT * FROM dictionary('d')", 497),
        # Functions that read files or tell of the server.
        ("SELECT file('/etc/passwd')", 497),
        ("SELECT arrayMap(file, ['/etc/passwd'])", 497),
        ("SELECT * APPLY(file) FROM (SELECT '/etc/passwd')", 497),
        ("SELECT * APPLY(x -> file(x)) FROM (SELECT '/etc/passwd')", 497),
        ("SELECT arrayMap(x -> file(x), ['/etc/passwd'])", 497),
        ("WITH (SELECT FILE('/etc/passwd')) AS x SELECT x", 497),
        ("SELECT getServerSetting('max_server_memory_usage')", 497),
        ("SELECT dictGet('d', 'a', 1)", 497),
        ("SELECT joinGet('mesh.requests', 'x', 1)", 497),
        ("SELECT sleep(1)", 497),
        ("SELECT hostName()", 497),
        ("SELECT noSuchFunction(1)", 46),
        # Formats that write or read files.
        ("SELECT 1 FORMAT Template", 73),
        ("SELECT 1 FORMAT CapnProto", 73),
        # What no parser takes.
        ("SELECT " + "(" * 1200, 306),
        ("SELECT '", 62),
        ("", 62),
    ],
)  # fmt: skip
async def test_a_statement_that_is_no_query_of_the_views_is_refused(
    sql: SqlEndpoint, statement: str, code: int
) -> None:
    answer = await asyncio.to_thread(sql.ask, statement)
    assert answer.code == code, answer.text
    assert answer.status >= 400
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert "acc_2" not in answer.text.replace("'acc_2'", "")


async def test_parameters_are_values_and_never_names(sql: SqlEndpoint) -> None:
    async def text(statement: str, **parameters: str) -> str:
        answer = await asyncio.to_thread(sql.ask, statement, parameters=parameters)
        return answer.text.strip()

    counted = "SELECT count() FROM requests WHERE usage_id = {id:String}"
    assert await text(counted, param_id="' OR 1 = 1 --") == "0"
    assert await text(counted, param_id="use_acc_1_7") == "1"
    named = await text("SELECT * FROM {t:Identifier}", param_t="system.processes")
    assert named.startswith("Code: 497.")


async def test_bounds_hold_and_may_only_be_lowered(sql: SqlEndpoint) -> None:
    async def ask(statement: str, **settings: str) -> int:
        return (await asyncio.to_thread(sql.ask, statement, parameters=settings)).code

    assert await ask("SELECT * FROM numbers(5001)") == 396
    assert await ask("SELECT * FROM numbers(5001)", max_result_rows="9000") == 396
    assert await ask("SELECT * FROM numbers(5001)", max_result_rows="0") == 396
    assert await ask("SELECT * FROM numbers(11)", max_result_rows="10") == 396
    assert await ask("SELECT groupArray(number) FROM numbers(1000000000)") == 241
    for name, value in (("log_comment", "acc_2"), ("readonly", "0"), ("allow_ddl", "1")):
        assert await ask("SELECT 1", **{name: value}) == 164
    started = time.monotonic()
    assert await ask("SELECT count() FROM numbers(1000000000000)") == 159
    assert time.monotonic() - started < 30


async def test_the_service_answers_while_an_analyst_keeps_the_engine_busy(sql: SqlEndpoint) -> None:
    slow = asyncio.create_task(
        asyncio.to_thread(sql.ask, "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)")
    )
    rounds = 0
    while not slow.done():
        await sql.channel.call(
            sql.stub.ListAnalysts, analysts_pb2.ListAnalystsRequest(), principal=OWNER
        )
        rounds += 1
        await asyncio.sleep(0.05)
    assert (await slow).code == 159
    # In two seconds; one that had waited for the query would have counted one.
    assert rounds > 3


async def test_tools_find_the_views_and_nothing_else(sql: SqlEndpoint) -> None:
    async def column(statement: str, **query: str) -> list[str]:
        answer = await asyncio.to_thread(sql.ask, statement, parameters=query)
        assert answer.status == 200, answer.text
        return answer.text.split()

    views = ["attempts", "latency_hourly", "ledger_entries", "requests", "spend_daily"]
    assert await column("SHOW TABLES") == views
    assert await column("SELECT name FROM system.databases") == ["analytics"]
    assert await column("SELECT name FROM system.tables ORDER BY name") == views
    tables = "SELECT DISTINCT table FROM system.columns ORDER BY table"
    assert await column(tables) == views
    schema = "SELECT table_name FROM information_schema.tables ORDER BY table_name"
    assert await column(schema, database="analytics") == views
    assert "latency_ms" in await column("DESCRIBE TABLE requests", database="default")
    assert (
        await asyncio.to_thread(sql.ask, "SELECT 1", parameters={"database": "mesh"})
    ).code == 81


async def test_an_answer_has_the_headers_of_clickhouse(sql: SqlEndpoint) -> None:
    answer = await asyncio.to_thread(
        sql.ask, "SELECT 1 AS x FORMAT JSONEachRow", parameters={"query_id": "mine"}
    )
    assert json.loads(answer.text) == {"x": 1}
    assert answer.headers["x-clickhouse-format"] == "JSONEachRow"
    assert answer.headers["x-clickhouse-query-id"] == "mine"
    assert answer.headers["content-type"].startswith("application/json")
    assert json.loads(answer.headers["x-clickhouse-summary"])["read_rows"] == "1"


async def test_only_a_token_that_is_valid_now_lets_in(sql: SqlEndpoint) -> None:
    ask = asyncio.to_thread
    for wrong in ("", "mas_" + "A" * 32, sql.token + "x"):
        answer = await ask(sql.ask, "SELECT 1", token=wrong)
        assert (answer.status, answer.code) == (403, 516)
        assert not wrong or wrong not in answer.text
    analyst_id, token = await sql.create("temporary", OTHER)
    mine = "SELECT groupUniqArray(account_id) FROM requests"
    assert (await ask(sql.ask, mine, token=token)).text.strip() == "['acc_2']"
    with pytest.raises(NotFound):
        await sql.channel.call(
            sql.stub.RevokeAnalyst,
            analysts_pb2.RevokeAnalystRequest(analyst_id=analyst_id),
            principal=OWNER,
        )
    revoked = await sql.channel.call(
        sql.stub.RevokeAnalyst,
        analysts_pb2.RevokeAnalystRequest(analyst_id=analyst_id),
        principal=OTHER,
    )
    assert revoked.revoked_at_ms
    assert (await ask(sql.ask, mine, token=token)).code == 516


async def test_analysts_are_made_by_admins_of_their_account(sql: SqlEndpoint) -> None:
    with pytest.raises(Forbidden):
        await sql.create("x", replace(OWNER, role="developer"))
    with pytest.raises(InvalidArgument, match="name"):
        await sql.create(" ")
    listed = await sql.channel.call(
        sql.stub.ListAnalysts, analysts_pb2.ListAnalystsRequest(), principal=OWNER
    )
    assert [a.name for a in listed.analysts if not a.revoked_at_ms] == ["reports"]
