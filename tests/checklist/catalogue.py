"""Models and templates: how each requirement on them is broken."""

from __future__ import annotations

from tests.checklist.breaks import Break, Item
from tests.checklist.places import AT, EDGE, GATEWAY, LIST, MORE

_SDKS = f"{AT}/test_sdks.py"
_MODELS = f"{EDGE}/model_routes.py"
_VIEW = f"{GATEWAY}/model_view.py"
_TEMPLATES = f"{AT}/test_templates.py"
_RENDERING = "tests/unit/gateway/test_templates.py"
_ACCOUNT = f"{AT}/test_account.py"
_BOTH_LIST = f"{_SDKS}::test_both_sdks_list_models_each_in_its_own_shape"
_FILTERS = f"{LIST}::test_the_filters_of_models"
_CRUD = f"{_TEMPLATES}::test_the_mesh_sdk_makes_reads_changes_and_deletes_a_template"

MODELS = (
    Item(
        "models are a bare list, filtered, found by id; prices are strings, flags are never null",
        (
            Break(
                "the list is in an envelope for everyone",
                _MODELS,
                "if head.openai_sdk else models)",
                "if True else models)",
                (_BOTH_LIST,),
            ),
            Break(
                "?free= is not looked at",
                _VIEW,
                "        if free is not None and price.is_free is not free:\n",
                "        if False:\n",
                (_FILTERS,),
            ),
            Break(
                "?type= is not looked at",
                _VIEW,
                "        if model_type is not None and model.model_type != model_type:\n",
                "        if False:\n",
                (_FILTERS,),
            ),
            Break(
                "?provider= is not looked at",
                _VIEW,
                "        if provider is not None and provider not in",
                "        if False and provider not in",
                (_FILTERS,),
            ),
            Break(
                "/free is an id like any other",
                _MODELS,
                '@router.get("/free", **_LIST)',
                '@router.get("/gratis", **_LIST)',
                (_BOTH_LIST,),
            ),
            Break(
                "/paid is an id like any other",
                _MODELS,
                '@router.get("/paid", **_LIST)',
                '@router.get("/dear", **_LIST)',
                (_BOTH_LIST,),
            ),
            Break(
                "/search does not echo its limit",
                _MODELS,
                '        "limit": wanted.limit,\n',
                '        "limit": len(found),\n',
                (f"{_ACCOUNT}::test_models_are_found_by_words_and_pages",),
            ),
            Break(
                "ids have no slash",
                _MODELS,
                '@router.get("/{model_id:path}", response_model=ModelInfo',
                '@router.get("/{model_id}", response_model=ModelInfo',
                (_BOTH_LIST,),
            ),
            Break(
                "an escaped colon is part of the id",
                _MODELS,
                "    return json_response(_model(reads, settings, model_id))",
                '    return json_response(_model(reads, settings, model_id.replace(":", "%3A")))',
                (f"{_SDKS}::test_a_model_id_with_a_colon_is_found",),
            ),
            Break(
                "prices are numbers",
                _VIEW,
                "_usd(rate.nanousd_per_million) if rate is not None else None",
                "rate.nanousd_per_million / 1e9 if rate is not None else None",
                (_BOTH_LIST,),
            ),
            Break(
                "is_free is null",
                _VIEW,
                '"is_free": price.is_free,',
                '"is_free": price.is_free or None,',
                (_BOTH_LIST,),
            ),
            Break(
                "is_composite is null",
                _VIEW,
                '"is_composite": False,',
                '"is_composite": None,',
                (_BOTH_LIST,),
            ),
            Break(
                "a model that the key may not call is shown",
                _MODELS,
                "    if model is None or price is None or not model.available or not allowed:",
                "    if model is None or price is None or not model.available:",
                (f"{MORE}::test_a_key_sees_the_models_that_it_may_call_alone",),
            ),
            Break(
                "the list shows what the key may not call",
                _VIEW,
                "or not model.available or not settings.allows(model.model_id):\n"
                "            continue",
                "or not model.available:\n            continue",
                (f"{MORE}::test_a_key_sees_the_models_that_it_may_call_alone",),
            ),
        ),
    ),
    Item(
        "a bad key may not list models",
        (
            Break(
                "whoever asks may see them",
                f"{EDGE}/callers.py",
                "    return caller_of(request).settings",
                "    return KeySettings()",
                (f"{LIST}::test_a_models_call_tells_whether_a_key_works",),
            ),
        ),
    ),
)
TEMPLATES = (
    Item(
        "templates are kept with a data-plane key: a bare list, 204, 404 for any id that is none",
        (
            Break(
                "a data-plane key may not",
                f"{EDGE}/template_routes.py",
                "Caller = Annotated[Principal, Depends(account_caller_of)]",
                "from services.gateway.entrypoints.callers import person_of\n"
                "Caller = Annotated[Principal, Depends(person_of)]",
                (_CRUD,),
            ),
            Break(
                "the list is in an envelope",
                f"{EDGE}/template_routes.py",
                "    return json_response([_template(one) for one in found])",
                '    return json_response({"data": [_template(one) for one in found]})',
                (_CRUD,),
            ),
            Break(
                "is_global is missing",
                f"{EDGE}/template_routes.py",
                '        "is_global": not stored.account_id,\n',
                "",
                (_CRUD,),
            ),
            Break(
                "one's own has no owner",
                f"{EDGE}/template_routes.py",
                '"owner": stored.owner_user_id or None,',
                '"owner": None,',
                (_CRUD,),
            ),
            Break(
                "a malformed id is a fault of the request",
                f"{EDGE}/template_routes.py",
                "    return json_response(_template(await reads.templates.get(caller, ",
                '    if template_id.startswith("tmpl_"):\n'
                '        raise InvalidArgument.of("path.template_id", "is no UUID")\n'
                "    return json_response(_template(await reads.templates.get(caller, ",
                (_CRUD,),
            ),
            Break(
                "a change wipes what it does not name",
                f"{EDGE}/template_routes.py",
                '    names = cast("set[store.Field]", set(changed))',
                '    names = cast("set[store.Field]", {"name", "system", "model", "params"})',
                (_CRUD,),
            ),
        ),
    ),
    Item(
        "at inference: by name (own before global) or UUID, every slot filled or 422",
        (
            Break(
                "a global name comes before one's own",
                f"{GATEWAY}/templates.py",
                'directory.by_name(account_id, named) or directory.by_name(AccountId(""), named)',
                'directory.by_name(AccountId(""), named) or directory.by_name(account_id, named)',
                (f"{_RENDERING}::test_a_name_finds_the_own_template_first_then_a_global_one",),
            ),
            Break(
                "a global one is not found",
                f"{GATEWAY}/templates.py",
                'directory.by_name(account_id, named) or directory.by_name(AccountId(""), named)',
                "directory.by_name(account_id, named)",
                (f"{_TEMPLATES}::test_a_missing_variable_is_422_with_its_name_also_on_a_stream",),
            ),
            Break(
                "a UUID is a name",
                f"{GATEWAY}/templates.py",
                "    if _UUID.fullmatch(named):",
                "    if False:",
                (
                    f"{_RENDERING}::test_another_accounts_template_is_found_by_its_id_alone",
                    f"{_TEMPLATES}::test_the_keys_model_comes_before_the_templates",
                ),
            ),
            Break(
                "a missing variable is empty",
                f"{GATEWAY}/templates.py",
                "        missing = sorted(self.slots - variables.keys())\n",
                "        missing: list[str] = []\n"
                '        variables = {**dict.fromkeys(self.slots, ""), **variables}\n',
                (f"{_TEMPLATES}::test_a_missing_variable_is_422_with_its_name_also_on_a_stream",),
            ),
            Break(
                "blanks inside the braces count",
                f"{GATEWAY}/templates.py",
                r'r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}"',
                r'r"\{\{([A-Za-z0-9_]+)\}\}"',
                (f"{_RENDERING}::test_slots_are_filled_and_everything_else_is_left_alone",),
            ),
            Break(
                "the caller's messages come first",
                f"{GATEWAY}/templates.py",
                "[*rendered.messages, *",
                "[*reversed(rendered.messages), *",
                (
                    f"{_TEMPLATES}::"
                    "test_a_chat_by_template_sends_the_rendered_messages_and_no_field_of_ours",
                ),
            ),
        ),
    ),
)
