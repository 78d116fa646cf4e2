"""What a target cannot say: all of it is declared, all that is declared happens, and the caller is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest

from omniroute.formats.canonical import (
    CallKind,
    ChoiceMode,
    Citation,
    Effort,
    Media,
    MediaKind,
    Message,
    Output,
    Reasoning,
    Request,
    Role,
    ServerToolDefinition,
    SourceKind,
    Text,
    Thinking,
    Token,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from omniroute.formats.losses import CLIENT_WORDS, DECLARED, SPELLING, Losses, UndeclaredLoss
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.translate import translate_request
from omniroute.formats.wire import WireFormat
from tests.formats.crossings import CHAT, FORMATS, GEMINI, MESSAGES, OLLAMA, RESPONSES, able
from tests.formats.strategies import CACHE_MARK, PNG

_OPEN: Final = msgspec.Raw(b'{"type":"object","properties":{"q":{"type":"string"}}}')
_TRUE: Final = msgspec.Raw(b"true")
_EXTRA: Final = {"new": _TRUE, f"{SPELLING}new": _TRUE}

POOR: Final[dict[str, Any]] = {
    "takes_sampling": False,
    "takes_penalties": False,
    "takes_seed": False,
    "takes_top_k": False,
    "takes_logprobs": False,
    "takes_store": False,
    "takes_service_tier": False,
    "takes_strict": False,
    "takes_parallel_switch": False,
    "takes_names": False,
    "max_stops": 0,
    "refused": frozenset({"user", "prompt_cache_key", "verbosity", "metadata", "seed"}),
}
"""A host that takes as little as a host can."""


def full(origin: WireFormat, **changes: Any) -> Request:
    """A request in which everything is said that any format can say."""
    citation = Citation(origin, msgspec.Raw(b"{}"), cited_text="x")
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, PNG, "image/png", detail="high", extra=_EXTRA)
    thinking = Thinking("hm", Token("c2lnbmVk", origin))
    call = ToolCall("call_1", "look", "{}", cache=CACHE_MARK, extra=_EXTRA)
    values: dict[str, Any] = {
        "system": (Message(Role.SYSTEM, (Text("Be brief.", cache=CACHE_MARK),)),),
        "messages": (
            Message(Role.USER, (Text("Hi", cache=CACHE_MARK, extra=_EXTRA), image), name="ann", extra=_EXTRA),
            Message(Role.ASSISTANT, (thinking, Text("I look.", citations=(citation,)), call)),
            Message(Role.TOOL, (ToolResult("call_1", (Text("found"),), cache=CACHE_MARK, extra=_EXTRA),)),
            Message(Role.USER, (Text("And now?"),)),
        ),
        "tools": (
            Tool("look", "Looks.", _OPEN, strict=True, cache=CACHE_MARK, extra=_EXTRA),
            Tool("other", "Does.", _OPEN, kind=CallKind.FUNCTION),
            ServerToolDefinition(WireFormat.OTHER, "web_search", msgspec.Raw(b"{}")),
        ),
        "tool_choice": ToolChoice(ChoiceMode.REQUIRED),
        "parallel_tools": False,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "seed": 7,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "logit_bias": msgspec.Raw(b'{"50256":-100}'),
        "logprobs": True,
        "top_logprobs": 3,
        "stop": ("A", "B", "C", "D", "E", "F", " "),
        "verbosity": "low",
        "user": "user-1",
        "metadata": msgspec.Raw(b'{"a":"b"}'),
        "cache_key": "key",
        "service_tier": "flex",
        "store": True,
        "extra": _EXTRA,
    }
    return Request(origin, "m", **{**values, **changes})


def _variants(target: WireFormat) -> Iterator[tuple[Request, Profile]]:
    origin = MESSAGES if target is not MESSAGES else CHAT
    wishes = Reasoning(effort=Effort.HIGH, summary="detailed", is_visible=True, extra=_EXTRA)
    output = Output(_OPEN, "made_up", strict=True)
    for facts in ({}, POOR):
        for style in (able(target).reasoning, ReasoningStyle.BUDGET):
            profile = able(target, **{**facts, "reasoning": style})
            yield full(origin), profile
            yield full(origin, reasoning=wishes), profile
            yield full(origin, output=output, tools=(), tool_choice=None), profile
            yield full(origin, reasoning=wishes, max_output=500, tool_choice=None), profile
            yield full(origin, reasoning=wishes, messages=(Message(Role.USER, (Text("Hi"),)),)), profile


def _lost(target: WireFormat) -> set[str]:
    found: set[str] = set()
    for request, profile in _variants(target):
        losses = translate_request(request, profile, thinking_of=_nothing_kept).losses
        found |= {
            path for path in DECLARED[target] if any(one == path or one.startswith(f"{path}.") for one in losses.paths)
        }
    return found


def _nothing_kept(call_id: str) -> tuple[str, Token | None] | None:
    del call_id
    return None


@pytest.mark.parametrize("target", FORMATS)
def test_every_declared_loss_happens(target: WireFormat) -> None:
    assert DECLARED[target] - _lost(target) == set()


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("client", FORMATS)
def test_whatever_is_lost_is_declared(client: WireFormat, target: WireFormat) -> None:
    """`Losses.drop` enforces it; here it is given all there is to be lost, by targets that can much and little."""
    if client is target:
        return
    for facts in ({}, POOR):
        losses = translate_request(full(client), able(target, **facts), thinking_of=_nothing_kept).losses
        assert losses.paths != ()
        assert not any(SPELLING in path for path in losses.paths)
        assert losses.warning.startswith("dropped:")


@pytest.mark.parametrize("wire_format", FORMATS)
def test_nothing_is_lost_in_the_clients_own_format(wire_format: WireFormat) -> None:
    tools = (Tool("look", "Looks.", _OPEN),)
    request = full(wire_format, tools=tools, messages=(Message(Role.USER, (Text("Hi"),)),))
    assert translate_request(request, able(wire_format, **POOR), thinking_of=_nothing_kept).losses.paths == ()


def test_a_loss_that_is_not_declared_is_a_fault_of_ours() -> None:
    with pytest.raises(UndeclaredLoss):
        Losses(GEMINI).drop("top_secret")


def test_a_spelling_is_no_loss_and_a_path_is_named_once() -> None:
    losses = Losses(CHAT)
    losses.drop_all("extra", (f"{SPELLING}stop", "new", "new", "other"))
    losses.drop("top_k")
    assert losses.paths == ("extra.new", "extra.other", "top_k")
    assert losses.warning == "dropped:new,dropped:other,dropped:top_k"


@pytest.mark.parametrize(
    ("count", "warning"),
    [
        (0, ""),
        (1, "dropped:a0"),
        (5, "dropped:a0,dropped:a1,dropped:a2,dropped:a3,dropped:a4"),
        (6, "dropped:a0,dropped:a1,dropped:a2,dropped:a3,dropped:a4,dropped:+1"),
        (17, "dropped:a0,dropped:a1,dropped:a2,dropped:a3,dropped:a4,dropped:+12"),
    ],
)
def test_the_warning_names_five_and_counts_the_rest(count: int, warning: str) -> None:
    losses = Losses(RESPONSES)
    losses.drop_all("extra", (f"a{number}" for number in range(count)))
    assert losses.warning == warning
    assert len(losses.paths) == count


def test_t28_the_detail_of_an_image_is_dropped_with_a_warning() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, PNG, "image/png", detail="low")
    request = Request(CHAT, "m", (Message(Role.USER, (Text("What?"), image)),))
    for target in FORMATS:
        sent = translate_request(request, able(target), thinking_of=_nothing_kept)
        if target in (CHAT, RESPONSES):
            assert b'"detail":"low"' in sent.body
            assert sent.losses.paths == ()
        else:
            assert b"detail" not in sent.body
            assert sent.losses.warning == "dropped:media.detail"


def test_every_format_has_its_words_for_what_is_refused() -> None:
    assert set(CLIENT_WORDS) == set(FORMATS)
    assert CLIENT_WORDS[OLLAMA]["output"] == "format"
    assert all(word for words in CLIENT_WORDS.values() for word in words.values())


@pytest.mark.parametrize("target", FORMATS)
def test_t43_cache_marks_stay_with_their_vendor_and_none_is_added(target: WireFormat) -> None:
    origin = MESSAGES if target is not MESSAGES else CHAT
    marked = translate_request(full(origin), able(target), thinking_of=_nothing_kept)
    assert (b"cache_control" in marked.body) is (target is MESSAGES)
    plain = Request(
        origin, "m", (Message(Role.USER, (Text("Hi"),)),), system=(Message(Role.SYSTEM, (Text("Be brief."),)),)
    )
    assert b"cache" not in translate_request(plain, able(target), thinking_of=_nothing_kept).body
