"""What was spent, and its sums."""

from __future__ import annotations

from services.common.pb.mesh.billing.v1 import payments_pb2
from services.dashboard.api.spend import SpendPartOut, spend_out


def spent(day: str, model_id: str, key_id: str, nanousd: int) -> payments_pb2.SpendRow:
    return payments_pb2.SpendRow(
        day=day, provider_id="p", model_id=model_id, key_id=key_id, spent_nanousd=nanousd,
        requests=2,
    )  # fmt: skip


def test_sums_are_exact_days_in_order_and_others_dearest_first() -> None:
    rows = [
        spent("2026-01-02", "a", "k1", 1),
        spent("2026-01-01", "b", "k1", 2_000_000_001),
        spent("2026-01-02", "b", "k2", 9_007_199_254_740_993),
        # A correction that gave something back.
        spent("2026-01-03", "c", "k2", -5),
    ]
    answer = payments_pb2.GetSpendHistoryResponse(rows=rows, spent_nanousd=9_007_201_254_740_990)
    found = spend_out(answer)
    assert [(part.value, part.spent_usd) for part in found.days] == [
        ("2026-01-01", "2.000000001"),
        ("2026-01-02", "9007199.254740994"),
        ("2026-01-03", "-0.000000005"),
    ]
    assert found.models == [
        SpendPartOut(value="b", spent_usd="9007201.254740994", requests=4),
        SpendPartOut(value="a", spent_usd="0.000000001", requests=2),
        SpendPartOut(value="c", spent_usd="-0.000000005", requests=2),
    ]
    assert [part.value for part in found.keys] == ["k2", "k1"]
    assert found.providers[0].spent_usd == found.spent_usd
