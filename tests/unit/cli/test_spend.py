"""`mesh billing spend`: the journal and the log side by side."""

from __future__ import annotations

from services.cli.billing import spend_rows
from services.common.pb.mesh.billing.v1 import payments_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2


def test_rows_are_equal_only_where_sum_and_count_are_corrections_apart() -> None:
    journal = payments_pb2.GetSpendHistoryResponse(
        rows=[
            payments_pb2.SpendRow(day=day, key_id="key_1", spent_nanousd=spent, requests=2,
                                  corrected_nanousd=corrected)
            for day, spent, corrected in (("d1", 10, 0), ("d2", 7, -3), ("d3", 10, 0))
        ]
    )  # fmt: skip
    log = usage_pb2.SpendByDayResponse(
        rows=[
            usage_pb2.SpendDay(day=day, key_id="key_1", cost_nanousd=cost, requests=count)
            for day, cost, count in (("d1", 10, 2), ("d2", 10, 2), ("d3", 10, 1), ("d4", 1, 1))
        ]
    )
    rows = spend_rows(journal, log)
    assert {row["day"]: row["equal"] for row in rows} == {
        "d1": True, "d2": True, "d3": False, "d4": False,
    }  # fmt: skip
