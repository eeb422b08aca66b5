"""Paths, heads, ids and versions: how each requirement on them is broken."""

from __future__ import annotations

from tests.checklist.breaks import Break, Item
from tests.checklist.places import AT, EDGE, GATEWAY, LIST, MORE, WIRE

_EVERY = f"{LIST}::test_every_answer_of_every_route_has_a_request_id_of_its_own_and_a_version"
_IDS = f"{WIRE}::test_request_ids_are_ours_or_the_clients_own"
_BAD_VERSION = f"{WIRE}::test_a_bad_version_is_refused_before_the_key_is_looked_at"
_NO_KEY = f"{WIRE}::test_without_a_usable_key_there_is_a_401_with_an_envelope"

TRANSPORT = (
    Item(
        "everything is under /v1, and no path is redirected",
        (
            Break(
                "a slash at the end is redirected",
                f"{EDGE}/app.py",
                "redirect_slashes=False",
                "redirect_slashes=True",
                (f"{LIST}::test_no_path_is_redirected",),
            ),
        ),
    ),
    Item(
        "Accept decides nothing, a content type needs no body, unknown headers and fields pass",
        (
            Break(
                "Accept is negotiated",
                f"{EDGE}/head.py",
                '        elif name == b"x-api-key":',
                '        elif name == b"accept" and b"json" not in value:\n'
                '            versions.append(b"not acceptable")\n'
                '        elif name == b"x-api-key":',
                (f"{LIST}::test_the_accept_header_decides_nothing",),
            ),
            Break(
                "a content type without a body is refused",
                f"{EDGE}/edge.py",
                "        if path == ROUTE:\n",
                '        typed = b"content-type" in dict(scope["headers"])\n'
                '        if scope["method"] == "GET" and typed:\n'
                '            fault = MethodNotAllowed("no body")\n'
                '            return "other", await _refuse(head, fault, send)\n'
                "        if path == ROUTE:\n",
                (f"{LIST}::test_a_content_type_on_a_call_without_a_body_is_accepted",),
            ),
            Break(
                "a header that nobody knows is refused",
                f"{EDGE}/head.py",
                '        elif name == b"x-api-key":',
                '        elif name == b"x-unknown":\n'
                '            versions.append(b"what is this")\n'
                '        elif name == b"x-api-key":',
                (f"{LIST}::test_a_content_type_on_a_call_without_a_body_is_accepted",),
            ),
            Break(
                "an unknown field of a chat request is refused",
                f"{GATEWAY}/chat_request.py",
                "        if rule is not None:\n",
                "        if rule is None and name != 'messages':\n"
                "            faults.add(('body', name), 'extra_forbidden', 'unknown')\n"
                "        elif rule is not None:\n",
                (f"{WIRE}::test_nulls_are_absent_and_unknown_fields_are_dropped",),
            ),
            Break(
                "an unknown field of any other body is refused",
                f"{EDGE}/account_routes.py",
                "    since: datetime | None = None\n",
                '    model_config = {"extra": "forbid"}\n    since: datetime | None = None\n',
                (f"{AT}/test_account.py::test_usage_events_come_in_pages",),
            ),
        ),
    ),
    Item(
        "x-request-id is on every response and in every error's body, new or the client's own",
        (
            Break(
                "no answer carries it",
                f"{EDGE}/head.py",
                '        (b"x-request-id", head.request_id.encode()),\n',
                "",
                (_EVERY,),
            ),
            Break(
                "the head of a stream lacks it",
                f"{EDGE}/chat_lane.py",
                "headers = [*_STREAM_HEADERS, *self._headers]",
                "headers = [*_STREAM_HEADERS]",
                (f"{WIRE}::test_a_streams_head_carries_the_request_id_and_the_version",),
            ),
            Break(
                "an error's body has another",
                f"{GATEWAY}/envelope.py",
                '"error": error_object(error), "request_id": request_id})',
                '"error": error_object(error), "request_id": new_id("req")})',
                (_EVERY,),
            ),
            Break(
                "all requests share one",
                f"{GATEWAY}/envelope.py",
                'return RequestId(new_id("req"))',
                'return RequestId("req_01JZ0000000000000000000000")',
                (_EVERY,),
            ),
            Break(
                "it has no ULID",
                f"{GATEWAY}/envelope.py",
                'return RequestId(new_id("req"))',
                'return RequestId(new_id("req").lower())',
                (_EVERY,),
            ),
            Break(
                "the client's own is not taken",
                f"{GATEWAY}/envelope.py",
                "if given is not None and _REQUEST_ID.fullmatch(given):",
                "if False:",
                (_IDS,),
            ),
            Break(
                "a client's ill-formed one is taken",
                f"{GATEWAY}/envelope.py",
                'rb"[A-Za-z0-9._:-]{1,64}"',
                'rb".{1,64}"',
                (_IDS,),
            ),
            Break(
                "what is no HTTP is answered without one",
                f"{EDGE}/server.py",
                "request_id = request_id_from(None)",
                'request_id = request_id_from(b"-")',
                (f"{AT}/test_abuse.py::test_garbage_instead_of_http_is_refused",),
            ),
        ),
    ),
    Item(
        "X-Mesh-Version is checked before the key, echoed, and the baseline by default",
        (
            Break(
                "the newer version is not served",
                f"{GATEWAY}/envelope.py",
                'API_VERSIONS = ("2026-08", "2026-09")',
                'API_VERSIONS = ("2026-08",)',
                (f"{WIRE}::test_a_streams_head_carries_the_request_id_and_the_version",),
            ),
            Break(
                "it is not echoed",
                f"{EDGE}/head.py",
                '        (b"x-mesh-version", head.api_version.encode()),\n',
                "",
                (_EVERY,),
            ),
            Break(
                "the newest is the default",
                f"{GATEWAY}/envelope.py",
                "    if not labels:\n        return BASELINE_VERSION",
                "    if not labels:\n        return LATEST_VERSION",
                (f"{WIRE}::test_versions_are_listed_oldest_first_and_the_baseline_is_the_default",),
            ),
            Break(
                "an unknown one falls back",
                f"{EDGE}/edge.py",
                "if head.fault is not None and path not in _PROBES:",
                "if head.fault is not None and path in _PROBES:",
                (_BAD_VERSION,),
            ),
            Break(
                "a bad key is told before a bad version",
                f"{EDGE}/edge.py",
                "if head.fault is not None and path not in _PROBES:",
                "if head.fault is not None and path not in _PROBES and not (\n"
                '            (head.authorization or b"").endswith(b"rsk_bad")\n'
                "        ):",
                (_BAD_VERSION,),
            ),
            Break(
                "an empty one means none",
                f"{GATEWAY}/envelope.py",
                "labels = {label.strip() for label in given}",
                "labels = {label.strip() for label in given if label}",
                (f"{MORE}::test_an_empty_version_or_two_that_differ_are_refused",),
            ),
            Break(
                "of two that differ the first counts",
                f"{GATEWAY}/envelope.py",
                "labels = {label.strip() for label in given}",
                "labels = {label.strip() for label in list(given)[:1]}",
                (f"{MORE}::test_an_empty_version_or_two_that_differ_are_refused",),
            ),
            Break(
                "the versions that there are go untold",
                f"{GATEWAY}/envelope.py",
                '        shown["supported_versions"] = list(API_VERSIONS)',
                "        pass",
                (_BAD_VERSION,),
            ),
            Break(
                "api-versions lists the newest first",
                f"{EDGE}/system_routes.py",
                "            for label in API_VERSIONS\n",
                "            for label in reversed(API_VERSIONS)\n",
                (f"{WIRE}::test_versions_are_listed_oldest_first_and_the_baseline_is_the_default",),
            ),
            Break(
                "the key's pin is not looked at",
                f"{EDGE}/edge.py",
                "            serve_with(head, pin)",
                "            pass",
                (f"{WIRE}::test_the_version_is_the_headers_then_the_keys_then_the_oldest",),
            ),
            Break(
                "browsers may not read it",
                f"{EDGE}/asgi.py",
                "x-request-id, x-mesh-version, retry-after",
                "x-request-id, retry-after",
                (f"{WIRE}::test_a_streams_head_carries_the_request_id_and_the_version",),
            ),
        ),
    ),
    Item(
        "JSON is application/json, and 204 is only where no body is expected",
        (
            Break(
                "errors are problem+json",
                f"{GATEWAY}/envelope.py",
                'content_type: bytes = b"application/json"',
                'content_type: bytes = b"application/problem+json"',
                (_NO_KEY,),
            ),
            Break(
                "answers are text",
                f"{EDGE}/system_routes.py",
                'media_type="application/json"',
                'media_type="text/plain"',
                (f"{MORE}::test_every_json_body_is_called_json",),
            ),
            Break(
                "a deleted template is answered with 200 and nothing",
                f"{EDGE}/template_routes.py",
                "    return Response(status_code=204)",
                "    return Response(status_code=200)",
                (f"{AT}/test_templates.py::test_a_bare_list_and_an_empty_204_go_over_the_wire",),
            ),
        ),
    ),
)
