"""Templates at inference: slots, look-up, precedence, where the messages go."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.clock import FakeClock
from services.common.errors import AppError, InvalidArgument, NotFound
from services.common.ids import AccountId, KeyId, TemplateId, UserId
from services.common.security.tokens import Principal
from services.gateway.adapters.templates_memory import MemoryTemplates
from services.gateway.chat_request import ChatRequest
from services.gateway.errors import UnprocessableEntity
from services.gateway.ports import KeyPrincipal, KeySettings
from services.gateway.template_store import TemplateFields
from services.gateway.templated_chat import request_over_template
from services.gateway.templates import (
    RENDERED_CHARS_MAX,
    SlottedText,
    compile_template,
    find_template,
    with_template,
)

KEY = KeyPrincipal(AccountId("acc_1"), KeyId("key_1"), UserId("usr_1"), 1)
HELLO = [{"role": "user", "content": "Hi {{ name }}"}]
ACCOUNT = Principal("key", "acc_1", "usr_1", "key_1")
OTHERS = Principal("key", "acc_2", "usr_2", "key_2")
GLOBAL = Principal("operator", "")


def chat_request_over_template(
    body: dict[str, Any], key: KeyPrincipal, directory: MemoryTemplates
) -> ChatRequest:
    return request_over_template("chat", body, key, directory=directory)


def compiled(system: str = "", messages: list[dict[str, Any]] | None = None) -> Any:
    return compile_template(
        template_id=TemplateId("t"),
        account_id=AccountId("acc_1"),
        name="support",
        system=system,
        messages=messages,
    )


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("{{ name }}", "Ann"),
        ("{{name}}{{  name\t}}", "AnnAnn"),
        ("a {{ name }} b {{ other_1 }} c", "a Ann b {{ name }} c"),
        (
            "{ {name} } {{ na-me }} {{}} {{ }} {{na me}}",
            "{ {name} } {{ na-me }} {{}} {{ }} {{na me}}",
        ),
        ("{{{name}}}", "{Ann}"),
        ("{{ nämé }}", "{{ nämé }}"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_slots_are_filled_and_everything_else_is_left_alone(source: str, rendered: str) -> None:
    # What fills a slot is not looked at again.
    variables = {"name": "Ann", "other_1": "{{ name }}", "extra": "ignored"}
    text = SlottedText(source)
    assert text.render(variables) == rendered
    assert text.length(variables) == len(rendered)


@given(st.text(alphabet="{}ab_ \n", max_size=60))
def test_rendering_agrees_with_replacing_one_by_one(source: str) -> None:
    variables = {"a": "<1>", "b": "<2>", "_": "<3>", "ab": "<4>"}
    text = SlottedText(source)
    values = dict.fromkeys(text.slots, "?") | variables
    expected = re.sub(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}", lambda found: values[found[1]], source)
    assert text.render(values) == expected


def test_every_missing_variable_is_named_and_an_empty_one_is_none_missing() -> None:
    template = compiled("{{ b }} {{ a }} {{ c }}")
    with pytest.raises(UnprocessableEntity) as refused:
        template.render({"c": ""})
    assert (refused.value.http_status, refused.value.code) == (422, "unprocessable_entity")
    assert [fault.loc for fault in refused.value.details] == [
        ("body", "variables", "a"),
        ("body", "variables", "b"),
    ]
    assert "a, b" in refused.value.message


def test_texts_of_parts_are_rendered_and_other_parts_and_fields_kept() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:{{ x }}"}}
    message = {
        "role": "user",
        "name": "{{ x }}",
        "content": [{"type": "text", "text": "see {{ x }}"}, image, "odd"],
    }
    template = compiled(messages=[message, {"role": "assistant", "content": None}])
    assert template.slots == {"x"}
    first, second = template.render({"x": "1"})
    assert first["content"] == [{"type": "text", "text": "see 1"}, image, "odd"]
    assert first["name"] == "{{ x }}"
    assert second == {"role": "assistant", "content": None}


def test_a_template_cannot_blow_a_request_up() -> None:
    template = compiled("{{ x }}" * 64)
    with pytest.raises(InvalidArgument, match="variables"):
        template.render({"x": "y" * (RENDERED_CHARS_MAX // 64 + 1)})
    assert len(template.render({"x": "y" * (RENDERED_CHARS_MAX // 64)})) == 1


@pytest.fixture
def directory() -> MemoryTemplates:
    return MemoryTemplates(FakeClock())


async def put(directory: MemoryTemplates, owner: Principal = ACCOUNT, **fields: Any) -> str:
    whole = TemplateFields(**{"name": "support", **fields})
    return (await directory.create(owner, whole)).template_id


async def test_a_name_finds_the_own_template_first_then_a_global_one(
    directory: MemoryTemplates,
) -> None:
    everyones = await put(directory, GLOBAL)
    assert find_template(directory, KEY.account_id, "support").template_id == everyones
    own = await put(directory)
    assert find_template(directory, KEY.account_id, "support").template_id == own
    with pytest.raises(NotFound):
        find_template(directory, KEY.account_id, "nothing")


async def test_another_accounts_template_is_found_by_its_id_alone(
    directory: MemoryTemplates,
) -> None:
    theirs = await put(directory, OTHERS)
    assert find_template(directory, KEY.account_id, theirs.upper()).template_id == theirs
    with pytest.raises(NotFound):
        find_template(directory, KEY.account_id, "support")
    with pytest.raises(NotFound):
        find_template(directory, KEY.account_id, "5f0f4c0e-6a0c-4d5c-9a0e-0b8a3f7b1c11")


async def test_the_templates_messages_come_before_the_callers_which_stay_as_they_are(
    directory: MemoryTemplates,
) -> None:
    await put(directory, system="For {{ name }}.", messages=[{"role": "user", "content": "First"}])
    caller = [{"role": "system", "content": "mine"}, *HELLO]
    body, before = with_template(
        {"messages": caller, "template": "support", "variables": {"name": "Ann"}}, KEY, directory
    )
    assert before == 2
    assert body["messages"] == [
        {"role": "system", "content": "For Ann."},
        {"role": "user", "content": "First"},
        *caller,
    ]


# What the template, the key and the request say, and what is then asked for.
PRECEDENCE: list[tuple[dict[str, Any], dict[str, Any], tuple[str, float, int]]] = [
    ({}, {}, ("from/template", 0.1, 100)),
    ({}, {"default_model": "from/key"}, ("from/key", 0.1, 100)),
    ({}, {"default_params": {"temperature": 0.2}}, ("from/template", 0.2, 100)),
    ({}, {"default_params": {"temperature": None}}, ("from/template", 0.1, 100)),
    ({}, {"default_params": {"max_completion_tokens": 7}}, ("from/template", 0.1, 7)),
    (
        {"model": "from/request", "temperature": 0.3, "max_completion_tokens": 5},
        {"default_model": "from/key", "default_params": {"temperature": 0.2}},
        ("from/request", 0.3, 5),
    ),
    ({"models": ["from/list"]}, {}, ("from/list", 0.1, 100)),
]


@pytest.mark.parametrize(("request_says", "key_says", "expected"), PRECEDENCE)
async def test_the_request_comes_before_the_key_and_the_key_before_the_template(
    directory: MemoryTemplates,
    request_says: dict[str, Any],
    key_says: dict[str, Any],
    expected: tuple[str, float, int],
) -> None:
    params = {"temperature": 0.1, "max_tokens": 100, "stream": True, "messages": []}
    await put(directory, model="from/template", params=params)
    key = replace(KEY, settings=KeySettings(**key_says))
    body = {"messages": HELLO, "template": "support", **request_says}
    request = chat_request_over_template(body, key, directory)
    asked = (request.models[0], request.upstream["temperature"], request.output_tokens_max)
    assert asked == expected
    # A template decides neither over the form of the answer nor over what was said.
    assert not request.stream
    assert request.upstream["messages"] == HELLO
    assert "template" not in request.upstream


async def test_a_key_may_name_the_template_and_the_request_another(
    directory: MemoryTemplates,
) -> None:
    await put(directory, model="a/b")
    await put(directory, name="other", model="c/d")
    key = replace(KEY, settings=KeySettings(default_params={"template": "support"}))
    assert chat_request_over_template({"messages": HELLO}, key, directory).models == ("a/b",)
    asked = {"messages": HELLO, "template": "other"}
    assert chat_request_over_template(asked, key, directory).models == ("c/d",)


async def test_a_template_without_a_model_supplies_none(directory: MemoryTemplates) -> None:
    await put(directory, system="s")
    with pytest.raises(InvalidArgument, match="model: Field required"):
        chat_request_over_template({"messages": HELLO, "template": "support"}, KEY, directory)


async def test_faults_are_placed_where_the_caller_or_the_template_made_them(
    directory: MemoryTemplates,
) -> None:
    await put(directory, model="a/b", system="s", messages=[{"role": "tool", "content": "x"}])
    wrong = {"messages": [*HELLO, {"role": "user", "content": 7}], "template": "support"}
    with pytest.raises(InvalidArgument) as refused:
        chat_request_over_template(wrong, KEY, directory)
    assert [fault.loc for fault in refused.value.details] == [
        ("body", "template", "messages", 1, "tool_call_id"),
        ("body", "messages", 1, "content"),
    ]
    assert refused.value.message.startswith("template.messages.1.tool_call_id: ")


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({"template": 7}, InvalidArgument),
        ({"template": "x" * 257}, InvalidArgument),
        ({"template": "support", "variables": {"a": 1}}, InvalidArgument),
        ({"template": "support", "variables": ["a"]}, InvalidArgument),
        ({"template": "none"}, NotFound),
        ({"template": "support", "messages": "x"}, InvalidArgument),
    ],
)
async def test_what_is_malformed_is_refused(
    directory: MemoryTemplates, more: dict[str, Any], refusal: type[AppError]
) -> None:
    await put(directory, model="a/b")
    with pytest.raises(refusal):
        chat_request_over_template({"messages": HELLO, **more}, KEY, directory)


async def test_an_empty_template_name_is_no_template(directory: MemoryTemplates) -> None:
    body = {"messages": HELLO, "template": "", "model": "a/b"}
    assert chat_request_over_template(body, KEY, directory).models == ("a/b",)
