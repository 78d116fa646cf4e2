"""Opaque tokens go back to who made them, and reasoning goes where it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import pytest

from omniroute.formats.canonical import (
    Block,
    Effort,
    Message,
    Reasoning,
    Request,
    Role,
    Text,
    Thinking,
    Token,
    ToolCall,
    ToolResult,
)
from omniroute.formats.losses import Losses
from omniroute.formats.prepare import prepare
from omniroute.formats.profile import Profile, ReasoningStyle, profile_for
from omniroute.formats.tokens import MARK, wrap
from omniroute.formats.wire import WireFormat

_CHAT, _RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
_MESSAGES, _GEMINI = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI

_CALL = ToolCall("call_1", "f", "{}")
_RESULTS = Message(Role.TOOL, (ToolResult("call_1", (Text("ok"),)),))
_HI = Message(Role.USER, (Text("hi"),))
_CLAUDE = profile_for(_MESSAGES, "claude", provider="anthropic", family="key")
_DEEPSEEK = profile_for(
    _CHAT, "deepseek", provider="deepseek", thinking_field="reasoning_content", returns_thinking=True
)


def _wrapped(
    value: str, maker: WireFormat, client: WireFormat, provider: str = "anthropic", family: str = "key"
) -> Token:
    """Return a token as a client of another format brings it back."""
    return Token(wrap(Token(value, maker, provider, family)), client)


def _request(origin: WireFormat, *blocks: Block, reasoning: Reasoning | None = None) -> Request:
    return Request(origin, "m", (_HI, Message(Role.ASSISTANT, blocks), _RESULTS), reasoning=reasoning)


def _turn(
    request: Request,
    profile: Profile,
    kept: Mapping[str, tuple[str, Token | None]] | None = None,
) -> tuple[tuple[Block, ...], tuple[str, ...]]:
    """Return the assistant's turn as prepared, and the losses."""
    losses = Losses(profile.format)
    thinking_of: Callable[[str], tuple[str, Token | None] | None] = (kept or {}).get
    prepared, _ = prepare(request, profile, losses, thinking_of=thinking_of)
    turns = [message.blocks for message in prepared.messages if message.role is Role.ASSISTANT]
    return (turns[0] if turns else ()), losses.paths


# --- whose token ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [_RESPONSES, _MESSAGES, _GEMINI, _CHAT])
def test_t18_a_token_returns_to_its_maker_as_he_wrote_it(client: WireFormat) -> None:
    blocks, losses = _turn(_request(client, Thinking("hm", _wrapped("sig", _MESSAGES, client)), _CALL), _CLAUDE)
    assert blocks[1:] == (_CALL,)
    assert isinstance(blocks[0], Thinking)
    assert blocks[0].token is not None
    assert (blocks[0].text, blocks[0].token.value) == ("hm", "sig")
    assert losses == ()


@pytest.mark.parametrize(
    ("maker", "provider", "family"),
    [(_GEMINI, "anthropic", "key"), (_MESSAGES, "bedrock", "key"), (_MESSAGES, "anthropic", "other account")],
)
@pytest.mark.parametrize("client", [_RESPONSES, _MESSAGES])
def test_t18_tokens_never_cross_provider_account_or_format(
    maker: WireFormat, provider: str, family: str, client: WireFormat
) -> None:
    token = _wrapped("sig", maker, client, provider, family)
    blocks, losses = _turn(_request(client, Thinking("hm", token), Thinking("", token, redacted=True), _CALL), _CLAUDE)
    assert blocks == (_CALL,)
    assert losses == ("thinking",)


@pytest.mark.parametrize("client", [_RESPONSES, _MESSAGES, _GEMINI])
def test_t18_a_damaged_envelope_is_nobodys_token(client: WireFormat) -> None:
    blocks, _ = _turn(_request(client, Thinking("hm", Token(MARK.decode() + "!!", client)), _CALL), _CLAUDE)
    assert blocks == (_CALL,)


def test_a_token_without_envelope_is_of_the_clients_format() -> None:
    thinking = Thinking("hm", Token("sig", _MESSAGES))
    assert _turn(_request(_MESSAGES, thinking, _CALL), _CLAUDE)[0] == (thinking, _CALL)
    assert _turn(_request(_RESPONSES, Thinking("hm", Token("enc", _RESPONSES)), _CALL), _CLAUDE)[0] == (_CALL,)


def test_t16_signed_reasoning_of_the_own_format_is_not_touched() -> None:
    request = _request(_MESSAGES, Thinking("hm", Token("sig", _MESSAGES)), Thinking("no signature"), _CALL)
    assert prepare(request, _CLAUDE, Losses(_MESSAGES))[0] is request


def test_t64_after_a_fallback_only_the_foreign_reasoning_vanishes() -> None:
    own, foreign = (
        Thinking("a", Token("sig", _MESSAGES)),
        Thinking("b", _wrapped("enc", _RESPONSES, _MESSAGES, "openai")),
    )
    messages = (_HI, Message(Role.ASSISTANT, (own, _CALL)), _RESULTS, Message(Role.ASSISTANT, (foreign,)), _HI)
    request = Request(_MESSAGES, "m", messages)
    prepared, _ = prepare(request, _CLAUDE, Losses(_MESSAGES))
    assert prepared.messages == (*messages[:3], _HI)
    codex = profile_for(_RESPONSES, "gpt", provider="openai", family="key")
    back, _ = prepare(request, codex, Losses(_RESPONSES))
    assert [block for block in back.messages[1].blocks if isinstance(block, ToolCall)] == [_CALL]
    assert isinstance(back.messages[3].blocks[0], Thinking)


def test_the_token_of_a_call_goes_and_the_call_stays() -> None:
    call = msgspec.structs.replace(_CALL, token=Token("sig", _GEMINI))
    assert _turn(_request(_GEMINI, call), _CLAUDE) == ((_CALL,), ("thinking",))
    own = msgspec.structs.replace(_CALL, token=_wrapped("sig", _GEMINI, _MESSAGES, "google"))
    blocks, losses = _turn(_request(_MESSAGES, own), profile_for(_GEMINI, "g", provider="google", family="key"))
    assert isinstance(blocks[0], ToolCall)
    assert blocks[0].token is not None
    assert (blocks[0].token.value, losses) == ("sig", ())


# --- text without a token -------------------------------------------------------------------------------------------


def test_t16_unsigned_reasoning_is_dropped_and_nothing_is_made_up() -> None:
    assert _turn(_request(_CHAT, Thinking("hm"), _CALL), _CLAUDE) == ((_CALL,), ("thinking",))


def test_hosts_that_want_their_text_back_get_it_without_a_token() -> None:
    token = _wrapped("", _CHAT, _MESSAGES, "deepseek")
    request = _request(_MESSAGES, Thinking("hm", token), Thinking("", Token("x", _MESSAGES), redacted=True), _CALL)
    assert _turn(request, _DEEPSEEK) == ((Thinking("hm"), _CALL), ("thinking",))


def test_t19_host_reasoning_shown_to_a_messages_client_is_recognised_when_it_returns() -> None:
    shown = Thinking("hm", _wrapped("", _CHAT, _MESSAGES, "deepseek"))
    assert _turn(_request(_MESSAGES, shown, _CALL), _CLAUDE) == ((_CALL,), ("thinking",))
    quiet = msgspec.structs.replace(_DEEPSEEK, returns_thinking=False)
    assert _turn(_request(_MESSAGES, shown, _CALL), quiet) == ((_CALL,), ("thinking",))


# --- what the gateway kept ------------------------------------------------------------------------------------------


def test_t17_kept_signatures_return_to_the_calls_that_they_belong_to() -> None:
    gemini = profile_for(_GEMINI, "g", provider="google", family="key")
    second = ToolCall("call_2", "f", "{}")
    kept = {
        "call_1": ("thought", Token("sig", _GEMINI, "google", "key")),
        "call_2": ("", Token("other", _GEMINI, "google", "another account")),
    }
    blocks, _ = _turn(_request(_CHAT, _CALL, second), gemini, kept)
    assert blocks == (msgspec.structs.replace(_CALL, token=Token("sig", _GEMINI, "google", "key")), second)


def test_t17_a_call_that_has_its_token_keeps_it() -> None:
    gemini = profile_for(_GEMINI, "g", provider="google", family="key")
    call = msgspec.structs.replace(_CALL, token=_wrapped("sig", _GEMINI, _MESSAGES, "google"))
    kept = {"call_1": ("", Token("later", _GEMINI))}
    blocks, _ = _turn(_request(_MESSAGES, call), gemini, kept)
    assert isinstance(blocks[0], ToolCall)
    assert blocks[0].token == Token("sig", _GEMINI, "google", "key")


def test_t16_kept_reasoning_stands_first_in_its_turn() -> None:
    kept = {"call_1": ("hm", Token("sig", _MESSAGES, "anthropic", "key"))}
    blocks, losses = _turn(_request(_CHAT, Text("I look."), _CALL), _CLAUDE, kept)
    assert blocks == (Thinking("hm", kept["call_1"][1]), Text("I look."), _CALL)
    assert losses == ()


def test_kept_reasoning_in_an_envelope_is_unwrapped() -> None:
    kept = {"call_1": ("hm", _wrapped("sig", _MESSAGES, _CHAT))}
    blocks, _ = _turn(_request(_CHAT, _CALL), _CLAUDE, kept)
    assert blocks[0] == Thinking("hm", Token("sig", _MESSAGES, "anthropic", "key"))


def test_kept_reasoning_is_not_added_to_reasoning_that_came_back() -> None:
    own = Thinking("mine", _wrapped("own", _MESSAGES, _RESPONSES))
    kept = {"call_1": ("hm", Token("sig", _MESSAGES))}
    messages = (_HI, Message(Role.ASSISTANT, (own,)), Message(Role.ASSISTANT, (_CALL,)), _RESULTS)
    prepared, _ = prepare(Request(_RESPONSES, "m", messages), _CLAUDE, Losses(_MESSAGES), thinking_of=kept.get)
    blocks = prepared.messages[1].blocks
    assert blocks == (Thinking("mine", Token("own", _MESSAGES, "anthropic", "key")), _CALL)


def test_kept_text_goes_to_hosts_that_want_it_and_to_no_other() -> None:
    kept: Mapping[str, tuple[str, Token | None]] = {"call_1": ("hm", None)}
    assert _turn(_request(_MESSAGES, _CALL), _DEEPSEEK, kept)[0] == (Thinking("hm"), _CALL)
    assert _turn(_request(_CHAT, _CALL), _CLAUDE, kept)[0] == (_CALL,)
    assert _turn(_request(_MESSAGES, _CALL), profile_for(_CHAT, "gpt"), kept)[0] == (_CALL,)
    assert _turn(_request(_MESSAGES, _CALL), _DEEPSEEK, {"call_1": ("", None)})[0] == (_CALL,)


def test_kept_reasoning_of_another_maker_stays_out() -> None:
    kept = {"call_1": ("hm", Token("sig", _MESSAGES, "bedrock", "key"))}
    assert _turn(_request(_CHAT, _CALL), _CLAUDE, kept)[0] == (_CALL,)


# --- a loop whose reasoning is lost ---------------------------------------------------------------------------------

_BUDGETED = msgspec.structs.replace(_CLAUDE, reasoning=ReasoningStyle.BUDGET)
_WISH = Reasoning(effort=Effort.HIGH)
_SIGNED = Thinking("hm", _wrapped("sig", _MESSAGES, _RESPONSES))


def _rests(profile: Profile, *messages: Message, reasoning: Reasoning | None = _WISH) -> bool:
    losses = Losses(profile.format)
    prepared, _ = prepare(Request(_RESPONSES, "m", messages, reasoning=reasoning), profile, losses)
    is_off = prepared.reasoning == Reasoning(effort=Effort.NONE, budget=0)
    assert is_off is ("reasoning" in losses.paths)
    return is_off


def _step(number: int, *before: Block) -> tuple[Message, Message]:
    call = ToolCall(f"call_{number}", "f", "{}")
    return Message(Role.ASSISTANT, (*before, call)), Message(Role.TOOL, (ToolResult(call.id, (Text("ok"),)),))


def test_t16_a_lost_signature_in_a_loop_of_calls_puts_reasoning_to_rest_for_this_request() -> None:
    assert _rests(_BUDGETED, _HI, *_step(1))
    assert _rests(_BUDGETED, _HI, *_step(1, Thinking("foreign", Token("enc", _RESPONSES))))
    assert _rests(_BUDGETED, _HI, *_step(1), _HI)  # what is said beside the results does not end the loop


def test_t16_a_loop_that_begins_with_its_signed_reasoning_goes_on_thinking() -> None:
    assert not _rests(_BUDGETED, _HI, *_step(1, _SIGNED))
    assert not _rests(_BUDGETED, _HI, *_step(1, _SIGNED), *_step(2))
    assert not _rests(_BUDGETED, _HI, *_step(1), *_step(2, _SIGNED))


def test_t16_without_a_loop_or_a_wish_nothing_changes() -> None:
    assert not _rests(_BUDGETED, _HI, *_step(1), Message(Role.ASSISTANT, (Text("done"),)), _HI)
    assert not _rests(_BUDGETED, _HI, *_step(1), reasoning=None)
    assert not _rests(_BUDGETED, _HI, *_step(1), reasoning=Reasoning(effort=Effort.NONE))
    assert not _rests(_BUDGETED, _HI)


def test_t16_models_that_decide_themselves_do_not_demand_it() -> None:
    assert not _rests(msgspec.structs.replace(_CLAUDE, reasoning=ReasoningStyle.ADAPTIVE), _HI, *_step(1))
