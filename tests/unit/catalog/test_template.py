"""Templates: given events, when command, then events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.catalog.domain.template import (
    GLOBAL,
    Actor,
    CreateTemplate,
    DeleteTemplate,
    RestoreTemplate,
    TemplateChanged,
    TemplateCreated,
    TemplateDeleted,
    TemplateEvent,
    UpdateTemplate,
    decide,
    folded,
    history,
)
from services.catalog.domain.template_content import (
    TEXT_BYTES_MAX,
    TemplateContent,
    checked_content,
)
from services.common.errors import Forbidden, InvalidArgument, NotFound
from services.common.ids import AccountId, TemplateId, UserId

ID = TemplateId("5f0f4c0e-6a0c-4d5c-9a0e-0b8a3f7b1c11")
ACCOUNT, ANNA, BEN = AccountId("acc_1"), UserId("usr_anna"), UserId("usr_ben")
CONTENT = TemplateContent("support", system="For {{ product }}.")
OWNER = Actor("key", ACCOUNT, ANNA)
MEMBER = Actor("user", ACCOUNT, BEN)
ADMIN = Actor("user", ACCOUNT, BEN, administers=True)
STRANGER = Actor("user", AccountId("acc_2"), ANNA, administers=True)
OPERATOR = Actor("operator", GLOBAL, UserId("operator"))

MADE = TemplateCreated(ID, ACCOUNT, ANNA, CONTENT, 1)
OTHER = replace(CONTENT, system="Be brief.")
CHANGED = TemplateChanged(ID, ACCOUNT, OTHER, BEN, 0, 2)
EVERYONES = TemplateCreated(ID, GLOBAL, UserId("operator"), CONTENT, 1)


def update(actor: Actor, *mask: str, **fields: object) -> UpdateTemplate:
    # The fields are the dataclass's; a wrong one raises.
    content = replace(TemplateContent(""), **fields)  # type: ignore[arg-type]  # see above
    return UpdateTemplate(ID, content, mask, actor, 2)


def test_a_template_belongs_to_the_account_and_the_user_who_made_it() -> None:
    assert decide(None, CreateTemplate(ID, CONTENT, OWNER, 1)) == [MADE]


def test_the_operator_without_an_account_makes_a_global_one() -> None:
    assert decide(None, CreateTemplate(ID, CONTENT, OPERATOR, 1)) == [EVERYONES]


def test_a_change_is_a_new_version_and_leaves_what_the_mask_does_not_name() -> None:
    state = folded([MADE])
    (event,) = decide(state, update(OWNER, "system", system="Be brief.", model="ignored"))
    assert event == TemplateChanged(ID, ACCOUNT, OTHER, ANNA, 0, 2)
    after = folded([MADE, event])
    assert after is not None
    assert (after.version, after.updated_at_ms, after.created_at_ms) == (2, 2, 1)


def test_a_change_that_changes_nothing_is_no_event() -> None:
    assert decide(folded([MADE]), update(OWNER, "system", system=CONTENT.system)) == []


def test_an_unknown_field_of_the_mask_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="update_mask"):
        decide(folded([MADE]), update(OWNER, "owner_user_id"))


@pytest.mark.parametrize(
    ("made", "actor", "refusal"),
    [
        (MADE, MEMBER, Forbidden),
        (MADE, STRANGER, NotFound),
        (MADE, OPERATOR, NotFound),
        (EVERYONES, OWNER, Forbidden),
        (EVERYONES, ADMIN, Forbidden),
    ],
    ids=["another-member", "another-account", "operator-for-all", "a-key", "an-admin"],
)
def test_who_may_not_change_a_template_changes_and_deletes_nothing(
    made: TemplateEvent, actor: Actor, refusal: type[Exception]
) -> None:
    state = folded([made])
    with pytest.raises(refusal):
        decide(state, update(actor, "system", system="x"))
    with pytest.raises(refusal):
        decide(state, DeleteTemplate(ID, actor, 2))
    with pytest.raises(refusal):
        decide(state, RestoreTemplate(ID, 1, CONTENT, actor, 2))


@pytest.mark.parametrize(
    ("made", "actor"),
    [(MADE, OWNER), (MADE, ADMIN), (MADE, replace(OPERATOR, account_id=ACCOUNT)),
     (EVERYONES, OPERATOR)],
    ids=["its-owner", "an-admin", "the-operator-for-the-account", "the-operator-for-all"],
)  # fmt: skip
def test_who_may_change_a_template_may_delete_it(made: TemplateEvent, actor: Actor) -> None:
    (deleted,) = decide(folded([made]), DeleteTemplate(ID, actor, 2))
    after = folded([made, deleted])
    assert after is not None
    assert after.deleted
    with pytest.raises(NotFound):
        decide(after, DeleteTemplate(ID, actor, 3))


def test_history_tells_every_version_and_a_restored_one_says_from_where() -> None:
    state = folded([MADE, CHANGED])
    (restored,) = decide(state, RestoreTemplate(ID, 1, CONTENT, OWNER, 3))
    events: Sequence[TemplateEvent] = [
        MADE,
        CHANGED,
        restored,
        TemplateDeleted(ID, ACCOUNT, BEN, 4),
    ]
    versions = history(events)
    assert [one.version for one in versions] == [1, 2, 3]
    assert [one.content for one in versions] == [CONTENT, OTHER, CONTENT]
    assert [one.changed_by for one in versions] == [ANNA, BEN, ANNA]
    assert [one.restored_from for one in versions] == [0, 0, 1]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("name", " ", "name"),
        ("name", "x" * 129, "name"),
        ("name", "a\nb", "name"),
        ("name", "5F0F4C0E-6A0C-4D5C-9A0E-0B8A3F7B1C11", "name"),
        ("description", "x" * 4_001, "description"),
        ("description", "a\x00", "description"),
        ("system", "a\x00", "system"),
        ("system", "ü" * (TEXT_BYTES_MAX // 2 + 1), "system"),
        ("messages_json", "[", "messages"),
        ("messages_json", "{}", "messages"),
        ("messages_json", "[1]", "messages.0"),
        ("messages_json", '[{"role":"robot","content":"x"}]', "messages.0.role"),
        ("messages_json", '[{"role":"user","content":7}]', "messages.0.content"),
        ("messages_json", "[" * 100_000, "messages"),
        ("messages_json", '[{"role":"user","content":"\\ud800"}]', "messages"),
        ("params_json", "[]", "params"),
        ("params_json", '{"temperature":NaN}', "params"),
        ("params_json", '{"a":' * 40 + "1" + "}" * 40, "params"),
        ("params_json", '{"a":"' + "x" * 17_000 + '"}', "params"),
        ("variables", ("a b",), "variables"),
        ("variables", tuple("v" for _ in range(257)), "variables"),
        ("model", "m" * 257, "model"),
    ],
)
def test_content_outside_its_bounds_is_refused_by_name(
    field: str, value: object, named: str
) -> None:
    wrong = replace(CONTENT, **{field: value})  # type: ignore[arg-type]  # fields by name
    with pytest.raises(InvalidArgument) as refused:
        checked_content(wrong)
    assert refused.value.message.startswith(f"{named}: ")


def test_json_is_kept_in_one_form_and_empty_json_is_absent() -> None:
    given = replace(
        CONTENT,
        name=" support ",
        messages_json='[ {"role": "user", "content": "\\u00fc {{a}}"} ]',
        params_json=" {} ",
    )
    kept = checked_content(given)
    assert kept.name == "support"
    assert kept.messages_json == '[{"role":"user","content":"ü {{a}}"}]'
    assert kept.params_json == ""
    assert checked_content(kept) == kept
