"""What a worker knows of templates, message by message."""

from __future__ import annotations

import pytest

from services.common.events import UndecodableEvent, record_of
from services.common.ids import AccountId
from services.common.pb.mesh.events.v1 import templates_pb2
from services.gateway.state.templates import TemplateTable

ACCOUNT = AccountId("acc_1")


def message(template_id: str = "one", **content: str) -> bytes:
    state = templates_pb2.TemplateState(
        template_id=template_id,
        account_id=ACCOUNT,
        content=templates_pb2.TemplateContent(**{"name": "support", **content}),
        version=1,
    )
    return record_of(state, account_id=ACCOUNT, occurred_at_ms=1).to_bytes()


def test_a_template_is_found_by_id_and_by_name_until_it_is_deleted() -> None:
    table = TemplateTable()
    table.apply("one", message(system="a"))
    assert table.by_id("one") is table.by_name(ACCOUNT, "support")
    assert table.by_name(AccountId(""), "support") is None
    table.apply("one", None)
    table.apply("one", None)
    assert table.by_id("one") is None
    assert table.by_name(ACCOUNT, "support") is None


def test_the_newest_version_is_rendered_and_a_former_name_finds_nothing() -> None:
    table = TemplateTable()
    table.apply("one", message(system="a"))
    assert table.by_id("one") is not None
    table.apply("one", message(name="renamed", system="b"))
    found = table.by_name(ACCOUNT, "renamed")
    assert found is not None
    assert found.render({}) == [{"role": "system", "content": "b"}]
    assert table.by_name(ACCOUNT, "support") is None


def test_a_name_that_went_to_another_template_stays_with_it() -> None:
    table = TemplateTable()
    table.apply("one", message())
    # The messages of two ids may come in either order.
    table.apply("two", message("two"))
    table.apply("one", message(name="renamed"))
    found = table.by_name(ACCOUNT, "support")
    assert found is not None
    assert found.template_id == "two"


@pytest.mark.parametrize(
    "bad",
    [
        message("two"),
        message(messages_json="["),
        message(messages_json="[1]"),
        message(params_json="[]"),
        b"\xff",
    ],
)
def test_a_message_that_cannot_be_taken_leaves_what_was_known(bad: bytes) -> None:
    table = TemplateTable()
    table.apply("one", message(system="a"))
    with pytest.raises(UndecodableEvent):
        table.apply("one", bad)
    found = table.by_id("one")
    assert found is not None
    assert found.render({}) == [{"role": "system", "content": "a"}]


def test_only_so_many_templates_are_kept_compiled_and_all_are_found() -> None:
    table = TemplateTable(compiled_max=2)
    for number in range(5):
        table.apply(str(number), message(str(number), name=str(number), system=str(number)))
    for number in (0, 1, 2, 3, 4, 0):
        found = table.by_id(str(number))
        assert found is not None
        assert found.render({})[0]["content"] == str(number)
    assert len(table._compiled) == 2
    assert len(table) == 5
