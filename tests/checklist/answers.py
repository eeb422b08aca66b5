"""Answers and streams: how each requirement on them is broken."""

from __future__ import annotations

from tests.checklist.breaks import Break, Item
from tests.checklist.places import AT, EDGE, FAULTS, GATEWAY, MORE, WIRE

_ANSWER = f"{GATEWAY}/answer.py"
_FORMAT = f"{GATEWAY}/dialects/chat.py"
_RELAY = f"{GATEWAY}/relay.py"
_SDKS = f"{AT}/test_sdks.py"
_FRAMES = f"{WIRE}::test_every_frame_is_whole_whatever_the_provider_sent"
_MESH_STREAM = f"{_SDKS}::test_the_mesh_sdk_gets_every_frame_of_a_stream"
_BROKEN_OFF = f"{FAULTS}::test_a_stream_that_breaks_off_says_so_and_bills_what_was_delivered"

ANSWERS = (
    Item(
        "a whole answer has its fields, whole seconds and the full usage",
        (
            Break(
                "seconds have fractions",
                _RELAY,
                '            answer_id=new_id("chatcmpl", now_ms).replace("_", "-", 1),\n'
                "            created_s=now_ms // 1000,",
                '            answer_id=new_id("chatcmpl", now_ms).replace("_", "-", 1),\n'
                "            created_s=now_ms / 1000,  # type: ignore[arg-type]",
                (f"{_SDKS}::test_the_mesh_sdk_gets_a_whole_answer",),
            ),
            Break(
                "the usage is missing",
                _ANSWER,
                '            "choices": [_whole_choice(i, self._choices[i]) for i in'
                ' sorted(self._choices)],\n            "usage": usage,\n',
                '            "choices": [_whole_choice(i, self._choices[i]) for i in'
                " sorted(self._choices)],\n",
                (f"{_SDKS}::test_the_openai_sdk_gets_a_whole_answer_with_usage",),
            ),
            Break(
                "one count of the usage is missing",
                f"{GATEWAY}/metering.py",
                '"total_tokens":',
                '"tokens_in_all":',
                (f"{_SDKS}::test_the_mesh_sdk_gets_a_whole_answer",),
            ),
            Break(
                "the message has no role",
                _ANSWER,
                '{"role": "assistant", "content": None}',
                '{"content": None}',
                (f"{_SDKS}::test_the_mesh_sdk_gets_a_whole_answer",),
            ),
            Break(
                "the model is the provider's own name",
                _RELAY,
                "        self._chunks = ChunkNormaliser(\n"
                "            model_id=chosen.model.model_id,",
                "        self._chunks = ChunkNormaliser(\n"
                "            model_id=chosen.model.upstream_model,",
                (f"{_SDKS}::test_the_openai_sdk_gets_a_whole_answer_with_usage",),
            ),
            Break(
                "a tool call has no type",
                _ANSWER,
                '                "type": "function",\n                "function": {',
                '                "function": {',
                (f"{_SDKS}::test_the_openai_sdk_gets_tool_calls_in_a_whole_answer",),
            ),
        ),
    ),
    Item(
        "a stream is LF, `data: `, one line of JSON and a blank line a frame, [DONE] at its end",
        (
            Break(
                "lines end in CR LF",
                _FORMAT,
                'return b"data: " + orjson.dumps(event) + b"\\n\\n"',
                'return b"data: " + orjson.dumps(event) + b"\\r\\n\\r\\n"',
                (_MESH_STREAM, _FRAMES),
            ),
            Break(
                "no blank behind data:",
                _FORMAT,
                'return b"data: " + orjson.dumps(event) + b"\\n\\n"',
                'return b"data:" + orjson.dumps(event) + b"\\n\\n"',
                (_MESH_STREAM,),
            ),
            Break(
                "JSON of several lines",
                _FORMAT,
                'return b"data: " + orjson.dumps(event) + b"\\n\\n"',
                'return b"data: " + orjson.dumps(event, option=orjson.OPT_INDENT_2) + b"\\n\\n"',
                (_FRAMES,),
            ),
            Break(
                "no [DONE]",
                _FORMAT,
                "return frame(usage_chunk) + DONE_FRAME",
                "return frame(usage_chunk)",
                (_FRAMES,),
            ),
            Break(
                "no blank line behind [DONE]",
                f"{GATEWAY}/envelope.py",
                'DONE_FRAME = b"data: [DONE]\\n\\n"',
                'DONE_FRAME = b"data: [DONE]\\n"',
                (_FRAMES,),
            ),
            Break(
                "it is no event stream",
                f"{EDGE}/chat_lane.py",
                'b"text/event-stream; charset=utf-8"',
                'b"application/json"',
                (_FRAMES,),
            ),
            Break(
                "the answer is gathered before it is sent",
                _RELAY,
                "waits = not (self.tally.produced or all_of_it)",
                "waits = not all_of_it",
                (f"{MORE}::test_words_go_out_as_they_come",),
            ),
            Break(
                "no usage at the end",
                _FORMAT,
                "return frame(usage_chunk) + DONE_FRAME",
                "return DONE_FRAME",
                (_FRAMES,),
            ),
            Break(
                "usage only where it is asked for",
                f"{GATEWAY}/providers/openai_compatible.py",
                '        payload["stream_options"] = {"include_usage": True}\n',
                "        pass\n",
                (f"{WIRE}::test_nulls_are_absent_and_unknown_fields_are_dropped",),
            ),
            Break(
                "the cost is a number",
                _ANSWER,
                '            "choices": [],\n            "usage": usage,\n',
                '            "choices": [],\n            "usage": usage,\n'
                '            "cost": 0.1,\n',
                (_MESH_STREAM,),
            ),
        ),
    ),
    Item(
        "chunks of providers are made whole before they are relayed",
        (
            Break(
                "frames are the provider's own",
                _ANSWER,
                '            chunk["system_fingerprint"] = self.fingerprint\n',
                '            chunk["system_fingerprint"] = self.fingerprint\n'
                '        chunk.pop("object")\n',
                (_FRAMES,),
            ),
            Break(
                "the last frame has no id",
                _ANSWER,
                '        """The last chunk of every stream."""\n        return {\n'
                '            "id": self.answer_id,\n',
                '        """The last chunk of every stream."""\n        return {\n',
                (_MESH_STREAM, _FRAMES),
            ),
            Break(
                "a choice has no index",
                _ANSWER,
                '{"index": index, "delta": delta}',
                '{"delta": delta}',
                (_FRAMES,),
            ),
            Break(
                "a piece of a tool call has no index",
                _ANSWER,
                '            call["index"] = place\n',
                "            pass\n",
                (_FRAMES,),
            ),
            Break(
                "usage that the provider does not tell is not counted",
                f"{GATEWAY}/relay.py",
                "        return Ending(200, self._dialect.last(self._chunks.usage_chunk(usage)))",
                "        told = usage if self.tally.reported else dict.fromkeys(usage, 0)\n"
                "        return Ending(200, self._dialect.last(self._chunks.usage_chunk(told)))",
                (_FRAMES,),
            ),
        ),
    ),
    Item(
        "a stream that fails ends in one error frame and [DONE]; no other frame has an error",
        (
            Break(
                "it just ends",
                f"{GATEWAY}/envelope.py",
                '    return b"data: " + orjson.dumps(shown) + b"\\n\\n" + DONE_FRAME',
                "    return DONE_FRAME",
                (f"{_SDKS}::test_a_stream_that_breaks_off_raises_in_both_sdks",),
            ),
            Break(
                "no [DONE] behind the error",
                f"{GATEWAY}/envelope.py",
                '    return b"data: " + orjson.dumps(shown) + b"\\n\\n" + DONE_FRAME',
                '    return b"data: " + orjson.dumps(shown) + b"\\n\\n"',
                (_BROKEN_OFF,),
            ),
            Break(
                "the error frame has no request id",
                f"{GATEWAY}/envelope.py",
                'shown = {"error": error_object(error), "request_id": request_id}',
                'shown = {"error": error_object(error)}',
                (_BROKEN_OFF,),
            ),
            Break(
                "every frame has an error",
                _ANSWER,
                '            chunk["system_fingerprint"] = self.fingerprint\n',
                '            chunk["system_fingerprint"] = self.fingerprint\n'
                '        chunk["error"] = "none"\n',
                (_FRAMES,),
            ),
        ),
    ),
    Item(
        "a caller who hangs up ends the upstream and pays for what came",
        (
            Break(
                "nobody notices",
                f"{EDGE}/chat_lane.py",
                "        self.interrupt.trigger()",
                "        return",
                (
                    f"{FAULTS}::"
                    "test_a_caller_who_hangs_up_on_a_stream_ends_the_upstream_and_pays_for_what_came",
                ),
            ),
            Break(
                "it is not billed",
                f"{GATEWAY}/pipeline.py",
                "and entry.chosen and (relay.begun or gone):",
                "and entry.chosen and relay.begun and not gone:",
                (
                    f"{FAULTS}::"
                    "test_a_caller_who_hangs_up_on_a_stream_ends_the_upstream_and_pays_for_what_came",
                ),
            ),
        ),
    ),
)
