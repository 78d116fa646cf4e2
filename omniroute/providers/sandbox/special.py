"""Answers with one peculiarity each, for readers that have to cope with it."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Final

from omniroute.providers.sandbox import prose
from omniroute.providers.sandbox.blocks import Answer, Block, Citation, Fault, Refusal, Stop, Text, Thinking
from omniroute.providers.sandbox.models import Kind
from omniroute.providers.sandbox.prompt import Choice, Media, Prompt
from omniroute.providers.sandbox.script import Dialect, VendorError
from omniroute.providers.sandbox.seal import unpack
from omniroute.providers.sandbox.speech import call_of, called, pieces_of, said

_BIG: Final = 1_200_000
_LATE_AFTER: Final = 3
_BEFORE: Final = "Let me look that up. "
_AFTER: Final = "That is all I need."
_REFUSAL: Final = "I'm sorry, but I can't help with that."
_CUT_SHORT: Final = "This answer is longer than the limit allows and therefore ends in the middle of a"
_FILTERED: Final = "The answer began well enough, but then"
_REASONING: Final = "The user said something. I only have to give it back."
_CITED: Final = "Lamps were used for signals at sea. Towers carried them inland."
_SOURCES: Final = (
    Citation("https://example.com/lamps", "Signals at sea", 0, 35),
    Citation("https://example.com/towers", "Towers", 36, 63),
)


def perform(prompt: Prompt, kind: Kind, number: int | None) -> Answer:
    """Return the answer of one of the peculiar models."""
    match kind:
        case Kind.PARALLEL | Kind.LATE_ARGS | Kind.NO_ARGS | Kind.BAD_ARGS | Kind.MIXED:
            return _use_tools(prompt, kind)
        case Kind.REFUSAL:
            words = _pieces(prompt, _REFUSAL)
            return Answer((Refusal(words),), Stop.REFUSAL, prose.tokens(len(_REFUSAL)))
        case Kind.LENGTH:
            return replace(said(prompt, _pieces(prompt, _CUT_SHORT)), stop=Stop.LENGTH, stop_sequence=None)
        case Kind.FILTER:
            return replace(said(prompt, _pieces(prompt, _FILTERED)), stop=Stop.FILTER, stop_sequence=None)
        case Kind.INLINE_THINK:
            return _inline(prompt)
        case Kind.EARLY_ERROR | Kind.LATE_ERROR | Kind.NO_FINISH | Kind.DOUBLE_END | Kind.EMPTY_STREAM:
            return _faulty(prompt, kind, number)
        case Kind.BIG_DELTA:
            text = (prose.STORY * (_BIG // len(prose.STORY) + 1))[:_BIG]
            return Answer((Text((text,)),), Stop.END, prose.tokens(len(text)))
        case Kind.CITE:
            return Answer((Text(_pieces(prompt, _CITED), _SOURCES),), Stop.END, prose.tokens(len(_CITED)))
        case Kind.IMAGE_DESC:
            return said(prompt, pieces_of(prompt, _described(prompt), None))
        case _:
            raise ValueError(f"unknown kind {kind}")


def _pieces(prompt: Prompt, text: str) -> tuple[str, ...]:
    return prose.words(text) if prompt.is_stream else (text,)


def _use_tools(prompt: Prompt, kind: Kind) -> Answer:
    if prompt.results:
        told = "\n".join(f"{r.name} {'failed' if r.is_error else 'returned'}: {r.text}" for r in prompt.results)
        return said(prompt, pieces_of(prompt, told, None))
    if not prompt.tools or prompt.choice is Choice.NONE:
        return said(prompt, _pieces(prompt, "There is nothing that I may call."))
    offered = tuple(tool for tool in prompt.tools if prompt.chosen in (None, tool.name))
    functions = tuple(tool for tool in offered if tool.schema is not None) or offered
    first = call_of(prompt, functions[0], 0)
    match kind:
        case Kind.PARALLEL:
            second = call_of(prompt, functions[1 % len(functions)], 1)
            calls = (first, second) if prompt.is_parallel else (first,)
            return replace(called(calls), is_interleaved=True)
        case Kind.LATE_ARGS:
            return called((replace(first, is_at_once=True),))
        case Kind.NO_ARGS:
            return called((replace(first, arguments=""),))
        case Kind.BAD_ARGS:
            return called((replace(first, arguments='{"query": "sandbox", '),))
        case _:
            before = Text(_pieces(prompt, _BEFORE))
            after: tuple[Block, ...] = (Text(_pieces(prompt, _AFTER)),)
            return called((first,), (before,), after)


def _inline(prompt: Prompt) -> Answer:
    text = prompt.text or "nothing"
    if prompt.dialect in (Dialect.OPENAI_CHAT, Dialect.OLLAMA):
        whole = f"<think>{_REASONING}</think>\n\nYou said: {text}"
        return said(prompt, pieces_of(prompt, whole, 5))
    before = (Thinking(_pieces(prompt, _REASONING)),) if prompt.has_reasoning else ()
    return said(prompt, _pieces(prompt, f"You said: {text}"), before)


def _faulty(prompt: Prompt, kind: Kind, number: int | None) -> Answer:
    pieces = prose.numbered(max(_LATE_AFTER, number or 0), None)
    answer = said(replace(prompt, max_words=None, stops=()), pieces)
    match kind:
        case Kind.EARLY_ERROR:
            return replace(answer, fault=Fault.EARLY_ERROR, error=_overloaded(prompt.dialect))
        case Kind.LATE_ERROR:
            after = _LATE_AFTER if number is None else number
            return replace(answer, fault=Fault.LATE_ERROR, error=_overloaded(prompt.dialect), torn_after=after)
        case Kind.NO_FINISH:
            return replace(answer, fault=Fault.NO_FINISH, torn_after=len(pieces))
        case Kind.DOUBLE_END:
            return replace(answer, fault=Fault.DOUBLE_END)
        case _:
            return replace(answer, fault=Fault.EMPTY)


def _overloaded(dialect: Dialect) -> VendorError:
    match dialect:
        case Dialect.ANTHROPIC_MESSAGES:
            return VendorError(529, "Overloaded")
        case Dialect.GEMINI:
            return VendorError(503, "The model is overloaded. Please try again later.")
        case Dialect.OLLAMA:
            return VendorError(503, "server busy, please try again.  maximum pending requests exceeded")
        case Dialect.OPENAI_RESPONSES:
            return VendorError(
                503, "Our servers are currently overloaded. Please try again later.", code="server_is_overloaded"
            )
        case _:
            return VendorError(503, "The server is currently overloaded with other requests.", code="overloaded")


def _described(prompt: Prompt) -> str:
    count = len(prompt.media)
    head = f"{count} media part{'' if count == 1 else 's'} received."
    return "\n".join((head, *(f"{n}. {_medium(media)}" for n, media in enumerate(prompt.media, 1))))


def _medium(media: Media) -> str:
    named = f"{media.kind} {media.mime or 'unknown'}"
    match media.place:
        case "inline":
            raw = unpack(media.data)
        case "text":
            raw = media.data.encode()
        case place:
            return f"{named} {place} {media.data}"
    if raw is None:
        return f"{named} unreadable"
    return f"{named} {len(raw)} bytes sha256 {sha256(raw).hexdigest()[:16]}"
