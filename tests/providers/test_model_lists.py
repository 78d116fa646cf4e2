"""What is read out of providers' model lists, one shape at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.providers import model_lists
from omniroute.providers.model_lists import Page
from omniroute.records import DiscoveredModel

URL = "https://api.example.com/v1/models"


def parsed(document: Any, *, most: int = 100) -> Page:
    page = model_lists.parse(json.dumps(document).encode(), url=URL, most=most)
    assert page is not None
    return page


def one(row: Any) -> DiscoveredModel:
    (model,) = parsed({"data": [row]}).models
    return model


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {"object": "list", "data": [{"id": "a"}, {"id": "b"}]},
        [{"id": "a"}, {"id": "b"}],
        ["a", "b"],
        {"models": [{"name": "models/a"}, {"name": "models/b"}]},
        {"models": [{"name": "a", "model": "a"}, {"name": "b", "model": "b"}]},
        {"result": [{"id": "a"}, {"id": "b"}], "success": True},
        {"modelSummaries": [{"modelId": "a"}, {"modelId": "b"}]},
        {"publisherModels": [{"name": "publishers/google/models/a"}, {"name": "publishers/google/models/b"}]},
        {"endpoints": [{"name": "a"}, {"name": "b"}]},
        {"data": [{"id": "a"}, {"id": "b"}, {"id": "a"}, {}, None, 7, {"id": ""}, {"id": "x" * 241}, {"id": "a\n"}]},
    ],
)
def test_the_ids_of_a_list(document: Any) -> None:
    assert [model.model_id for model in parsed(document).models] == ["a", "b"]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"error":{"message":"no"}}', b'{"data":{"a":1}}', b"3", b"[" * 5000]
)
def test_what_is_no_list(body: bytes) -> None:
    assert model_lists.parse(body, url=URL, most=10) is None


def test_a_list_may_be_empty() -> None:
    assert parsed({"data": []}) == Page(())


def test_no_more_than_so_many_are_read_and_others_get_their_turn() -> None:
    turns: list[None] = []
    body = json.dumps({"data": [{"id": f"m{number}"} for number in range(1000)]}).encode()
    page = model_lists.parse(body, url=URL, most=350, pause=lambda: turns.append(None))
    assert page is not None
    assert len(page.models) == 350
    assert len(turns) == 3


def test_an_id_of_cloudflare_is_its_name() -> None:
    row = {
        "id": "f9f2250b-1048-4a52-9910-d0bf976616a1",
        "name": "@cf/meta/llama-3.1-8b-instruct",
        "task": {"name": "Text Generation"},
        "properties": [
            {"property_id": "context_window", "value": "128000"},
            {"property_id": "function_calling", "value": "true"},
        ],
    }
    model = one(row)
    assert (model.model_id, model.kind, model.context_length) == ("@cf/meta/llama-3.1-8b-instruct", "chat", 128_000)
    assert model.able == {"tools"}


@pytest.mark.parametrize(
    ("document", "following"),
    [
        ({"data": [{"id": "a"}], "has_more": True, "last_id": "a/b c"}, f"{URL}?after_id=a%2Fb+c"),
        ({"data": [{"id": "a"}], "has_more": False, "last_id": "a"}, None),
        ({"data": [], "has_more": True, "last_id": "a"}, None),
        ({"models": [{"name": "a"}], "nextPageToken": "t"}, f"{URL}?pageToken=t"),
        ({"models": [{"name": "a"}], "next_page_token": "t"}, f"{URL}?page_token=t"),
        ({"data": [{"id": "a"}], "links": {"next": "/v1/models?offset=2"}}, f"{URL}?offset=2"),
        ({"data": [{"id": "a"}], "links": {"next": "https://elsewhere.example/v1/models"}}, None),
        ({"result": [{"id": "a"}], "result_info": {"page": 1, "total_pages": 2}}, f"{URL}?page=2"),
        ({"result": [{"id": "a"}], "result_info": {"page": 2, "total_pages": 2}}, None),
    ],
)
def test_where_a_list_goes_on(document: Any, following: str | None) -> None:
    assert parsed(document).next_url == following


def test_the_next_page_keeps_the_rest_of_the_query() -> None:
    body = json.dumps({"models": [{"name": "a"}], "nextPageToken": "t2"}).encode()
    page = model_lists.parse(body, url=f"{URL}?pageSize=1000&pageToken=t1", most=10)
    assert page is not None
    assert page.next_url == f"{URL}?pageSize=1000&pageToken=t2"


# --- what providers say ----------------------------------------------------------------------------------------------


def test_openrouter() -> None:
    model = one(
        {
            "id": "google/gemini-2.5-pro",
            "canonical_slug": "google/gemini-2.5-pro",
            "name": "Google: Gemini 2.5 Pro",
            "created": 1,
            "context_length": 1_048_576,
            "architecture": {
                "input_modalities": ["file", "image", "text", "audio"],
                "output_modalities": ["text"],
                "tokenizer": "Gemini",
            },
            "pricing": {
                "prompt": "0.00000125",
                "completion": "0.00001",
                "request": "0",
                "image": "0.00516",
                "internal_reasoning": "0",
                "input_cache_read": "0.00000031",
                "input_cache_write": "0.000001625",
            },
            "top_provider": {"context_length": 1_048_576, "max_completion_tokens": 65_536, "is_moderated": False},
            "supported_parameters": ["tools", "tool_choice", "reasoning", "include_reasoning", "structured_outputs"],
        }
    )
    assert model == DiscoveredModel(
        "google/gemini-2.5-pro",
        name="Google: Gemini 2.5 Pro",
        kind="chat",
        context_length=1_048_576,
        max_output=65_536,
        able=frozenset({"tools", "reasoning", "json_schema", "vision"}),
        input=("pdf", "image", "text", "audio"),
        prices=(("input", "1.25"), ("output", "10"), ("cache_read", "0.31"), ("cache_write", "1.625")),
    )


def test_a_list_that_names_every_parameter_denies_the_others() -> None:
    model = one({"id": "a", "supported_parameters": ["temperature", "max_tokens", "tools"]})
    assert model.able == {"tools"}
    assert model.unable == {"json_schema", "reasoning"}


def test_anthropic() -> None:
    model = one(
        {
            "type": "model",
            "id": "claude-opus-4-7",
            "display_name": "Claude Opus 4.7",
            "created_at": "2026-04-01T00:00:00Z",
            "max_input_tokens": 1_000_000,
            "max_tokens": 128_000,
            "capabilities": {
                "image_input": {"supported": True},
                "pdf_input": {"supported": True},
                "structured_outputs": {"supported": True},
                "thinking": {"supported": True, "types": {"adaptive": {"supported": True}}},
                "batch": {"supported": True},
            },
        }
    )
    assert (model.name, model.context_length, model.max_output) == ("Claude Opus 4.7", 1_000_000, 128_000)
    assert model.able == {"vision", "json_schema", "reasoning"}
    assert (model.unable, model.kind) == (frozenset(), None)


def test_gemini() -> None:
    page = parsed(
        {
            "models": [
                {
                    "name": "models/gemini-3-pro",
                    "displayName": "Gemini 3 Pro",
                    "inputTokenLimit": 1_048_576,
                    "outputTokenLimit": 65_536,
                    "supportedGenerationMethods": ["generateContent", "countTokens"],
                    "thinking": True,
                },
                {"name": "models/gemini-embedding-001", "supportedGenerationMethods": ["embedContent"]},
                {"name": "models/imagen-4", "supportedGenerationMethods": ["predict"]},
                {"name": "models/veo-4", "supportedGenerationMethods": ["predictLongRunning"]},
                {"name": "models/gemini-live", "supportedGenerationMethods": ["bidiGenerateContent"]},
            ]
        }
    )
    assert [model.kind for model in page.models] == ["chat", "embedding", "image", "video", "audio"]
    pro = page.models[0]
    assert (pro.name, pro.context_length, pro.max_output, set(pro.able)) == (
        "Gemini 3 Pro",
        1_048_576,
        65_536,
        {"reasoning"},
    )


def test_mistral() -> None:
    model = one(
        {
            "id": "mistral-large-latest",
            "object": "model",
            "name": "mistral-large-latest",
            "max_context_length": 262_144,
            "capabilities": {"completion_chat": True, "function_calling": True, "vision": False, "fine_tuning": False},
            "type": "base",
        }
    )
    assert model == DiscoveredModel(
        "mistral-large-latest",
        kind="chat",
        context_length=262_144,
        able=frozenset({"tools"}),
        unable=frozenset({"vision"}),
    )


def test_groq() -> None:
    model = one({"id": "new", "object": "model", "context_window": 131_072, "max_completion_tokens": 32_768})
    assert (model.context_length, model.max_output, model.prices) == (131_072, 32_768, ())


def test_github_copilot() -> None:
    model = one(
        {
            "id": "gpt-5",
            "name": "GPT-5",
            "capabilities": {
                "type": "chat",
                "limits": {
                    "max_context_window_tokens": 264_000,
                    "max_prompt_tokens": 128_000,
                    "max_output_tokens": 64_000,
                },
                "supports": {"tool_calls": True, "vision": True, "structured_outputs": False, "streaming": True},
            },
        }
    )
    assert (model.kind, model.context_length, model.max_output) == ("chat", 264_000, 64_000)
    assert (set(model.able), set(model.unable)) == ({"tools", "vision"}, {"json_schema"})


@pytest.mark.parametrize(
    ("row", "context", "output"),
    [
        ({"max_model_len": 32_768}, 32_768, None),
        ({"meta": {"n_ctx_train": 8192}}, 8192, None),
        ({"metadata": {"context_length": 163_840, "max_tokens": 16_384}}, 163_840, 16_384),
        ({"limits": {"max_input_tokens": 128_000, "max_output_tokens": 4096}}, 128_000, 4096),
        ({"model_spec": {"availableContextTokens": 131_072}}, 131_072, None),
        ({"limit": {"context": 200_000, "output": 64_000}}, 200_000, 64_000),
        ({"context_window": 100_000, "max_tokens": 8000}, 100_000, 8000),
        ({"max_tokens": 8000}, None, None),
        ({"context_length": 4000, "max_output_tokens": 5000}, 4000, None),
        ({"context_length": "131072"}, 131_072, None),
        ({"context_length": 131_072.0}, 131_072, None),
        ({"context_length": "128k"}, None, None),
        ({"context_length": 0}, None, None),
        ({"context_length": -1}, None, None),
        ({"context_length": True}, None, None),
        ({"context_length": 10**12}, None, None),
        ({"context_length": None, "context_window": 5}, 5, None),
    ],
)
def test_sizes(row: dict[str, Any], context: int | None, output: int | None) -> None:
    model = one({"id": "a", **row})
    assert (model.context_length, model.max_output) == (context, output)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"id": "m", "type": "chat"}, "chat"),
        ({"id": "m", "type": "language"}, "chat"),
        ({"id": "m", "type": "embedding"}, "embedding"),
        ({"id": "m", "type": "rerank"}, "rerank"),
        ({"id": "m", "type": "model"}, None),
        ({"id": "m", "model_type": "image"}, "image"),
        ({"id": "m", "endpoints": ["chat", "generate"]}, "chat"),
        ({"id": "m", "endpoints": ["embed"]}, "embedding"),
        ({"id": "m", "supports_chat": True}, "chat"),
        ({"id": "m", "outputModalities": ["TEXT"]}, "chat"),
        ({"id": "m", "outputModalities": ["IMAGE"]}, "image"),
        ({"id": "m", "outputModalities": ["EMBEDDING"]}, "embedding"),
        ({"id": "m", "modalities": {"input": ["text"], "output": ["speech"]}}, "audio"),
        ({"id": "text-embedding-3-large"}, "embedding"),
        ({"id": "BAAI/bge-m3"}, "embedding"),
        ({"id": "nomic-embed-text:latest"}, "embedding"),
        ({"id": "omni-moderation-latest"}, "moderation"),
        ({"id": "openai/whisper-large-v3"}, "audio"),
        ({"id": "gpt-4o-mini-tts"}, "audio"),
        ({"id": "gpt-4o-transcribe"}, "audio"),
        ({"id": "gpt-image-1"}, "image"),
        ({"id": "dall-e-3"}, "image"),
        ({"id": "sora-2"}, "video"),
        ({"id": "mistral-ocr-latest"}, "ocr"),
        ({"id": "gpt-5"}, None),
        ({"id": "gpt-4o-audio-preview"}, None),
        ({"id": "claude-opus-4-7"}, None),
        ({"id": "attention-tts-x/llama"}, "audio"),
    ],
)
def test_kinds(row: dict[str, Any], kind: str | None) -> None:
    assert one(row).kind == kind


@pytest.mark.parametrize(
    ("row", "able", "unable"),
    [
        ({"supports_tools": True, "supports_image_input": False}, {"tools"}, {"vision"}),
        ({"supports_reasoning": True, "supports_image_in": True}, {"reasoning", "vision"}, set()),
        ({"tags": ["tool-use", "reasoning", "vision", "implicit-caching"]}, {"tools", "reasoning", "vision"}, set()),
        ({"features": ["function-calling", "structured-outputs"]}, {"tools", "json_schema"}, set()),
        ({"metadata": {"tags": ["vision"]}}, {"vision"}, set()),
        ({"capabilities": ["streaming", "tool-calling"]}, {"tools"}, set()),
        ({"supported_features": ["tools", "json_mode"]}, {"tools"}, {"json_schema", "reasoning"}),
        (
            {"model_spec": {"capabilities": {"supportsVision": True, "supportsFunctionCalling": False}}},
            {"vision"},
            {"tools"},
        ),
        ({"input_modalities": ["text"]}, set(), {"vision"}),
        ({"inputModalities": ["TEXT", "IMAGE"]}, {"vision"}, set()),
        ({"capabilities": {"vision": "yes"}}, set(), set()),
        ({}, set(), set()),
    ],
)
def test_capabilities(row: dict[str, Any], able: set[str], unable: set[str]) -> None:
    model = one({"id": "a", **row})
    assert (set(model.able), set(model.unable)) == (able, unable)


@pytest.mark.parametrize(
    ("row", "prices"),
    [
        ({"pricing": {"input": 0.88, "output": 0.88, "hourly": 0}}, {"input": "0.88", "output": "0.88"}),
        ({"pricing": {"input": "0.000003", "output": "0.000015"}}, {"input": "3", "output": "15"}),
        ({"pricing": {"prompt": 0.2, "completion": 0.8}}, {"input": "0.2", "output": "0.8"}),
        ({"pricing": {"prompt": 2.5e-08, "completion": 1.25e-07}}, {"input": "0.025", "output": "0.125"}),
        (
            {"metadata": {"pricing": {"input_tokens": 0.5, "output_tokens": 2.18, "cache_read_tokens": 0.1}}},
            {"input": "0.5", "output": "2.18", "cache_read": "0.1"},
        ),
        (
            {"model_spec": {"pricing": {"input": {"usd": 0.7, "vcu": 7}, "output": {"usd": 2.8}}}},
            {"input": "0.7", "output": "2.8"},
        ),
        ({"price": {"input": {"usd": 0.3}, "output": {"usd": 1.2}}}, {"input": "0.3", "output": "1.2"}),
        (
            {"input_token_price_per_m": 2700, "output_token_price_per_m": 11_000},
            {"input": "0.27", "output": "1.1"},
        ),
        (
            {"input_price": 0.00000125, "output_price": 0.00001, "cached_price": 0.000000125},
            {"input": "1.25", "output": "10", "cache_read": "0.125"},
        ),
        ({"id": "a:free", "pricing": {"prompt": "0", "completion": "0"}}, {"input": "0", "output": "0"}),
        ({"isFree": True, "pricing": {"prompt": "0", "completion": "0"}}, {"input": "0", "output": "0"}),
        ({"pricing": {"prompt": "0", "completion": "0", "image": "0.04"}}, {}),
        ({"pricing": {"prompt": "-1", "completion": "-1"}}, {}),
        ({"pricing": {"prompt": "0.000001"}}, {}),
        ({"pricing": {"input": 1, "output": 2, "currency": "EUR"}}, {}),
        ({"pricing": {"input": "NaN", "output": "Infinity"}}, {}),
        ({"pricing": {"input": True, "output": [1]}}, {}),
        ({"pricing": {"input": 10**9, "output": 10**9}}, {}),
        ({"pricing": "cheap"}, {}),
        ({}, {}),
    ],
)
def test_prices(row: dict[str, Any], prices: dict[str, str]) -> None:
    assert dict(one({"id": "a", **row}).prices) == prices


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from(
    [
        "id", "name", "capabilities", "pricing", "price", "architecture", "limits", "meta", "metadata", "properties",
        "type", "task", "modalities", "supported_parameters", "context_length", "max_tokens", "model_spec", "endpoints",
    ]
)  # fmt: skip


@given(st.dictionaries(_KEYS, _JSON, max_size=8))
def test_no_row_breaks_the_reader(row: dict[str, Any]) -> None:
    page = model_lists.parse(json.dumps({"data": [row, {"id": "ok"}]}).encode(), url=URL, most=10)
    assert page is not None
    assert "ok" in [model.model_id for model in page.models]


# --- Ollama's descriptions -------------------------------------------------------------------------------------------


def described(document: Any) -> DiscoveredModel:
    return model_lists.described(DiscoveredModel("m"), json.dumps(document).encode())


def test_what_ollama_says_of_a_model() -> None:
    model = described(
        {
            "parameters": 'stop "x"\nnum_ctx                        16384',
            "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40_960},
            "capabilities": ["completion", "tools", "thinking"],
        }
    )
    assert model.context_length == 16_384, "what was set there wins"
    assert (set(model.able), set(model.unable)) == ({"tools", "reasoning"}, {"vision"})
    assert described({"model_info": {"qwen3.context_length": 40_960}}).context_length == 40_960
    assert described({"capabilities": ["embedding"]}).kind == "embedding"
    assert described({"capabilities": ["completion"]}).unable == {"tools", "vision", "reasoning"}
    assert described({}) == DiscoveredModel("m")
    assert model_lists.described(DiscoveredModel("m"), b"<html>") == DiscoveredModel("m")
