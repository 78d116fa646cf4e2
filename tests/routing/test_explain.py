from __future__ import annotations

import dataclasses
import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniroute.records import RequestRecord
from omniroute.routing.asked import Asked, Chance
from omniroute.routing.decision import Record, record_from
from omniroute.routing.decision_document import document, iso_time
from omniroute.routing.explain import REASONS, text
from omniroute.routing.options import Account, AuthClass, Block, Features, Option, Step, Strategy
from omniroute.routing.plan import Reason
from omniroute.routing.planning import plan
from omniroute.routing.recorder import Draft, Noted, Recorder
from omniroute.routing.view import Breaker, BreakerState, Figures, Load, Rest, Still
from tests.routing.worlds import NOW, RATE, TRANSIENT, recorded, settled, world

AT = 1_800_000_000.0


def account(name: str, provider: str) -> Account:
    return Account(f"conn_{name}", provider, AuthClass.API_KEY, rest_scope=f"connection:conn_{name}")


A, B, C, D = account("a", "openai"), account("b", "openai"), account("c", "groq"), account("d", "node_1")
GPT = Option("openai/gpt", "openai", "gpt", (A, B))
LLAMA = Option("groq/llama", "groq", "llama", (C,))
OWN = Option("mine/own", "node_1", "own", (D,))
BLOCK = Block(
    Strategy.PRIORITY,
    (Step("step_1", GPT, name=GPT.name), Step("step_2", LLAMA, name=LLAMA.name), Step("step_3", OWN, name=OWN.name)),
    scope="combo_1",
    name="smart",
    levels={"maxRetries": "combo"},
    policy_hash="cafe",
)
VIEW = Still(
    rests={"conn_a": Rest("cooling", AT + 90, kind="rate", hint_source="retry-after")},
    loads={"conn_a": Load(1, AT - 9), "conn_b": Load(2, AT - 4, is_full=True)},
    figures={"groq/llama": Figures(9, 10, ttft_p50=240.0)},
    breakers={"node_1": Breaker(BreakerState.OPEN, 8, AT + 30)},
)
FEATURES = Features(
    requested="best",
    client_format="anthropic_messages",
    is_stream=True,
    estimated_input=1200,
    max_output=4096,
    needs=frozenset({"tools"}),
    key_id="key_1",
    session="5e55",
    is_explicit_session=True,
    budget_nano=50_000_000,
)


def begun(block: Block = BLOCK, features: Features = FEATURES) -> Draft:
    asked = Asked(features, Noted(VIEW), AT, Chance(0xBEEF))
    trace = [("combo", "best", None), ("alias", "best", "combo/smart"), ("combo/", "combo/smart", "smart")]
    recorder = Recorder(gateway_version="0.4.0")
    return recorder.begin("req_1", block, asked, plan(block, asked), trace=trace, config_version=7)


def ended(draft: Draft, record: RequestRecord, target: str | None = None) -> Record:
    return record_from(draft.finish(record, target=target, is_committed=target is not None).body)


@pytest.fixture
def fallen_back() -> Record:
    draft = begun()
    draft.wait("rpm_full", 250.0)
    draft.attempt(
        "openai/gpt", "conn_b", started_ms=0, ended_ms=800, headers_ms=790, failure=RATE, intents=("cooldown",)
    )
    draft.attempt("groq/llama", "conn_c", started_ms=800, ended_ms=1100, headers_ms=1000, content_ms=1100, status=200)
    draft.bind("conn_b", has_moved=True)
    billed = settled(connection_id="conn_c", cost_nano_usd=1_234_000, cost_kind="billed", cache_read=400)
    return ended(draft, billed, "groq/llama")


TOLD = """\
Request req_1, 2027-01-15 08:00:00 UTC

Asked
  model    best, anthropic_messages, streamed
  size     about 1,200 tokens, at most 4,096 tokens of answer
  needs    tools
  task     general
  key      key_1
  session  5e55, named by the caller
  budget   $0.050000, soft

Resolved
  combo   best: no
  alias   best → combo/smart
  combo/  combo/smart → smart
  The strategy of smart is priority, over 3 steps.
  Settings that are not the default:
    maxRetries  1 (from combo)

Possible, in this order
  1  openai/gpt  conn_b
  2  groq/llama  conn_c  9 of 10 succeeded, first content after 240 ms

Left out
  mine/own    conn_d  its provider's breaker is open, until 2027-01-15 08:00:30 UTC (30.0 s later)
  openai/gpt  conn_a  it rests after a failure (rate), until 2027-01-15 08:01:30 UTC (2 min later)

Tried
  1  openai/gpt  conn_b  429 rate (rate_limit) after 800 ms, code rate_limit_exceeded, retry after 20.0 s (said by \
retry-after); health: cooldown
  2  groq/llama  conn_c  answered 200 after 300 ms, first content after 300 ms
  Waited 250 ms (rpm_full).

Why this answer
  groq/llama on conn_c was the first to answer, after 1 failed attempt.
  The session, which stayed with conn_b, stays with conn_c from now on.

Cost
  1,000 tokens in (400 from the cache), 300 tokens out.
  $0.001234 (billed).
  Done after 2.0 s.

Policy cafe, configuration 7, OmniRoute 0.4.0, seed 000000000000beef.
"""


def test_a_decision_in_words(fallen_back: Record) -> None:
    assert text(fallen_back) == TOLD


def test_the_document_has_the_public_names(fallen_back: Record) -> None:
    shown = document(fallen_back)
    assert {name: shown[name] for name in ("v", "requestId", "at", "seed", "policyHash", "configVersion")} == {
        "v": 1,
        "requestId": "req_1",
        "at": "2027-01-15T08:00:00.000Z",
        "seed": "000000000000beef",
        "policyHash": "cafe",
        "configVersion": 7,
    }
    assert shown["request"] == {
        "model": "best",
        "clientFormat": "anthropic_messages",
        "stream": True,
        "estInput": 1200,
        "maxOutput": 4096,
        "needs": ["tools"],
        "task": "general",
        "effort": None,
        "keyId": "key_1",
        "session": "5e55",
        "connection": None,
        "headers": {"budget": 0.05},
    }
    assert shown["resolution"][1] == {"stage": "alias", "in": "best", "out": "combo/smart"}
    assert shown["settings"]["maxRetries"] == [1, "combo"]
    assert shown["settings"]["maxAttempts"] == [12, "default"]
    assert [(one["n"], one["target"], one["connection"]) for one in shown["candidates"]] == [
        (1, "openai/gpt", "conn_b"),
        (2, "groq/llama", "conn_c"),
    ]
    assert shown["candidates"][0]["view"] == {}  # with one account left, nobody asked how busy it is
    assert shown["candidates"][1]["view"]["ttftP50Ms"] == 240.0
    assert shown["exclusions"][1] == {
        "target": "openai/gpt",
        "connection": "conn_a",
        "reason": "cooling",
        "until": "2027-01-15T08:01:30.000Z",
        "detail": "rate",
    }
    failed, served = shown["attempts"]
    assert failed == {
        "n": 1,
        "candidate": 1,
        "target": "openai/gpt",
        "connection": "conn_b",
        "kind": "normal",
        "startedMs": 0.0,
        "headersMs": 790.0,
        "endedMs": 800.0,
        "outcome": "rate",
        "class": "rate_limit",
        "status": 429,
        "code": "rate_limit_exceeded",
        "retryAfterSec": 20.0,
        "hintSource": "retry-after",
        "intents": ["cooldown"],
    }
    assert (served["candidate"], served["outcome"], served["firstContentMs"]) == (2, "success", 1100.0)
    assert shown["waits"] == [{"reason": "rpm_full", "ms": 250.0}]
    assert shown["affinity"] == {"bound": "conn_b", "moved": True}
    assert shown["result"]["costUsd"] == 0.001234
    assert shown["truncated"] == {"candidates": 0, "exclusions": 0}
    assert "chain" not in shown


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        ("failed", "Nobody answered.\n  The caller was told 503 upstream_error."),
        ("cancelled", "The client left before anybody answered."),
    ],
)
def test_why_nobody_answered(outcome: str, sentence: str) -> None:
    draft = begun()
    draft.attempt("openai/gpt", "conn_b", started_ms=0, ended_ms=5, kind="retry", failure=TRANSIENT)
    code = "upstream_error" if outcome == "failed" else None
    told = text(ended(draft, settled(status=503, outcome=outcome, error_code=code, tokens_in=None, tokens_out=None)))
    assert sentence in told
    assert "retry: 500 server (transient) after 5 ms" in told
    assert "tokens in" not in told


def test_when_everything_was_left_out() -> None:
    alone = dataclasses.replace(BLOCK, steps=BLOCK.steps[2:])
    record = ended(begun(alone), settled(status=503, outcome="failed", error_code="no_eligible_target"))
    told = text(record)
    assert "Possible, in this order\n  Nothing." in told
    assert "Tried\n  Nobody." in told
    assert "Nobody answered: everything that might have was left out." in told
    assert document(record)["candidates"] == []


def test_who_led_and_served_at_once() -> None:
    draft = begun()
    draft.attempt("openai/gpt", "conn_b", started_ms=0, ended_ms=5, status=200)
    told = text(ended(draft, settled(), "openai/gpt"))
    assert "openai/gpt on conn_b led the order: priority puts it first, and 2 targets were left out." in told
    plain = Block(Strategy.PRIORITY, (Step(GPT.name, GPT),))
    draft = begun(plain)
    draft.attempt("openai/gpt", "conn_b", started_ms=0, ended_ms=5, status=200)
    assert "it is the one that may serve this model" in text(ended(draft, settled(), "openai/gpt"))


def test_a_chain_is_told() -> None:
    draft = begun(dataclasses.replace(BLOCK, steps=BLOCK.steps[2:]))
    other = Block(Strategy.PRIORITY, (Step("0", LLAMA),), name="spare")
    asked = Asked(FEATURES, Noted(VIEW), AT + 1, Chance(1))
    draft.chain("spare", other, asked, plan(other, asked))
    draft.attempt("groq/llama", "conn_c", started_ms=0, ended_ms=5, status=200)
    record = ended(draft, settled(), "groq/llama")
    assert "groq/llama on conn_c came from the fallback chain spare." in text(record)
    assert document(record)["chain"] == "spare"
    assert document(record)["attempts"][0]["candidate"] == 1


def test_every_reason_has_its_words() -> None:
    assert set(REASONS) == set(Reason)
    assert len(set(REASONS.values())) == len(REASONS)


@pytest.mark.parametrize(
    ("at", "shown"), [(None, None), (-1.0, None), (1e300, None), (0.0, "1970-01-01T00:00:00.000Z")]
)
def test_times(at: float | None, shown: str | None) -> None:
    assert iso_time(at) == shown


@settings(max_examples=100)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_any_record_can_be_told(rng: Random, failures: int) -> None:
    record = record_from(recorded(world(rng), failures=failures).body)
    told = text(record)
    titles = ["Asked", "Resolved", "Possible, in this order", "Left out", "Tried", "Why this answer", "Cost"]
    assert [line for line in told.splitlines() if line in titles] == titles
    shown = json.loads(json.dumps(document(record)))
    assert len(shown["attempts"]) == len(record.decision.attempts)
    assert all(one["candidate"] for one in shown["attempts"])
    assert iso_time(NOW) is not None
