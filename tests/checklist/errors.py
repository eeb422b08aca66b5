"""Errors, their envelope and their codes: how each requirement on them is broken."""

from __future__ import annotations

from tests.checklist.breaks import Break, Item
from tests.checklist.places import AT, EDGE, FAULTS, GATEWAY, LIST, MORE, WIRE

COMMON_ERRORS = "services/common/errors.py"
_NO_KEY = f"{WIRE}::test_without_a_usable_key_there_is_a_401_with_an_envelope"
_OWN_ERRORS = f"{WIRE}::test_the_frameworks_own_errors_have_the_envelope_too"
_RESENT = f"{LIST}::test_what_clients_send_again_is_never_billed"


def _code(what: str, old: str, new: str, *tests: str) -> Break:
    return Break(what, COMMON_ERRORS, old, new, tests)


_CODES = (
    _code(
        "401 has another code",
        '"unauthorized", 401',
        '"invalid_api_key", 401',
        _NO_KEY,
    ),
    _code(
        "403 has another code",
        '"forbidden", 403',
        '"suspended", 403',
        f"{WIRE}::test_an_expired_key_is_unknown_and_a_suspended_one_forbidden",
    ),
    _code(
        "402 is a 403",
        '"spend_limit_exceeded", 402',
        '"spend_limit_exceeded", 403',
        f"{AT}/test_money.py::test_an_empty_wallet_is_told_from_one_that_is_held",
        f"{AT}/test_money.py::test_a_spend_cap_is_named_as_the_limit",
    ),
    _code(
        "what is not there is a 410",
        '"not_found", 404',
        '"not_found", 410',
        f"{AT}/test_templates.py::test_the_mesh_sdk_makes_reads_changes_and_deletes_a_template",
    ),
    _code(
        "an unknown model is merely not found",
        'code = "model_not_found"',
        'code = "not_found"',
        f"{AT}/test_sdks.py::test_a_model_id_with_a_colon_is_found",
    ),
    _code(
        "a fault of a field is a 400",
        '"validation_error", 422',
        '"validation_error", 400',
        f"{WIRE}::test_a_field_out_of_bounds_is_named",
    ),
    _code(
        "a limit is a 503",
        '        "rate_limit_exceeded",\n        429,',
        '        "rate_limit_exceeded",\n        503,',
        f"{LIST}::test_a_rate_limit_says_when_to_come_again_in_head_and_body",
    ),
    _code(
        "a fault of ours has no code of its own",
        'code: ClassVar[str] = "internal_error"',
        'code: ClassVar[str] = "error"',
        f"{MORE}::test_a_fault_of_ours_is_a_500_in_the_envelope",
    ),
    _code(
        "a provider's failure is ours",
        '"upstream_error", 502',
        '"internal_error", 500',
        f"{FAULTS}::test_a_failure_before_the_first_token_is_an_unbilled_http_error",
    ),
    _code(
        "a provider that is away is any failure",
        '"provider_not_available", 503',
        '"upstream_error", 502',
        f"{FAULTS}::test_a_provider_that_cannot_be_reached_is_not_available",
    ),
    _code(
        "a time-out is any failure",
        '"gateway_timeout", 504',
        '"upstream_error", 502',
        f"{FAULTS}::test_a_provider_that_never_begins_times_out_unbilled",
    ),
)

ERRORS = (
    Item(
        "every error has the envelope: the framework's own, those before a stream, the parser's",
        (
            Break(
                "404 and 405 are the framework's",
                f"{EDGE}/app.py",
                "    app.add_exception_handler(HTTPException, _http_error)\n",
                "",
                (_OWN_ERRORS,),
            ),
            Break(
                "422 is the framework's",
                f"{EDGE}/app.py",
                "    app.add_exception_handler(RequestValidationError, _validation_error)\n",
                "",
                (_OWN_ERRORS,),
            ),
            Break(
                "a stream's refusal is a frame",
                f"{EDGE}/chat_lane.py",
                "                await reply.finish(dialect.refusal(error, head.request_id))",
                "                await reply.begin_stream()\n"
                "                broken = dialect.broken(error, head.request_id)\n"
                "                await reply.finish(Ending(200, broken))",
                (_NO_KEY,),
            ),
            Break(
                "a fault inside a route is told in plain text",
                f"{EDGE}/app.py",
                "    app.add_exception_handler(Exception, _fault)\n",
                "",
                (f"{MORE}::test_a_fault_of_ours_is_a_500_in_the_envelope",),
            ),
            Break(
                "what is wrong with a field is not detailed",
                f"{GATEWAY}/envelope.py",
                '        shown["details"] = [_detail(fault) for fault in error.details]',
                "        pass",
                (f"{WIRE}::test_a_field_out_of_bounds_is_named",),
            ),
        ),
    ),
    Item(
        "codes and statuses are those that the SDKs know",
        (
            *_CODES,
            Break(
                "a limit does not say when to come again in its head",
                f"{GATEWAY}/envelope.py",
                '        headers = ((b"retry-after", str(error.retry_after_s).encode()),)',
                "        pass",
                (f"{LIST}::test_a_rate_limit_says_when_to_come_again_in_head_and_body",),
            ),
            Break(
                "a limit does not say when to come again in its body",
                f"{GATEWAY}/envelope.py",
                '        shown["retry_after_seconds"] = error.retry_after_s',
                "        pass",
                (f"{LIST}::test_a_rate_limit_says_when_to_come_again_in_head_and_body",),
            ),
            Break(
                "the catalogue of errors misses a code",
                f"{EDGE}/error_catalogue.py",
                "        waiting += found.__subclasses__()",
                "        waiting += found.__subclasses__()[1:]",
                (f"{LIST}::test_the_catalogue_of_errors_has_every_code_that_was_answered",),
            ),
            Break(
                "the provider's own words go to the caller",
                f"{GATEWAY}/providers/faults.py",
                '    words = _ADDRESSES.sub("[address]", str(redact(words)))\n',
                "",
                (f"{FAULTS}::test_a_refusal_tells_what_is_wrong_without_the_operators_affairs",),
            ),
        ),
    ),
    Item(
        "what clients send again by themselves (429, 502, 503, 504) is never charged",
        (
            Break(
                "a failed request is charged for its prompt",
                f"{GATEWAY}/pipeline.py",
                '        entry.basis, entry.quantities = "none", {}\n',
                "        rates = entry.chosen.price.rates if entry.chosen else {}\n"
                '        entry.basis, entry.quantities = "tokenizer", dict.fromkeys(rates, 9)\n',
                (_RESENT,),
            ),
            Break(
                "what a whole answer had of one that broke off is charged",
                f"{GATEWAY}/pipeline.py",
                "and entry.chosen and (relay.begun or gone):",
                "and entry.chosen:",
                (f"{FAULTS}::test_a_whole_answer_that_breaks_off_is_not_billed",),
            ),
        ),
    ),
)
