"""The simulated provider's own count against the gateway's log: a bill that reconciles to the cent."""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from tests.e2e.processes import Sandbox, Server, running_sandbox, running_server, wait_until

NODES: Final[dict[str, dict[str, Any]]] = {
    "oa": {"base": "/v1"},
    "re": {"base": "/v1", "api_type": "responses"},
    "an": {"base": "/v1", "kind": "anthropic-compatible"},
    "ge": {"base": "/v1beta", "kind": "gemini-compatible"},
    "ol": {"base": "", "kind": "ollama"},
}
DIALECTS: Final = {
    "openai_chat": "oa",
    "openai_responses": "re",
    "anthropic_messages": "an",
    "gemini": "ge",
    "ollama": "ol",
}
MODELS: Final = ("echo", "think", "tools", "story-30-1", "story-400-15", "cut-12")
RATES: Final = {"input": 3.0, "output": 15.0, "cached": 0.3, "cacheWrite": 3.75, "reasoning": 20.0}
"""USD per million tokens."""
LONG: Final = "The ledger of the signal house is kept with care. " * 120


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("invoices") / "sandbox.log") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, provider: Sandbox) -> Iterator[Server]:
    patient = {"OMNIROUTE_CIRCUIT_BREAKER_LOCAL_THRESHOLD": "1000"}
    with running_server(tmp_path_factory.mktemp("invoiced") / "data", workers=2, **patient) as running:
        for prefix, node in NODES.items():
            running.add_node(
                provider.url + node["base"],
                prefix=prefix,
                kind=node.get("kind", "openai-compatible"),
                api_type=node.get("api_type"),
            )
        running.api("PATCH", "/api/pricing", {prefix: dict.fromkeys(MODELS, RATES) for prefix in NODES})
        running.settle()
        yield running


class Caller:
    """Asks in all dialects; every prompt is different, as every request of a bill is."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {server.new_key()}"
        server.settle()
        self.ids: dict[str, str] = {}
        """Our request ids, by what was asked."""

    def ask(
        self, surface: str, model: str, *, is_stream: bool, leaves_after: int | None = None, turns: bool = False
    ) -> str:
        text = f"request number {next(self._numbers)} says marigold"
        path, body = _request(surface, model, text, is_stream=is_stream, turns=turns)
        with self._session.post(self._server.url + path, json=body, stream=True, timeout=60) as response:
            assert response.status_code == 200, response.text
            if leaves_after is None:
                assert response.content
            else:
                seen = 0
                for chunk in response.iter_content(None):
                    seen += len(chunk)
                    if seen >= leaves_after:
                        break
            identity = response.headers["X-OmniRoute-Request-Id"]
        self.ids[identity] = text
        return identity


TOOLS: Final = {"type": "object", "properties": {"city": {"type": "string"}}}


def _request(surface: str, model: str, text: str, *, is_stream: bool, turns: bool) -> tuple[str, dict[str, Any]]:
    said = [LONG, "I have read it.", text] if turns else [text]
    roles = ["user", "assistant", "user"][-len(said) :]
    messages: list[dict[str, Any]] = [{"role": r, "content": s} for r, s in zip(roles, said, strict=True)]
    base: dict[str, Any] = {"model": model, "stream": is_stream}
    function: dict[str, Any] = {"name": "weather", "description": "tells it", "parameters": TOOLS}
    has_tools = model.endswith("/tools")
    match surface:
        case "chat":
            tools = {"tools": [{"type": "function", "function": function}]} if has_tools else {}
            return "/v1/chat/completions", {**base, "messages": messages, **tools}
        case "responses":
            tools = {"tools": [{"type": "function", **function}]} if has_tools else {}
            return "/v1/responses", {**base, "input": messages, **tools}
        case "messages":
            if turns:
                messages[0]["content"] = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
            tool = {"name": "weather", "description": "tells it", "input_schema": TOOLS}
            thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}} if model.endswith("/think") else {}
            tools = {"tools": [tool]} if has_tools else {}
            return "/v1/messages", {**base, "max_tokens": 4000, "messages": messages, **tools, **thinking}
        case "gemini":
            names = {"user": "user", "assistant": "model"}
            contents = [{"role": names[m["role"]], "parts": [{"text": m["content"]}]} for m in messages]
            declared: dict[str, Any] = {"tools": [{"functionDeclarations": [function]}]} if has_tools else {}
            verb = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
            return f"/v1beta/models/{model}:{verb}", {"contents": contents, **declared}
        case "ollama":
            tools = {"tools": [{"type": "function", "function": function}]} if has_tools else {}
            return "/api/chat", {**base, "messages": messages, **tools}
        case _:
            raise ValueError(surface)


def bill(provider: Sandbox) -> list[dict[str, Any]]:
    """The provider's own lines."""
    text = requests.get(f"{provider.url}/__invoice", timeout=10).text
    return list(csv.DictReader(io.StringIO(text)))


def amount(line: dict[str, Any]) -> float:
    """What a line costs at the agreed prices, by the provider's arithmetic."""
    read, written = int(line["cached_tokens"]), int(line["cache_write_tokens"])
    fresh = int(line["input_tokens"]) - read - written
    reasoning = int(line["reasoning_tokens"])
    spoken = int(line["output_tokens"]) - reasoning
    parts = (
        (fresh, RATES["input"]),
        (read, RATES["cached"]),
        (written, RATES["cacheWrite"]),
        (spoken, RATES["output"]),
        (reasoning, RATES["reasoning"]),
    )
    return sum(count * rate for count, rate in parts) / 1_000_000


def invoice_of(lines: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["Request ID", "Model", "Input Tokens", "Cached Tokens", "Output Tokens", "Cost (USD)"])
    for line in lines:
        writer.writerow(
            [
                line["request_id"],
                line["model"],
                line["input_tokens"],
                line["cached_tokens"],
                line["output_tokens"],
                f"{amount(line):.9f}",
            ]
        )
    return out.getvalue()


@pytest.fixture(scope="module")
def traffic(gateway: Server, provider: Sandbox) -> tuple[Caller, list[dict[str, Any]]]:
    """Everything that can become of a request, in all dialects on both sides."""
    caller = Caller(gateway)
    own = {"oa": "chat", "re": "responses", "an": "messages", "ge": "gemini", "ol": "ollama"}
    for prefix, surface in own.items():
        for is_stream in (False, True):
            for model in ("echo", "think", "tools", "story-30-1"):
                caller.ask(surface, f"{prefix}/{model}", is_stream=is_stream)
                other = "messages" if surface != "messages" else "chat"
                caller.ask(other, f"{prefix}/{model}", is_stream=is_stream)
            caller.ask(surface, f"{prefix}/echo", is_stream=is_stream, turns=True)
        caller.ask(surface, f"{prefix}/cut-12", is_stream=True)
        caller.ask("chat", f"{prefix}/cut-12", is_stream=True)
        caller.ask(surface, f"{prefix}/story-400-15", is_stream=True, leaves_after=4000)
        caller.ask("messages", f"{prefix}/story-400-15", is_stream=True, leaves_after=4000)

    def all_settled() -> bool:
        known = {row["requestId"] for row in gateway.logs()}
        return set(caller.ids) <= known and len(bill(provider)) == len(caller.ids)

    wait_until(all_settled, within_s=30, what="every request is in the log and on the bill")
    return caller, bill(provider)


def reconciled(gateway: Server, text: str, **query: str) -> dict[str, Any]:
    since = "&".join(
        f"{name}={value}" for name, value in {"since": "2020-01-01", "until": "2100-01-01", **query}.items()
    )
    answer = gateway.session.post(
        f"{gateway.url}/api/usage/reconcile?{since}",
        data=text.encode(),
        headers={"Origin": gateway.url, "Content-Type": "text/csv"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_the_bill_and_the_log_agree_to_the_cent(gateway: Server, traffic: tuple[Caller, list[dict[str, Any]]]) -> None:
    caller, lines = traffic
    found = reconciled(gateway, invoice_of(lines))
    assert found["isEqual"], found
    assert found["comparedBy"] == "request"
    totals = found["totals"]
    assert (totals["onlyInInvoice"], totals["onlyInLog"], totals["differing"]) == (0, 0, 0), found
    assert totals["matched"] == len(lines) == len(caller.ids)
    assert abs(float(totals["differenceUsd"])) <= 0.001, "a tenth of a cent, for the prompts of cut streams"
    assert float(totals["log"]["usd"]) > 0.02, "or nothing was compared"
    assert totals["log"]["estimated"] >= 20, "cut and cancelled streams are among them"


def receipts(gateway: Server, **filters: str) -> dict[str, dict[str, Any]]:
    """Return the receipts of the log by the provider's own ids."""
    found = {}
    for row in gateway.logs(**filters):
        receipt = gateway.api("GET", f"/api/usage/receipts/{row['requestId']}")["receipt"]
        found[receipt["charges"][0]["upstreamRequestId"]] = receipt
    return found


@pytest.mark.parametrize("prefix", list(NODES))
def test_each_provider_agrees_and_whole_answers_agree_exactly(
    gateway: Server, traffic: tuple[Caller, list[dict[str, Any]]], prefix: str
) -> None:
    lines = [line for line in traffic[1] if DIALECTS[line["dialect"]] == prefix and line["ending"] == "complete"]
    assert len(lines) == 18
    if prefix in ("oa", "re", "an", "ge"):  # Ollama has no cache, and tells of none
        assert any(int(line["cached_tokens"]) or int(line["cache_write_tokens"]) for line in lines)
    if prefix in ("oa", "re", "ge"):  # the others do not tell reasoning from the rest of the output
        assert any(int(line["reasoning_tokens"]) for line in lines)
    by_id = receipts(gateway, provider=prefix)
    for line in lines:
        receipt = by_id[line["request_id"]]
        assert (receipt["tokensIn"], receipt["tokensOut"]) == (int(line["input_tokens"]), int(line["output_tokens"]))
        assert (receipt["cacheRead"] or 0) == int(line["cached_tokens"])
        assert not receipt["isEstimated"]
        assert receipt["totalNanoUsd"] == pytest.approx(amount(line) * 1e9, abs=1)
        assert receipt["costKind"] == "billed"
        assert sum(part["nanoUsd"] for part in receipt["charges"][0]["lines"]) == pytest.approx(
            receipt["totalNanoUsd"], abs=len(receipt["charges"][0]["lines"])
        )
        assert {part["source"] for part in receipt["charges"][0]["lines"]} == {"provider"}


def test_an_error_on_either_side_is_found(gateway: Server, traffic: tuple[Caller, list[dict[str, Any]]]) -> None:
    lines = [dict(line) for line in traffic[1] if line["ending"] == "complete"]
    lines[0]["output_tokens"] = str(int(lines[0]["output_tokens"]) + 5000)
    stranger = {**lines[1], "request_id": "req_never_seen", "output_tokens": "90000", "reasoning_tokens": "0"}
    found = reconciled(gateway, invoice_of([*lines[:-1], stranger]))
    assert not found["isEqual"]
    assert found["differing"][0]["name"] == lines[0]["request_id"]
    assert found["differing"][0]["why"] == ["tokens"]
    assert [entry["name"] for entry in found["onlyInInvoice"]] == ["req_never_seen"]
    assert found["totals"]["onlyInLog"] >= 1


def test_a_bill_by_day_and_model_agrees(gateway: Server, traffic: tuple[Caller, list[dict[str, Any]]]) -> None:
    by_id = receipts(gateway)

    def group(line: dict[str, Any]) -> tuple[str, str]:
        return by_id[line["request_id"]]["time"][:10], line["model"]

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["date", "model", "input_tokens", "output_tokens", "amount", "currency"])
    for (day, model), some in itertools.groupby(sorted(traffic[1], key=group), key=group):
        members = list(some)
        sums = [sum(int(line[name]) for line in members) for name in ("input_tokens", "output_tokens")]
        writer.writerow([day, model, *sums, f"{sum(map(amount, members)):.6f}", "usd"])
    found = reconciled(gateway, out.getvalue())
    assert (found["isEqual"], found["comparedBy"]) == (True, "day"), found


def test_the_command_says_whether_they_agree(
    gateway: Server, traffic: tuple[Caller, list[dict[str, Any]]], tmp_path: Path
) -> None:
    def run(text: str, *options: str) -> tuple[int, str, str]:
        (tmp_path / "bill.csv").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "omniroute", "cost", "reconcile", "--invoice", str(tmp_path / "bill.csv"), *options],
            env=dict(gateway.environment),
            cwd=gateway.data_dir.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    ever = ("--since", "2020-01-01", "--until", "2100-01-01")
    code, out, told = run(invoice_of(traffic[1]), *ever, "--output", "json")
    assert (code, json.loads(out)["isEqual"]) == (0, True), told
    assert "They agree." in told
    code, out, told = run(invoice_of(traffic[1][:-20]), *ever, "--tolerance", "0")
    assert code == 1, told
    assert "They do not agree." in told
    assert run(invoice_of(traffic[1]))[0] == 2, "no dates, and none given"
    assert run("a,b\n1,2\n")[0] == 2
    code, _, told = run("request_id,cost,currency\nx,1.00,EUR\n")
    assert code == 2
    assert "only USD" in told
