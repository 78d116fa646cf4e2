"""What each request is charged: every attempt that used tokens, at the price of its target, once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import gevent
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import OmniRouteError
from omniroute.formats.anthropic_messages.stream import MessagesStream
from omniroute.formats.estimates import settled, tokens_of
from omniroute.formats.gemini.stream import GeminiStream
from omniroute.formats.ollama.stream import OllamaStream
from omniroute.formats.openai_chat.stream import ChatStream
from omniroute.formats.openai_responses.stream import ResponsesStream
from omniroute.formats.passthrough import spoken_in
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.wire import WireFormat
from omniroute.gateway.accounting import COST, COST_KIND
from omniroute.gateway.dialects import Surface
from omniroute.gateway.handover import ClientGone
from omniroute.records import Charge, PriceRow, RequestRecord
from tests.fakes.upstream import Act, answer, fake_upstream, hang_up, silence, stream
from tests.gateway.callers import NODES
from tests.gateway.conftest import QUICK, Bench
from tests.gateway.test_continuation import OPTED, WHOLE, ask, finishing, rendered, saying, words
from tests.gateway.test_hedging import DELAY_S, Hook, after, hedged, late
from tests.gateway.test_inference import DONE, HELLO, ROLE, STOP, STREAMED, TEXT, drink, refused

Make = Callable[..., Bench]

IN, OUT, READ = 2_000_000_000, 8_000_000_000, 500_000_000
"""Nano-USD per million tokens."""
PRICES: Final = tuple(
    PriceRow(node, model, "override", 0.0, 0.0, input="2", output="8", cache_read="0.5")
    for node in ("node_up", "node_1")
    for model in ("m", "m-1")
)


def usage_chunk(**usage: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"id": "c", "choices": [], "usage": usage}).encode()


def whole(text: str = "hello there", **usage: Any) -> bytes:
    body: dict[str, Any] = {
        "id": "c",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    return json.dumps({**body, "usage": usage} if usage else body).encode()


def broken(wire_format: WireFormat) -> bytes:
    """A stream without its last piece of text and its end."""
    data = rendered(wire_format, *saying(*words(WHOLE)))
    data = data[: data.index(words(WHOLE)[-2][:4].encode())]
    return data[: data.rindex(b"\n\n") + 2]


def cost(tokens_in: int, tokens_out: int, cached: int = 0) -> int:
    return ((tokens_in - cached) * IN + cached * READ + tokens_out * OUT) // 1_000_000


def lines(charge: Charge) -> dict[str, tuple[int, bool]]:
    return {part.name: (part.count, part.is_estimated) for part in charge.parts}


def check_sums(record: RequestRecord) -> None:
    """What holds for every row."""
    serving = [charge for charge in record.charges if charge.is_serving]
    assert len(serving) <= 1
    if serving:
        assert (record.cost_nano_usd, record.cost_kind) == (serving[0].nano_usd, serving[0].cost_kind)
        assert record.price_id == serving[0].price_id
    else:
        assert (record.cost_nano_usd, record.cost_kind) == (0, "none")
    others = [charge for charge in record.charges if not charge.is_serving and charge.cost_kind == "billed"]
    assert record.extra_nano_usd == sum(charge.nano_usd or 0 for charge in others)
    for charge in record.charges:
        assert all(part.count > 0 and part.nano_usd >= 0 for part in charge.parts)


# --- whole answers and streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [False, True])
def test_reported_tokens_are_charged_at_the_price_of_the_target(bench_of: Make, is_stream: bool) -> None:
    usage: dict[str, Any] = {
        "prompt_tokens": 1000,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 600},
    }
    act = stream(ROLE, TEXT, STOP, usage_chunk(**usage), DONE) if is_stream else answer(whole(**usage))
    with fake_upstream(act) as upstream:
        bench = bench_of(upstream, prices=PRICES)
        opened = bench.call(STREAMED if is_stream else HELLO)
        body = drink(opened) if is_stream else b""
        record = bench.log.only
        expected = cost(1000, 50, 600)
        assert (record.cost_nano_usd, record.cost_kind, record.extra_nano_usd) == (expected, "billed", 0)
        assert (record.tokens_in, record.tokens_out, record.cache_read) == (1000, 50, 600)
        (charge,) = record.charges
        assert lines(charge) == {"input": (400, False), "cache_read": (600, False), "output": (50, False)}
        assert (charge.kind, charge.price_source, record.is_estimated) == ("normal", "override", False)
        text = f"0.{expected:09d}0"
        if is_stream:
            assert f": x-omniroute-response-cost={text}\n: x-omniroute-cost-kind=billed\n".encode() in body
            assert COST not in opened.headers
            assert COST_KIND not in opened.headers
        else:
            assert (opened.headers[COST], opened.headers[COST_KIND]) == (text, "billed")
        check_sums(record)


@pytest.mark.parametrize("is_stream", [False, True])
def test_what_nobody_counts_is_estimated_and_marked(bench_of: Make, is_stream: bool) -> None:
    act = stream(ROLE, TEXT, STOP, DONE) if is_stream else answer(whole("hello"))
    with fake_upstream(act) as upstream:
        bench = bench_of(upstream, prices=PRICES)
        opened = bench.call(STREAMED if is_stream else HELLO)
        body = drink(opened) if is_stream else b""
        record = bench.log.only
        assert record.is_estimated
        assert record.tokens_out == tokens_of(len("hello"))
        assert record.tokens_in is not None
        assert 0 < record.tokens_in < 40
        assert record.cost_nano_usd == cost(record.tokens_in, record.tokens_out)
        (charge,) = record.charges
        assert {flag for _, flag in lines(charge).values()} == {True}
        assert "X-OmniRoute-Tokens-In" not in opened.headers
        assert b"response-cost" not in body
        check_sums(record)


def test_what_is_free_costs_nothing_and_says_so(bench_of: Make) -> None:
    with fake_upstream(answer(whole(prompt_tokens=9, completion_tokens=3))) as upstream:
        bench = bench_of(upstream)
        opened = bench.call(HELLO)
        assert (opened.headers[COST], opened.headers[COST_KIND]) == ("0.0000000000", "free")
        record = bench.log.only
        assert (record.cost_nano_usd, record.cost_kind, record.price_id) == (0, "free", None)
        check_sums(record)


def test_what_is_unpriced_has_no_cost(bench_of: Make) -> None:
    with fake_upstream(answer(whole(prompt_tokens=9, completion_tokens=3))) as upstream:
        bench = bench_of(upstream, is_local=False)
        opened = bench.call(HELLO)
        assert COST not in opened.headers
        assert opened.headers[COST_KIND] == "unpriced"
        assert (bench.log.only.cost_nano_usd, bench.log.only.cost_kind) == (None, "unpriced")


@pytest.mark.parametrize("act", [refused(400), refused(500), hang_up])
def test_a_request_that_nobody_answered_costs_nothing_and_is_not_unpriced(bench_of: Make, act: Act) -> None:
    with fake_upstream(act) as upstream:
        bench = bench_of(upstream, prices=PRICES, is_local=False)
        told: Mapping[str, str]
        try:
            told = bench.call(HELLO).headers
        except OmniRouteError as error:
            told = error.headers
        assert COST_KIND not in told
        record = bench.log.only
        assert (record.cost_nano_usd, record.cost_kind, record.charges, record.tokens_in) == (0, "none", (), None)


def test_a_fallback_is_charged_for_the_answer_alone(bench_of: Make) -> None:
    with fake_upstream(refused(500)) as one, fake_upstream(answer(whole(prompt_tokens=9, completion_tokens=3))) as two:
        bench = bench_of(one, two, prices=PRICES)
        bench.call(HELLO)
        record = bench.log.only
        assert (len(record.attempts), len(record.charges)) == (2, 1)
        assert record.cost_nano_usd == cost(9, 3)


def test_the_provider_s_own_id_is_kept(bench_of: Make) -> None:
    body = whole(prompt_tokens=9, completion_tokens=3)
    with fake_upstream(answer(body, headers={"x-request-id": "req-up-1"})) as upstream:
        bench = bench_of(upstream)
        bench.call(HELLO)
        assert bench.log.only.charges[0].upstream_id == "req-up-1"


# --- ends of all kinds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["hello", "h" * 4001, 'say \\"x\\" and more'])
def test_a_stream_that_breaks_off_is_charged_for_what_came(bench_of: Make, text: str) -> None:
    with fake_upstream(stream(ROLE, TEXT.replace(b"hello", text.encode()), end=False)) as upstream:
        bench = bench_of(upstream, prices=PRICES)
        drink(bench.call(STREAMED))
        record = bench.log.only
        assert (record.outcome, record.is_estimated) == ("truncated", True)
        assert record.tokens_out == pytest.approx(tokens_of(len(text)), abs=1)
        assert record.cost_nano_usd == cost(record.tokens_in or 0, record.tokens_out or 0) > 0
        check_sums(record)


def test_a_client_that_leaves_is_charged_for_what_came(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, *[TEXT] * 40, 5.0)) as upstream:
        bench = bench_of(upstream, prices=PRICES)
        opened = bench.call(STREAMED)
        assert not isinstance(opened.body, bytes)
        seen = b""
        while seen.count(b"hello") < 40:
            seen += next(opened.body)
        opened.body.close()
        record = bench.log.only
        assert (record.outcome, record.is_estimated) == ("cancelled", True)
        assert record.tokens_out == tokens_of(40 * len("hello"))
        assert record.cost_nano_usd == cost(record.tokens_in or 0, record.tokens_out or 0)
        check_sums(record)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_leaves_before_any_answer_is_charged_nothing(bench_of: Make, is_stream: bool) -> None:
    asked = Hook()
    with fake_upstream(asked) as upstream:
        bench = bench_of(upstream, prices=PRICES)
        asked.on_asked = bench.client.close
        with pytest.raises(ClientGone):
            bench.call(STREAMED if is_stream else HELLO)
        record = bench.log.only
        assert (record.outcome, record.cost_nano_usd, record.cost_kind, record.charges) == ("cancelled", 0, "none", ())


def test_a_body_that_is_cut_in_the_middle_was_generated_all_the_same(bench_of: Make) -> None:
    body = whole("y" * 400, prompt_tokens=9, completion_tokens=100)

    def cut(sock: Any, _request: Any) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n" + body)
        return False

    with fake_upstream(cut) as one, fake_upstream(answer(whole(prompt_tokens=9, completion_tokens=3))) as two:
        bench = bench_of(one, two, prices=PRICES)
        bench.call(HELLO)
        record = bench.log.only
        served, lost = record.charges
        assert (served.is_serving, lost.is_serving) == (True, False)
        assert lines(lost)["output"] == (100, True)
        assert record.extra_nano_usd == lost.nano_usd > 0  # type: ignore[operator]
        check_sums(record)


def test_reported_counts_win_one_by_one(bench_of: Make) -> None:
    """Messages tells the prompt at the start: of a stream that breaks off, only the output is ours."""
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": []}
    usage = {"input_tokens": 300, "cache_read_input_tokens": 100, "output_tokens": 1}
    begun = {"type": "message_start", "message": {**start, "usage": usage}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "z" * 80}}
    frames = [
        b"event: %b\ndata: %b\n\n" % (str(one["type"]).encode(), json.dumps(one).encode())
        for one in (begun, block, delta)
    ]
    with fake_upstream(stream(*frames, end=False)) as upstream:
        bench = bench_of(upstream, prices=PRICES, **NODES[WireFormat.ANTHROPIC_MESSAGES])
        ask(bench, Surface.ANTHROPIC_MESSAGES)
        record = bench.log.only
        assert (record.tokens_in, record.tokens_out, record.cache_read) == (400, 20, 100)
        (charge,) = record.charges
        assert lines(charge) == {"input": (300, False), "cache_read": (100, False), "output": (20, True)}
        assert record.cost_nano_usd == cost(400, 20, 100)


def test_usage_that_shrinks_counts_at_its_largest(bench_of: Make) -> None:
    reports = [usage_chunk(prompt_tokens=40, completion_tokens=10), usage_chunk(prompt_tokens=0, completion_tokens=3)]
    with fake_upstream(stream(ROLE, TEXT, *reports, STOP, DONE)) as upstream:
        bench = bench_of(upstream, prices=PRICES)
        drink(bench.call(STREAMED))
        record = bench.log.only
        assert (record.tokens_in, record.tokens_out, record.is_estimated) == (40, 10, False)


@pytest.mark.parametrize("given", [-5, 1 << 50, "7", 1.5])
def test_usage_that_cannot_be_is_not_believed(bench_of: Make, given: Any) -> None:
    with fake_upstream(answer(whole("hello", prompt_tokens=given, completion_tokens=given))) as upstream:
        bench = bench_of(upstream, prices=PRICES)
        bench.call(HELLO)
        record = bench.log.only
        assert record.is_estimated
        assert record.tokens_out == 2
        assert record.cost_nano_usd == cost(record.tokens_in or 0, 2)


# --- attempts that did not serve -------------------------------------------------------------------------------------


def test_an_answer_that_validation_refuses_is_paid_for(bench_of: Make) -> None:
    checked = {**QUICK["combo-defaults", "config"], "responseValidation": {"minContentLength": 5}}
    settings = {**QUICK, ("combo-defaults", "config"): checked}
    empty = answer(whole("", prompt_tokens=100, completion_tokens=20))
    with fake_upstream(empty, answer(whole(prompt_tokens=9, completion_tokens=3))) as upstream:
        bench = bench_of(upstream, prices=PRICES, settings=settings, combo=("up/m", "up/m-1"))
        bench.call({**HELLO, "model": "mix"})
        record = bench.log.only
        assert len(record.attempts) == 2
        assert (record.cost_nano_usd, record.extra_nano_usd) == (cost(9, 3), cost(100, 20))
        assert [charge.is_serving for charge in record.charges] == [True, False]
        check_sums(record)


def test_the_loser_of_a_race_is_booked_beside_the_answer(bench_of: Make) -> None:
    act = answer(whole(prompt_tokens=9, completion_tokens=3))
    with fake_upstream(silence) as slow, fake_upstream(act) as quick:
        bench = bench_of(slow, quick, settings=hedged(hedgeAllowPaid=True), prices=PRICES)
        opened = bench.call(HELLO)
        record = bench.log.only
        served, lost = record.charges
        assert (served.kind, served.is_serving, served.nano_usd) == ("hedge", True, cost(9, 3))
        assert (lost.kind, lost.is_serving) == ("normal", False)
        assert {flag for _, flag in lines(lost).values()} == {True}
        assert record.extra_nano_usd == lost.nano_usd
        assert opened.headers[COST] == f"0.{cost(9, 3) + (lost.nano_usd or 0):09d}0", "all that was billed for it"
        decision = record.decision
        assert decision is not None
        tried = msgspec.json.decode(decision.body)[0]["attempts"]
        assert tried[0]["cost_nano_usd"] == lost.nano_usd
        check_sums(record)


def test_a_hedge_that_lost_is_booked_as_one(bench_of: Make) -> None:
    hedge = Hook()
    head = after(hedge, late(DELAY_S / 4, answer(whole(prompt_tokens=9, completion_tokens=3))))
    with fake_upstream(head) as slow, fake_upstream(hedge) as slower:
        bench = bench_of(slow, slower, settings=hedged(hedgeAllowPaid=True), prices=PRICES)
        bench.call(HELLO)
        served, lost = bench.log.only.charges
        assert (served.kind, lost.kind, lost.is_serving) == ("normal", "hedge", False)
        check_sums(bench.log.only)


@pytest.mark.parametrize("wire_format", [WireFormat.OPENAI_CHAT, WireFormat.ANTHROPIC_MESSAGES])
def test_both_parts_of_a_mended_stream_are_charged_at_their_own_price(bench_of: Make, wire_format: WireFormat) -> None:
    torn = broken(wire_format)
    with fake_upstream(stream(torn, end=False)) as one, fake_upstream(finishing(wire_format)) as two:
        bench = bench_of(one, two, settings=OPTED, prices=PRICES, **NODES[wire_format])
        surface = Surface.OPENAI_CHAT if wire_format is WireFormat.OPENAI_CHAT else Surface.ANTHROPIC_MESSAGES
        data, _ = ask(bench, surface)
        record = bench.log.only
        assert record.outcome == "success"
        served, first = record.charges
        assert (served.kind, served.is_serving, first.kind, first.is_serving) == ("continuation", True, "normal", False)
        assert lines(served) == {"input": (20, False), "output": (7, False)}
        assert served.nano_usd == cost(20, 7)
        assert record.extra_nano_usd == first.nano_usd > 0  # type: ignore[operator]
        assert record.tokens_out == 7 + lines(first)["output"][0]
        total = (served.nano_usd or 0) + (first.nano_usd or 0)
        assert f": x-omniroute-response-cost=0.{total:09d}0\n".encode() in data
        check_sums(record)


def test_a_stream_that_nobody_mends_is_charged_once(bench_of: Make) -> None:
    torn = broken(WireFormat.OPENAI_CHAT)
    with fake_upstream(stream(torn, end=False)) as one, fake_upstream(refused(500)) as two:
        bench = bench_of(one, two, settings=OPTED, prices=PRICES)
        ask(bench, Surface.OPENAI_CHAT)
        record = bench.log.only
        (charge,) = record.charges
        assert (charge.kind, charge.is_serving, record.extra_nano_usd) == ("normal", True, 0)
        check_sums(record)


def test_a_key_that_leaves_no_details_leaves_its_cost(bench_of: Make) -> None:
    from omniroute.gateway.charges import Metered

    with fake_upstream(answer(whole(prompt_tokens=9, completion_tokens=3))) as upstream:
        bench = bench_of(upstream, prices=PRICES)
        made = bench.inference.new_settlement
        bench.inference.new_settlement = lambda record, started, *, is_private: made(  # type: ignore[method-assign]
            record, started, is_private=True
        )
        bench.call(HELLO)
        record = bench.log.only
        assert (record.cost_nano_usd, record.charges, record.attempts) == (cost(9, 3), (), ())
        assert Metered(NOT_REPORTED).is_whole


# --- counting what passes --------------------------------------------------------------------------------------------

_SAID: Final[tuple[tuple[Any, Any], ...]] = (
    (
        lambda: ChatStream(None, lambda _: b"", wants_usage=True),
        lambda t: {"choices": [{"index": 0, "delta": {"content": t}}]},
    ),
    (
        lambda: ChatStream(None, lambda _: b"", wants_usage=True),
        lambda t: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": t}}]}}]},
    ),
    (
        lambda: MessagesStream(None, lambda _: b""),
        lambda t: {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": t}},
    ),
    (lambda: ResponsesStream(None, lambda _: b""), lambda t: {"type": "response.output_text.delta", "delta": t}),
    (lambda: GeminiStream(None, lambda _: b""), lambda t: {"candidates": [{"content": {"parts": [{"text": t}]}}]}),
)


@given(
    st.sampled_from(_SAID),
    st.lists(st.text("abc xyz,.:{}[]'\n", max_size=40), max_size=60),
    st.booleans(),
    st.integers(1, 400),
)
def test_what_is_said_is_counted_however_it_is_cut(
    kind: tuple[Any, Any], texts: list[str], is_spaced: bool, size: int
) -> None:
    made, event = kind
    separators = (", ", ": ") if is_spaced else (",", ":")
    data = b"".join(b"data: %b\n\n" % json.dumps(event(text), separators=separators).encode() for text in texts)
    relay = made()
    for start in range(0, len(data), size):
        relay.feed(data[start : start + size])
    assert relay.spoken == sum(len(json.dumps(text)) - 2 for text in texts)


def test_lines_of_ollama_are_counted() -> None:
    relay = OllamaStream(None, lambda _: b"")
    for text in ("hello ", "there"):
        relay.feed(json.dumps({"model": "m", "message": {"role": "assistant", "content": text}}).encode() + b"\n")
    assert relay.spoken == 11


@given(st.binary(max_size=300))
def test_counting_reads_anything(data: bytes) -> None:
    for members in (ChatStream.said_in, GeminiStream.said_in, OllamaStream.said_in):
        assert 0 <= spoken_in(data + b'"content":"' + data, members) <= 2 * len(data) + 11


COUNTS = st.none() | st.integers(0, 1000)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS)


@given(st.lists(USAGES, min_size=1, max_size=6), st.randoms())
def test_reports_count_at_their_largest_in_any_order(reports: list[Usage], chance: Any) -> None:
    def merged(usages: list[Usage]) -> Usage:
        total = NOT_REPORTED
        for one in usages:
            total = total.merge(one)
        return total

    total = merged(reports)
    for name in ("input", "output", "cache_read", "cache_write"):
        known = [value for one in reports if (value := getattr(one, name)) is not None]
        assert getattr(total, name) == (max(known) if known else None)
    chance.shuffle(reports)
    assert merged(reports) == total


@given(USAGES, st.integers(0, 500), st.integers(0, 5000), st.booleans())
def test_each_count_is_the_provider_s_where_it_gives_one(usage: Usage, prompt: int, said: int, is_whole: bool) -> None:
    found = settled(usage, prompt=prompt, characters=said, is_whole=is_whole)
    assert found.input == (prompt if usage.input is None else usage.input)
    assert found.is_input_estimated is (usage.input is None)
    assert found.output is not None
    if is_whole and usage.output is not None:
        assert (found.output, found.is_output_estimated) == (usage.output, False)
    else:
        assert found.output == max(usage.output or 0, tokens_of(said))
        assert found.is_output_estimated is (found.output != usage.output)


def test_an_estimate_gives_way_to_a_smaller_report() -> None:
    guess = Usage(input=500, is_input_estimated=True)
    assert guess.merge(Usage(input=7, output=3)) == Usage(input=7, output=3)
    assert Usage(input=7, output=3).merge(guess) == Usage(input=7, output=3)


def test_a_stream_settles_once_whatever_ends_it(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, TEXT, STOP, usage_chunk(prompt_tokens=9, completion_tokens=3), DONE)) as upstream:
        bench = bench_of(upstream, prices=PRICES)
        opened = bench.call(STREAMED)
        drink(opened)
        assert not isinstance(opened.body, bytes)
        opened.body.close()
        gevent.sleep(0)
        assert bench.log.only.cost_nano_usd == cost(9, 3)
