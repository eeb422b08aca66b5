"""Usage, limits, the cache, keys, and what there is not: how each is broken."""

from __future__ import annotations

from tests.checklist.breaks import Break, Item
from tests.checklist.places import AT, EDGE, GATEWAY, MORE, WIRE

_ACCOUNT = f"{AT}/test_account.py"
_CACHE = f"{AT}/test_response_cache.py"
_KEYS = f"{AT}/test_keys.py"
_LIMITED = f"{AT}/test_rate_limits.py::test_exactly_as_many_requests_pass_as_the_limit_says"
_OF_PEOPLE = (
    f"{AT}/test_rate_limits.py::"
    "test_people_and_admin_keys_read_the_limits_of_their_account_and_of_its_keys"
)

ACCOUNT = (
    Item(
        "usage events take an empty org_id, a request is found at once, money is in strings",
        (
            Break(
                "the cost is a number",
                f"{EDGE}/account_routes.py",
                '"cost_usd": usd_from_nanousd(row.cost_nanousd),',
                '"cost_usd": row.cost_nanousd / 1e9,',
                (f"{_ACCOUNT}::test_usage_events_come_in_pages",),
            ),
            Break(
                "who asks a moment too early is turned away",
                f"{EDGE}/account_routes.py",
                "LOOKUP_TRIES = 15",
                "LOOKUP_TRIES = 1",
                (f"{_ACCOUNT}::test_a_request_is_found_as_soon_as_it_is_in_the_log",),
            ),
            Break(
                "what is lent out counts as available",
                f"{EDGE}/account_routes.py",
                "    available = max(0, wallet.posted_nanousd - reserved)",
                "    available = max(0, wallet.posted_nanousd)",
                (f"{_ACCOUNT}::test_the_balance_is_told_in_decimal_strings",),
            ),
            Break(
                "a balance may be cached",
                f"{EDGE}/account_routes.py",
                '            "message": None,\n        }\n    )\n'
                '    response.headers["cache-control"] = "no-store"',
                '            "message": None,\n        }\n    )',
                (f"{_ACCOUNT}::test_the_balance_is_told_in_decimal_strings",),
            ),
            Break(
                "auto counts as a fallback",
                f"{EDGE}/account_routes.py",
                " and not is_auto(row.requested_model)",
                "",
                (f"{MORE}::test_a_choice_of_auto_is_no_fallback",),
            ),
            Break(
                "sums leave the failures out",
                f"{EDGE}/usage_routes.py",
                '"error_requests": sums.requests - sums.successful_requests,',
                '"error_requests": 0,',
                (f"{_ACCOUNT}::test_usage_is_summed_in_all_and_by_model",),
            ),
            Break(
                "attempts are those of the event alone",
                f"{EDGE}/usage_routes.py",
                "[_attempt(one) for one in found]",
                "[_attempt(one) for one in found if one.usage_id == event_id]",
                (f"{_ACCOUNT}::test_attempts_are_those_of_the_request_id",),
            ),
            Break(
                "a trend has no total",
                f"{EDGE}/usage_routes.py",
                "usd_from_nanousd(sum(bucket.cost_nanousd for bucket in buckets)),",
                "_ZERO_USD,",
                (f"{_ACCOUNT}::test_spend_over_time_has_its_average_and_total",),
            ),
            Break(
                "an export is JSON",
                f"{EDGE}/usage_routes.py",
                '"csv": "text/csv; charset=utf-8"',
                '"csv": "application/json"',
                (f"{_ACCOUNT}::test_requests_are_taken_away_as_a_file",),
            ),
        ),
    ),
    Item(
        "limits: how far a key is into each, 429 beyond, and x-ratelimit-* on the way",
        (
            Break(
                "percent of what is left",
                f"{EDGE}/account_routes.py",
                '"pct": round(100 * share, 2),',
                '"pct": round(100 - 100 * share, 2),',
                (f"{AT}/test_rate_limits.py::test_a_key_reads_its_limits",),
            ),
            Break(
                "people see the keys of other accounts",
                f"{EDGE}/account_routes.py",
                "if named is None or named.account_id != caller.account_id:",
                "if named is None:",
                (_OF_PEOPLE,),
            ),
            Break(
                "a key is told of more than itself",
                f"{EDGE}/account_routes.py",
                '(await reads.quotas.meters(caller_of(request)), ("key",))',
                '(await reads.quotas.meters(caller_of(request)), ("key", "team"))',
                (f"{AT}/test_rate_limits.py::test_a_key_is_told_of_itself_alone",),
            ),
            Break(
                "the head does not say how much is left",
                f"{EDGE}/chat_lane.py",
                "        self.add_headers(rate_limit_headers(meters))",
                "        return",
                (_LIMITED,),
            ),
            Break(
                "one more passes than the limit says",
                f"{GATEWAY}/quota/purse.py",
                "return None if self.requests is None else self.requests - self.used_requests",
                "return None if self.requests is None else self.requests - self.used_requests + 1",
                (_LIMITED,),
            ),
            Break(
                "a free model does not count",
                f"{GATEWAY}/pipeline.py",
                "        if not entry.principal.limits(model_id):\n            return\n",
                "        free = entry.chosen is not None and entry.chosen.price.is_free\n"
                "        if free or not entry.principal.limits(model_id):\n            return\n",
                (f"{AT}/test_rate_limits.py::test_free_models_count_too",),
            ),
        ),
    ),
    Item(
        "the response cache says HIT, costs nothing, and is left by who asks to",
        (
            Break(
                "a hit is not marked",
                f"{GATEWAY}/cache_step.py",
                'CACHE_HIT = [(b"x-cache", b"HIT")]',
                "CACHE_HIT: list[tuple[bytes, bytes]] = []",
                (f"{_CACHE}::test_the_second_answer_is_a_hit_and_its_event_costs_nothing",),
            ),
            Break(
                "a miss is marked",
                f"{EDGE}/chat_lane.py",
                "            await send_whole(self._send, ending, self._headers)",
                '            miss = [*self._headers, (b"x-cache", b"MISS")]\n'
                "            await send_whole(self._send, ending, miss)",
                (f"{_CACHE}::test_who_opts_out_neither_reads_nor_writes_it",),
            ),
            Break(
                "cache: false is not looked at",
                f"{GATEWAY}/response_cache.py",
                "or bypass or not request.cache or settings",
                "or bypass or settings",
                (f"{_CACHE}::test_who_opts_out_neither_reads_nor_writes_it",),
            ),
            Break(
                "X-Mesh-Cache is not looked at",
                f"{GATEWAY}/response_cache.py",
                "or bypass or not request.cache or settings",
                "or not request.cache or settings",
                (f"{_CACHE}::test_who_opts_out_neither_reads_nor_writes_it",),
            ),
            Break(
                "the key's switch is not looked at",
                f"{GATEWAY}/response_cache.py",
                "not request.cache or settings.response_cache_disabled:",
                "not request.cache:",
                (f"{_CACHE}::test_a_key_can_be_kept_out_of_it",),
            ),
            Break(
                "answers at any temperature are kept",
                f"{GATEWAY}/response_cache.py",
                '        and not upstream.get("temperature")\n',
                "",
                (f"{_CACHE}::test_who_opts_out_neither_reads_nor_writes_it",),
            ),
            Break(
                "answers with tools are kept",
                f"{GATEWAY}/response_cache.py",
                '        and "tools" not in upstream\n',
                "",
                (f"{_CACHE}::test_who_opts_out_neither_reads_nor_writes_it",),
            ),
            Break(
                "accounts share answers",
                f"{GATEWAY}/response_cache.py",
                "    facts = [\n        account_id,\n",
                "    facts = [\n",
                (f"{_CACHE}::test_keys_of_one_account_share_answers_and_accounts_do_not",),
            ),
            Break(
                "a replayed stream looks like any other",
                f"{GATEWAY}/relay.py",
                '"_", "-cached-", 1',
                '"_", "-", 1',
                (f"{_CACHE}::test_the_mesh_sdk_reads_replayed_streams",),
            ),
        ),
    ),
    Item(
        "keys: made, read, changed, suspended, never by an API key; limits with what binds them",
        (
            Break(
                "a key can make keys",
                f"{EDGE}/callers.py",
                "        caller_of(request)\n        raise Forbidden(",
                "        caller_of(request)\n        raise Unauthorized(",
                (f"{_KEYS}::test_no_api_key_manages_keys_and_no_viewer_makes_any",),
            ),
            Break(
                "the secret may be cached",
                f"{EDGE}/key_routes.py",
                '    response.headers["cache-control"] = "no-store"\n',
                "",
                (f"{_KEYS}::test_a_key_is_made_read_changed_and_suspended",),
            ),
            Break(
                "deleting does not suspend",
                f"{EDGE}/key_routes.py",
                "    await reads.key_admin.suspend(manager.principal, key_id)\n"
                "    return Response(status_code=204)",
                "    return Response(status_code=204)",
                (f"{_KEYS}::test_a_key_is_made_read_changed_and_suspended",),
            ),
            Break(
                "limits do not say which of them binds",
                f"{EDGE}/key_routes.py",
                "    return min((value for value in values if value is not None), default=None)",
                "    return None",
                (f"{_KEYS}::test_a_key_is_made_read_changed_and_suspended",),
            ),
        ),
    ),
    Item(
        "what there is not is a 501 in the envelope",
        (
            Break(
                "a part that is not served is not found",
                f"{EDGE}/unserved_routes.py",
                'raise NotImplementedHere(f"{feature}: not served by this gateway")',
                'raise ModelNotFound(f"{feature}: not served by this gateway")',
                (f"{AT}/test_openapi.py::test_what_is_not_served_says_so_whatever_is_sent",),
            ),
            Break(
                "a deeper path of it is not found",
                f"{EDGE}/unserved_routes.py",
                '    for _path in (f"/{_prefix}", f"/{_prefix}/{{rest:path}}"):',
                '    for _path in (f"/{_prefix}",):',
                (f"{AT}/test_openapi.py::test_what_is_not_served_says_so_whatever_is_sent",),
            ),
            Break(
                "a modality that is not served is answered in text",
                f"{GATEWAY}/chat_request.py",
                'if body.get("modality") == "image" or',
                'if body.get("modality") == "picture" or',
                (f"{WIRE}::test_what_is_not_served_yet_is_said_clearly",),
            ),
        ),
    ),
)
