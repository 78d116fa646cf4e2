"""Google's own SDK, and what it cannot be made to send, over every kind of provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google import genai
from google.genai import errors, types

from tests.e2e.processes import Server, wait_until
from tests.e2e.test_endpoints import EACH

VERSIONS = pytest.mark.parametrize("version", [None, "v1beta", "v1"])
SAID = {"contents": [{"role": "user", "parts": [{"text": "say marigold"}]}]}


@pytest.fixture
def clients(server: Server, api_key: str) -> Iterator[dict[str | None, genai.Client]]:
    """A client for each version of the API; `None` is what the SDK chooses itself."""
    made = {
        version: genai.Client(api_key=api_key, http_options=types.HttpOptions(base_url=server.url, api_version=version))
        for version in (None, "v1beta", "v1")
    }
    yield made
    for client in made.values():
        client.close()


@EACH
@VERSIONS
def test_the_sdk(clients: dict[str | None, genai.Client], prefix: str, version: str | None) -> None:
    models = clients[version].models
    for name in (f"{prefix}/echo", f"models/{prefix}/echo"):
        answer = models.generate_content(model=name, contents="say marigold")
        assert answer.text == "say marigold"
        assert answer.model_version == f"{prefix}/echo" or answer.model_version == name
        assert answer.usage_metadata is not None
        assert (answer.usage_metadata.prompt_token_count or 0) > 0
        pieces = list(models.generate_content_stream(model=name, contents="say marigold"))
        assert "".join(piece.text or "" for piece in pieces) == "say marigold"
        assert pieces[-1].candidates
        assert pieces[-1].candidates[0].finish_reason is types.FinishReason.STOP
        assert (models.count_tokens(model=name, contents="say marigold").total_tokens or 0) > 0
        assert models.get(model=name).name == f"models/{prefix}/echo"


@VERSIONS
def test_the_sdk_lists_models_page_by_page(clients: dict[str | None, genai.Client], version: str | None) -> None:
    names = [model.name or "" for model in clients[version].models.list(config={"page_size": 7})]
    assert "models/sandbox/echo" in names
    assert len(set(names)) == len(names) > 7


@VERSIONS
def test_the_sdk_understands_refusals(clients: dict[str | None, genai.Client], version: str | None) -> None:
    models = clients[version].models
    with pytest.raises(errors.ClientError) as caught:
        models.generate_content(model="nobody/x", contents="hi")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    with pytest.raises(errors.ClientError) as caught:
        models.generate_content(model="an/fail-429", contents="hi")
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    with pytest.raises(errors.ServerError) as failed:
        list(models.generate_content_stream(model="an/fail-529", contents="hi"))
    assert (failed.value.code, failed.value.status) == (503, "UNAVAILABLE")


def test_the_sdk_counts_with_instructions_and_tools(clients: dict[str | None, genai.Client]) -> None:
    tool = {"functionDeclarations": [{"name": "f", "description": "adds " * 50, "parameters": {"type": "OBJECT"}}]}
    whole: dict[str, object] = {
        "generateContentRequest": {
            **SAID,
            "model": "models/ge/echo",
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "tools": [tool],
        }
    }
    client = clients["v1beta"]
    short = client.models.count_tokens(model="ge/echo", contents="say marigold").total_tokens or 0
    long = client._api_client.request("post", "models/ge/echo:countTokens", whole)
    assert json.loads(long.body or "{}")["totalTokens"] > short + 20


@EACH
@pytest.mark.parametrize("mount", ["/v1beta", "/api/v1beta", "/v1"])
def test_both_framings_and_every_place_of_the_key(server: Server, api_key: str, prefix: str, mount: str) -> None:
    url = f"{server.url}{mount}/models/{prefix}%2Fecho:streamGenerateContent"
    as_events = requests.post(f"{url}?alt=sse&key={api_key}", json=SAID, timeout=30)
    assert as_events.headers["Content-Type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in as_events.text.splitlines() if line.startswith("data: ")]
    assert all(line.startswith("data: ") or not line for line in as_events.text.splitlines())
    as_array = requests.post(url, json=SAID, headers={"x-goog-api-key": api_key}, timeout=30)
    assert as_array.headers["Content-Type"].startswith("application/json")

    def text_of(chunks: Any) -> str:
        parts = [part for chunk in chunks for part in chunk["candidates"][0]["content"].get("parts", [])]
        return "".join(part.get("text", "") for part in parts)

    assert text_of(events) == text_of(as_array.json()) == "say marigold"
    assert as_array.json()[-1]["candidates"][0]["finishReason"] == "STOP"


def test_the_key_in_the_query_reaches_no_log(server: Server) -> None:
    key = server.new_key()
    before = len(server.output)
    for path in ("models/sandbox/echo:generateContent", "models/nobody/x:generateContent", "models/x:nothing"):
        answer = requests.post(f"{server.url}/v1beta/{path}?key={key}", json=SAID, timeout=10)
        assert key not in answer.text
    listed = requests.get(f"{server.url}/v1beta/models?key={key}", timeout=10)
    assert listed.status_code == 200
    wrong = requests.get(f"{server.url}/v1beta/models?key={key[:-1]}x", timeout=10)
    assert (wrong.status_code, wrong.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    rows = wait_until(server.logs, within_s=5, what="the log")
    assert key not in json.dumps(rows)
    assert key not in server.output[before:]
    both = requests.get(f"{server.url}/v1beta/models?key={key}", headers={"x-goog-api-key": "other"}, timeout=10)
    assert both.headers["X-OmniRoute-Error-Code"] == "ambiguous_credentials"


@pytest.mark.parametrize("action", ["embedContent", "nothing", "", "generateContent:more"])
def test_an_unknown_action_is_not_found_in_the_dialect(server: Server, api_key: str, action: str) -> None:
    answer = requests.post(
        f"{server.url}/v1beta/models/sandbox/echo:{action}", json=SAID, headers={"x-goog-api-key": api_key}, timeout=10
    )
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_pages_of_the_list(server: Server, api_key: str) -> None:
    def get(query: str) -> Any:
        return requests.get(
            f"{server.url}/v1beta/models?{query}", headers={"x-goog-api-key": api_key}, timeout=10
        ).json()

    first = get("pageSize=2")
    second = get(f"pageSize=2&pageToken={first['nextPageToken']}")
    names = [model["name"] for page in (first, second) for model in page["models"]]
    assert len(set(names)) == 4
    assert "nextPageToken" not in get("pageSize=5000")  # the vendor gives at most 1000, whatever was asked for
    assert get("pageToken=x")["error"]["status"] == "INVALID_ARGUMENT"
    one = requests.get(
        f"{server.url}/v1beta/models/sandbox%2Fecho", headers={"x-goog-api-key": api_key}, timeout=10
    ).json()
    assert (one["name"], "countTokens" in one["supportedGenerationMethods"]) == ("models/sandbox/echo", True)
