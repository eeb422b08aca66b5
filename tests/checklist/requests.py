"""Requests of conversations: how each requirement on them is broken."""

from __future__ import annotations

from tests.checklist.breaks import Break, Item
from tests.checklist.places import AT, EDGE, GATEWAY, LIST, WIRE

_REQUEST = f"{GATEWAY}/chat_request.py"
_EVERY_FIELD = f"{LIST}::test_every_field_is_accepted_and_only_the_providers_go_upstream"
_AUTO = f"{AT}/test_auto.py"
_OWN_NAMES = (
    "models", "template", "variables", "session_id", "end_user_id", "tags", "transforms",
    "modality", "image", "async_mode", "cache", "service_tier", "weight_profile", "reasoning",
    "timeout",
)  # fmt: skip


def _let_through(name: str) -> Break:
    tests = {
        "template": (
            f"{AT}/test_templates.py::"
            "test_a_chat_by_template_sends_the_rendered_messages_and_no_field_of_ours"
        ),
    }
    return Break(
        f"{name} goes upstream",
        _REQUEST,
        "    upstream = {name: body[name] for name in UPSTREAM_FIELDS if name in body}\n",
        f"    sent = [*UPSTREAM_FIELDS, {name!r}]\n"
        "    upstream = {name: body[name] for name in sent if name in body}\n",
        (tests.get(name, _EVERY_FIELD),),
    )


REQUESTS = (
    Item(
        "every field is accepted within its bounds, null is absent, ours do not go upstream",
        (
            *(_let_through(name) for name in _OWN_NAMES),
            Break(
                "a provider's field is left out",
                _REQUEST,
                '    "logit_bias": mapping,\n}',
                "}",
                (f"{LIST}::test_the_full_set_of_fields_covers_every_field_that_is_accepted",),
            ),
            Break(
                "a field of a request does not reach the provider",
                _REQUEST,
                '    upstream["messages"] = clean_messages(body["messages"])',
                '    upstream["messages"] = clean_messages(body["messages"])\n'
                '    upstream.pop("seed", None)',
                (_EVERY_FIELD,),
            ),
            Break(
                "null is a value",
                _REQUEST,
                "    return {name: value for name, value in body.items() if value is not None}",
                "    return dict(body)",
                (f"{LIST}::test_every_field_as_null_is_every_field_absent",),
            ),
            Break(
                "a bound is not kept",
                _REQUEST,
                '"temperature": number(0, 2),\n    "top_p"',
                '"temperature": number(0, 20),\n    "top_p"',
                (f"{WIRE}::test_a_field_out_of_bounds_is_named",),
            ),
            Break(
                "any reasoning effort is taken",
                _REQUEST,
                '    "reasoning_effort": _EFFORT,',
                '    "reasoning_effort": text(64),',
                (f"{WIRE}::test_a_field_out_of_bounds_is_named",),
            ),
            Break(
                "parts of a message are changed on their way",
                f"{GATEWAY}/chat_messages.py",
                "def clean_messages(",
                "def clean_messages(messages):\n"
                '    return [{**one, "content": str(one.get("content"))} for one in messages]\n\n\n'
                "def _unused(",
                (f"{LIST}::test_parts_of_messages_go_upstream_as_they_came",),
            ),
            Break(
                "session, end user and tags are not logged",
                f"{GATEWAY}/usage_entry.py",
                "event.session_id = self.request.session_id",
                'event.session_id = ""',
                (_EVERY_FIELD,),
            ),
        ),
    ),
    Item(
        "the model is the request's, else the key's, else the template's; `models` in its order",
        (
            Break(
                "the key's model is not looked at",
                _REQUEST,
                "    return tuple(listed_models) or ((default_model,) if default_model else ())",
                "    return tuple(listed_models)",
                (f"{LIST}::test_the_model_may_come_from_the_key",),
            ),
            Break(
                "no model at all is not refused as such",
                _REQUEST,
                'if not (default_model or body.get("model") or body.get("models")):',
                "if False:",
                (f"{LIST}::test_the_model_may_come_from_the_key",),
            ),
            Break(
                "the template comes before the key",
                f"{GATEWAY}/templates.py",
                "settings.default_model",
                '""',
                (f"{AT}/test_templates.py::test_the_keys_model_comes_before_the_templates",),
            ),
            Break(
                "the list of models is not tried",
                f"{GATEWAY}/routing.py",
                "        for name in names:\n",
                "        for name in names[:1]:\n",
                (f"{LIST}::test_a_list_of_models_is_tried_in_its_order",),
            ),
        ),
    ),
    Item(
        "`auto` chooses a model, and says which and why",
        (
            Break(
                "auto is a model's name like any other",
                f"{GATEWAY}/auto_route.py",
                "    return name.strip().lower() == AUTO",
                "    return False",
                (f"{_AUTO}::test_an_auto_answer_says_which_model_it_is_of",),
            ),
            Break(
                "only lower case is auto",
                f"{GATEWAY}/auto_route.py",
                "    return name.strip().lower() == AUTO",
                "    return name == AUTO",
                (f"{_AUTO}::test_an_auto_stream_says_it_in_its_head",),
            ),
            Break(
                "a whole answer does not say that it was routed",
                f"{GATEWAY}/auto_step.py",
                '        "x_auto_routed": True,\n',
                "",
                (f"{_AUTO}::test_an_auto_answer_says_which_model_it_is_of",),
            ),
            Break(
                "a whole answer does not say which model it is of",
                f"{GATEWAY}/auto_step.py",
                '        "x_resolved_model_id": served,\n',
                "",
                (f"{_AUTO}::test_an_auto_answer_says_which_model_it_is_of",),
            ),
            Break(
                "a stream's head does not say that it was routed",
                f"{GATEWAY}/auto_step.py",
                '        (b"x-auto-routed", b"true"),\n',
                "",
                (f"{_AUTO}::test_an_auto_stream_says_it_in_its_head",),
            ),
            Break(
                "a stream's head does not say which model it is of",
                f"{GATEWAY}/auto_step.py",
                '        (b"x-resolved-model-id", served.encode()),\n',
                "",
                (f"{_AUTO}::test_an_auto_stream_says_it_in_its_head",),
            ),
            Break(
                "the reason of a fallback is not told",
                f"{GATEWAY}/auto_step.py",
                '        shown["x_auto_routed_fallback_reason"] = chosen.fallback_reason\n',
                "",
                (f"{_AUTO}::test_where_nothing_can_do_it_the_fallback_is_told",),
            ),
            Break(
                "the weights in the header are not looked at",
                f"{EDGE}/chat_lane.py",
                "            weight_profile=head.weight_profile,\n",
                "",
                (f"{_AUTO}::test_an_auto_stream_says_it_in_its_head",),
            ),
        ),
    ),
)
