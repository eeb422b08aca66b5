"""The routes beside conversations in OpenAI's format: how each is broken."""

from __future__ import annotations

from tests.checklist.breaks import Break, Item
from tests.checklist.places import AT, EDGE, GATEWAY, MORE

_COMPARE = f"{AT}/test_compare.py"
_RESPONSES = f"{AT}/test_responses.py"
_MESSAGES = f"{AT}/test_messages.py"
_VECTORS = f"{AT}/test_embeddings.py::test_both_sdks_get_vectors_in_the_order_of_their_inputs"
_BATCHES = f"{AT}/test_batches.py"
_ADMIN = f"{AT}/test_admin_keys.py"
_KEPT = f"{AT}/test_kept_responses.py"

FURTHER = (
    Item(
        "retries and fallback are told in the head of whole answers",
        (
            Break(
                "they are not",
                f"{GATEWAY}/pipeline.py",
                "            reply.add_headers(routing_headers(entry))",
                "            pass",
                (
                    f"{AT}/test_resilience.py::"
                    "test_another_model_serves_at_its_own_price_under_a_larger_hold",
                ),
            ),
        ),
    ),
    Item(
        "embeddings come in the order of their inputs, in the encoding that was asked for",
        (
            Break(
                "in the provider's order",
                f"{GATEWAY}/whole_answer.py",
                "            found[index if type(index) is int else place] = item",
                "            found[place] = item",
                (_VECTORS,),
            ),
            Break(
                "always as numbers",
                f"{GATEWAY}/whole_answer.py",
                "encode = _as_base64 if wants_base64 else _as_floats",
                "encode = _as_floats",
                (f"{MORE}::test_vectors_come_in_the_encoding_that_was_asked_for",),
            ),
        ),
    ),
    Item(
        "responses: whole, streamed as response.* events, kept, listed and gone on from",
        (
            Break(
                "output is a string",
                f"{GATEWAY}/dialects/responses_object.py",
                '"output": output or [],',
                '"output": str(output),',
                (f"{_RESPONSES}::test_the_mesh_sdk_gets_whole_and_streamed_responses",),
            ),
            Break(
                "events have other names",
                f"{GATEWAY}/dialects/responses.py",
                'f"response.{status}"',
                'f"done.{status}"',
                (f"{_RESPONSES}::test_the_openai_sdk_gets_every_event_of_a_stream",),
            ),
            Break(
                "what is kept is not found",
                f"{EDGE}/job_routes.py",
                "    return json_response(await responses.view(caller, response_id))",
                '    return json_response(await responses.view(caller, response_id + "0"))',
                (f"{_KEPT}::test_a_kept_response_can_be_read_again_and_gone_on_from",),
            ),
            Break(
                "the list has no cursor",
                f"{GATEWAY}/jobs/responses.py",
                '"has_more": has_more}',
                '"has_more": None}',
                (f"{_KEPT}::test_a_response_in_the_background_is_made_and_billed_once",),
            ),
        ),
    ),
    Item(
        "compare: all models at once, each fails alone, one request to the limits, no null flags",
        (
            Break(
                "models are asked twice",
                f"{GATEWAY}/compare/plan.py",
                "dict.fromkeys(",
                "list(",
                (f"{_COMPARE}::test_every_model_answers_and_one_compares",),
            ),
            Break(
                "a flag is null",
                f"{GATEWAY}/compare/run.py",
                '"comparison_fallback_used": out.fallback_used,',
                '"comparison_fallback_used": out.fallback_used or None,',
                (f"{_COMPARE}::test_every_model_answers_and_one_compares",),
            ),
            Break(
                "a model's failure is an error of the stream",
                f"{GATEWAY}/compare/member.py",
                'facts["error_message"] = self.error.message',
                'facts["error"] = self.error.message',
                (f"{_COMPARE}::test_all_models_stream_side_by_side_without_a_comparison",),
            ),
            Break(
                "where all fail it is a success",
                f"{GATEWAY}/compare/run.py",
                "        if not answered and not self._begun:\n",
                "        if False:\n",
                (f"{_COMPARE}::test_where_all_fail_the_status_is_theirs_and_nothing_is_billed",),
            ),
            Break(
                "every model counts as a request",
                f"{GATEWAY}/compare/run.py",
                "self._pipeline = replace(pipeline, quotas=self._quotas, attempts=attempts)",
                "self._pipeline = pipeline",
                (f"{_COMPARE}::test_a_comparison_counts_as_one_request_against_the_limits",),
            ),
        ),
    ),
    Item(
        "router/select names a model within the key's and the candidates, and sends nothing",
        (
            Break(
                "candidates are not looked at",
                f"{EDGE}/router_routes.py",
                '        candidates=body.get("candidate_models"),\n',
                "",
                (f"{AT}/test_auto.py::test_a_selection_stays_within_the_key_and_the_candidates",),
            ),
            Break(
                "what is excluded is chosen",
                f"{EDGE}/router_routes.py",
                '        exclude=body.get("exclude_models", ()),\n',
                "",
                (f"{AT}/test_auto.py::test_a_selection_names_a_model_and_sends_nothing",),
            ),
        ),
    ),
    Item(
        "batches: one model, ten at a time, results inline when they are over",
        (
            Break(
                "several models are taken",
                f"{GATEWAY}/jobs/batches.py",
                '        raise MixedModels(f"',
                '        print(f"',
                (f"{_BATCHES}::test_a_batch_has_one_model_and_names_its_faults",),
            ),
            Break(
                "too many batches are any limit",
                f"{GATEWAY}/errors.py",
                'code = "batch_limit_exceeded"',
                'code = "rate_limit_exceeded"',
                (f"{_BATCHES}::test_a_key_has_ten_batches_under_way_and_sees_its_own_alone",),
            ),
        ),
    ),
    Item(
        "messages: Anthropic's shape, its key header, its stream and its errors",
        (
            Break(
                "x-api-key is not looked at",
                f"{EDGE}/dialect_routes.py",
                "MessagesDialect(), takes_api_key=True)",
                "MessagesDialect())",
                (f"{MORE}::test_a_key_may_stand_in_x_api_key_for_messages_alone",),
            ),
            Break(
                "the stream does not end",
                f"{GATEWAY}/dialects/messages.py",
                '        out.append(_frame("message_stop"))\n',
                "",
                (f"{_MESSAGES}::test_a_streamed_message_is_the_same_and_is_metered_the_same",),
            ),
            Break(
                "a fault of the body is a 422",
                f"{GATEWAY}/dialects/messages.py",
                "        status = 400 if error.http_status == 422",
                "        status = 422 if error.http_status == 422",
                (f"{_MESSAGES}::test_a_bad_body_is_a_400_that_names_the_field",),
            ),
        ),
    ),
    Item(
        "admin keys: shown once, narrowed to their permissions and scope, never for inference",
        (
            Break(
                "the secret may be cached",
                f"{EDGE}/admin_key_routes.py",
                '    response.headers["cache-control"] = "no-store"\n',
                "",
                (f"{_ADMIN}::test_an_admin_key_is_made_shown_once_and_listed_without_its_secret",),
            ),
            Break(
                "any permission opens everything",
                f"{EDGE}/callers.py",
                "        if not grant.permissions.intersection(sufficient):\n",
                "        if False:\n",
                (f"{_ADMIN}::test_each_permission_opens_its_routes_and_no_others",),
            ),
            Break(
                "a scope hides nothing",
                f"{EDGE}/callers.py",
                "        if not self.sees(key):\n",
                "        if False:\n",
                (f"{_ADMIN}::test_a_scope_hides_the_keys_of_others",),
            ),
        ),
    ),
    Item(
        "alerts: an account's own, rules in their units, for those who may",
        (
            Break(
                "who may read may set",
                f"{EDGE}/alert_routes.py",
                'Writer = Annotated[Manager, Depends(manager_of("alerts:write"))]',
                'Writer = Annotated[Manager, Depends(manager_of("alerts:write", "alerts:read"))]',
                (f"{_ADMIN}::test_each_permission_opens_its_routes_and_no_others",),
            ),
            Break(
                "a threshold is a number of nano-dollars",
                f"{EDGE}/alert_routes.py",
                "        return usd_from_nanousd(value)\n",
                "        return str(value)\n",
                (f"{AT}/test_alerts.py::test_a_rule_is_set_in_its_unit_and_read_back",),
            ),
        ),
    ),
    Item(
        "auto-recharge: one of each account, in dollars, set up by people who may",
        (
            Break(
                "any permission reads it",
                f"{EDGE}/recharge_routes.py",
                'Depends(manager_of("org:read"))',
                'Depends(manager_of("org:read", "keys:read"))',
                (f"{_ADMIN}::test_each_permission_opens_its_routes_and_no_others",),
            ),
            Break(
                "a month has no ceiling of its own",
                f"{EDGE}/recharge_routes.py",
                "_MONTH_AMOUNTS = 25",
                "_MONTH_AMOUNTS = 5",
                (
                    f"{AT}/test_recharge.py"
                    "::test_a_recharge_is_set_up_in_dollars_with_ceilings_of_its_own",
                ),
            ),
            Break(
                "an error names the field of another API",
                f"{EDGE}/recharge_routes.py",
                'if colon and field == f"{name}_nanousd":',
                "if False:",
                (f"{AT}/test_recharge.py::test_what_is_out_of_bounds_is_named_in_dollars",),
            ),
        ),
    ),
    Item(
        "moderations: one verdict for each input",
        (
            Break(
                "verdicts get lost",
                f"{GATEWAY}/whole_answer.py",
                '"results": items}',
                '"results": items[:1]}',
                (f"{AT}/test_embeddings.py::test_verdicts_pass_through_one_for_each_input",),
            ),
        ),
    ),
)
