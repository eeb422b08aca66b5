"""What is sent to providers, in each one's words, and what is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.gateway.ports import ProviderKind
from services.gateway.providers.formats import FORMATS
from services.gateway.providers.port import AttemptFailed
from tests.fixtures.attempts import attempt

Json = dict[str, Any]  # Any: JSON
KINDS: list[ProviderKind] = ["anthropic", "bedrock", "gemini"]
PIXEL = "iVBORw0KGgo="


def _body(kind: ProviderKind, payload: Json, **facts: Any) -> Json:  # Any: see `attempt`
    body: Json = orjson.loads(FORMATS[kind].request(attempt(kind, payload, **facts)).body)
    return body


WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ASKED: Json = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "temperature": 1.5,
    "top_p": 0.9,
    "stop": ["END"],
    "user": "u-1",
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
}


def test_anthropic_gets_a_messages_request() -> None:
    made = FORMATS["anthropic"].request(attempt("anthropic", ASKED, model="claude-haiku-4-5"))
    assert str(made.url) == "https://api.vendor.example/v1/messages"
    assert made.headers["x-api-key"] == "sk-secret"
    assert made.headers["anthropic-version"] == "2023-06-01"
    assert orjson.loads(made.body) == {
        "model": "claude-haiku-4-5",
        "max_tokens": 1_000,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "temperature": 1,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "tools": [
            {
                "name": "weather",
                "description": "Tells the weather.",
                "input_schema": WEATHER["function"]["parameters"],
            }
        ],
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    }


def test_gemini_gets_a_generate_request() -> None:
    made = FORMATS["gemini"].request(attempt("gemini", ASKED, model="gemini-3-pro"))
    assert str(made.url) == (
        "https://api.vendor.example/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
    )
    assert made.headers["x-goog-api-key"] == "sk-secret"
    assert orjson.loads(made.body) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": "Tells the weather.",
                        "parametersJsonSchema": WEATHER["function"]["parameters"],
                    }
                ]
            }
        ],
        "toolConfig": {
            "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}
        },
        "generationConfig": {
            "temperature": 1.5,
            "topP": 0.9,
            "maxOutputTokens": 1_000,
            "stopSequences": ["END"],
        },
    }


def test_bedrock_gets_a_signed_converse_request() -> None:
    made = FORMATS["bedrock"].request(
        attempt(
            "bedrock",
            ASKED,
            model="us.anthropic.claude-haiku-4-5-20251001-v1:0",
            base_url="https://bedrock-runtime.eu-west-1.amazonaws.com",
            credential="AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG:session",
        )
    )
    assert str(made.url) == (
        "https://bedrock-runtime.eu-west-1.amazonaws.com/model/"
        "us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse-stream"
    )
    proof = made.headers["Authorization"]
    assert proof.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-west-1/bedrock/aws4_request" in proof
    assert made.headers["X-Amz-Security-Token"] == "session"
    assert "wJalrXUtnFEMI" not in str(made.headers)
    assert orjson.loads(made.body) == {
        "system": [{"text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "inferenceConfig": {
            "maxTokens": 1_000,
            "temperature": 1,
            "topP": 0.9,
            "stopSequences": ["END"],
        },
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "weather",
                        "description": "Tells the weather.",
                        "inputSchema": {"json": WEATHER["function"]["parameters"]},
                    }
                }
            ],
            "toolChoice": {"tool": {"name": "weather"}},
        },
    }


def test_bedrock_takes_a_bearer_key_too() -> None:
    made = FORMATS["bedrock"].request(attempt("bedrock", ASKED, credential="ABSK-key"))
    assert made.headers["Authorization"] == "Bearer ABSK-key"


@pytest.mark.parametrize(
    ("version", "url"),
    [
        (
            "2024-10-21",
            "https://api.vendor.example/openai/deployments/gpt-1/chat/completions"
            "?api-version=2024-10-21",
        ),
        ("", "https://api.vendor.example/openai/v1/chat/completions"),
    ],
)
def test_azure_gets_its_deployment_and_its_key(version: str, url: str) -> None:
    made = FORMATS["azure_openai"].request(
        attempt("azure_openai", ASKED, model="gpt-1", api_version=version)
    )
    assert str(made.url) == url
    assert made.headers["api-key"] == "sk-secret"
    assert "Authorization" not in made.headers
    assert orjson.loads(made.body)["model"] == "gpt-1"


@pytest.mark.parametrize(
    ("model", "asked", "wanted"),
    [
        (
            "claude-sonnet-4-5-20250929",
            {"reasoning_effort": "medium"},
            {"thinking": {"type": "enabled", "budget_tokens": 4_000}},
        ),
        (
            "claude-sonnet-4-20250514",
            {"reasoning_budget": 2_000},
            {"thinking": {"type": "enabled", "budget_tokens": 2_000}},
        ),
        (
            "claude-opus-4-7",
            {"reasoning_effort": "high"},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        ),
        ("claude-opus-4-7", {"temperature": 0.2}, {}),
        ("claude-sonnet-4-5", {"reasoning_effort": "none", "temperature": 0.2}, {}),
        ("claude-sonnet-4-5", {"reasoning_effort": "low", "tools": [WEATHER],
                               "tool_choice": "required"}, {}),
    ],
)  # fmt: skip
def test_claude_is_asked_to_think_as_its_generation_wants(
    model: str, asked: Json, wanted: Json
) -> None:
    body = _body("anthropic", {"messages": ASKED["messages"], **asked}, model=model, limit=8_000)
    found = {name: body[name] for name in ("thinking", "output_config") if name in body}
    assert found == wanted
    assert ("temperature" in body) is ("temperature" in asked and model != "claude-opus-4-7")


def test_earlier_thinking_goes_back_to_who_thought_it() -> None:
    theirs = {"type": "reasoning.text", "text": "Hm.", "signature": "s"}
    call = {
        "id": "toolu_1",
        "type": "function",
        "function": {"name": "weather", "arguments": "{}"},
        "thought_signature": "g",
    }
    details = [
        {**theirs, "format": "anthropic-claude-v1"},
        {"type": "reasoning.encrypted", "data": "e", "format": "google-gemini-v1"},
    ]
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    messages = [{"role": "user", "content": "Hi"}, {**said, "reasoning_details": details}]
    spoken = _body("anthropic", {"messages": messages})["messages"][1]["content"]
    assert spoken[0] == {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    assert [block["type"] for block in spoken] == ["thinking", "tool_use"]
    spoken = _body("gemini", {"messages": messages})["contents"][1]["parts"]
    assert spoken[0] == {"text": "", "thoughtSignature": "e"}
    assert spoken[1]["thoughtSignature"] == "g"
    sent = _body("openai_compatible", {"messages": messages})["messages"][1]
    assert sent == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{name: call[name] for name in ("id", "type", "function")}],
    }


def test_thinking_of_the_messages_api_goes_back_as_it_came_unless_it_has_no_proof() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "thinking", "thinking": "Unproven.", "signature": ""},
        {"type": "redacted_thinking", "data": "hidden"},
        {"type": "thinking", "thinking": "", "signature": "not shown"},
    ]
    said = {"role": "assistant", "content": "Yes", "reasoning_details": thoughts}
    messages = [{"role": "user", "content": "Hi"}, said]
    spoken = _body("anthropic", {"messages": messages})["messages"][1]["content"]
    assert spoken == [thoughts[0], *thoughts[2:], {"type": "text", "text": "Yes"}]
    spoken = _body("bedrock", {"messages": messages})["messages"][1]["content"]
    assert spoken[:2] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": "hidden"}},
    ]


def test_gemini_is_told_that_a_call_was_another_models() -> None:
    call = {"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    parts = _body("gemini", {"messages": messages}, model="gemini-3-pro")["contents"][1]["parts"]
    assert parts[0]["thoughtSignature"] == "skip_thought_signature_validator"
    parts = _body("gemini", {"messages": messages}, model="gemini-2.5-pro")["contents"][1]["parts"]
    assert "thoughtSignature" not in parts[0]


def test_structured_output_is_asked_for_in_the_providers_words() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    asked = {"messages": ASKED["messages"], "response_format": wanted}
    config = _body("gemini", asked)["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"] == schema
    form = {"type": "json_schema", "schema": schema}
    assert _body("anthropic", asked)["output_config"] == {"format": form}


def test_the_last_four_marks_for_the_cache_are_kept_without_their_longer_life() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    parts = [{"type": "text", "text": str(n), "cache_control": mark} for n in range(6)]
    asked = {"messages": [{"role": "user", "content": parts}]}
    blocks = _body("anthropic", asked)["messages"][0]["content"]
    assert [block["text"] for block in blocks if "cache_control" in block] == ["2", "3", "4", "5"]
    assert blocks[-1]["cache_control"] == {"type": "ephemeral"}
    blocks = _body("bedrock", asked)["messages"][0]["content"]
    assert sum("cachePoint" in block for block in blocks) == 4
    assert blocks[:3] == [{"text": "0"}, {"text": "1"}, {"text": "2"}]


SOUND = {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "mp3"}}
CLIP = {"type": "video_url", "video_url": {"url": "https://a.example/x.mp4"}, "fps": "2"}
ADDRESS = {"type": "image_url", "image_url": {"url": "https://a.example/x.png?y"}}


def test_gemini_hears_and_sees() -> None:
    messages = [{"role": "user", "content": [SOUND, CLIP, ADDRESS]}]
    assert _body("gemini", {"messages": messages})["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "audio/mp3", "data": PIXEL}},
        {
            "fileData": {"mimeType": "video/mp4", "fileUri": "https://a.example/x.mp4"},
            "videoMetadata": {"fps": 2.0},
        },
        {"fileData": {"mimeType": "image/png", "fileUri": "https://a.example/x.png?y"}},
    ]


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("anthropic", {"messages": [{"role": "user", "content": [SOUND]}]}),
        ("anthropic", {"messages": [{"role": "user", "content": [CLIP]}]}),
        ("anthropic", {"messages": [], "n": 2}),
        ("bedrock", {"messages": [{"role": "user", "content": [ADDRESS]}]}),
        ("bedrock", {"messages": [], "n": 2}),
        ("gemini", {"messages": [], "modalities": ["audio"]}),
    ],
)
def test_what_a_format_cannot_say_is_a_mismatch_that_another_model_may_take(
    kind: ProviderKind, asked: Json
) -> None:
    with pytest.raises(AttemptFailed) as raised:
        _body(kind, asked)
    assert raised.value.error.code == "model_capability_not_supported"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "s3://bucket/key"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,***"}},
        {"type": "image_url", "image_url": {"url": "data:image/png,plain"}},
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_addresses_that_are_none_of_the_callers_business_are_refused(
    kind: ProviderKind, part: Json
) -> None:
    with pytest.raises(AttemptFailed) as raised:
        _body(kind, {"messages": [{"role": "user", "content": [part]}]})
    assert raised.value.error.code == "invalid_request"
