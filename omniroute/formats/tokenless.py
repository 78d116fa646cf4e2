"""A request without the opaque tokens in its history, for a provider that has just refused one of them.

A signature can be broken by a client that edits its history, and expires with the key that made it. What it stood for
is lost to the provider; the conversation need not be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from omniroute.formats.canonical import (
    Block,
    Extra,
    Media,
    Message,
    Refusal,
    Request,
    Role,
    Text,
    Thinking,
    Token,
    ToolCall,
)
from omniroute.formats.gemini.content_parser import TEXT_SIGNATURE
from omniroute.formats.gemini.content_renderer import BYPASS
from omniroute.formats.losses import SPELLING
from omniroute.formats.openai_responses.members import NOTE
from omniroute.formats.profile import Profile
from omniroute.formats.thoughts import ThinkingOf
from omniroute.formats.wire import WireFormat

_ITEM_ID: Final = f"{SPELLING}id"
_ITEM: Final = f"{NOTE}item"
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def without_tokens(request: Request, profile: Profile) -> Request | None:
    """Return the request as a target gets it that shall see no token; None when it has none that it could see."""
    messages: list[Message] = []
    is_changed = False
    lost_first = False
    for message in request.messages:
        blocks = _bare(message.blocks, request, profile) if message.role is Role.ASSISTANT else message.blocks
        if blocks is message.blocks and not (lost_first and message.is_continued):
            messages.append(message)
            lost_first = False
            continue
        is_changed = True
        is_continued = message.is_continued and not lost_first
        lost_first = not blocks and not is_continued
        if blocks:
            plain = message.plain and blocks is message.blocks
            messages.append(msgspec.structs.replace(message, blocks=blocks, plain=plain, is_continued=is_continued))
    return msgspec.structs.replace(request, messages=tuple(messages)) if is_changed else None


def without_token(thinking_of: ThinkingOf) -> ThinkingOf:
    """Return what looks up kept reasoning, without the tokens."""

    def bare(call_id: str) -> tuple[str, Token | None] | None:
        kept = thinking_of(call_id)
        return None if kept is None else (kept[0], None)

    return bare


def has_kept_token(request: Request, thinking_of: ThinkingOf) -> bool:
    """Say whether the gateway would put a token of its own store into the request."""
    for message in request.messages:
        for block in message.blocks if message.role is Role.ASSISTANT else ():
            if isinstance(block, ToolCall):
                kept = thinking_of(block.id)
                if kept is not None and kept[1] is not None:
                    return True
    return False


def _bare(blocks: tuple[Block, ...], request: Request, profile: Profile) -> tuple[Block, ...]:
    bare: list[Block] = []
    needs_bypass = profile.takes_bypass and request.origin is profile.format is WireFormat.GEMINI
    for block in blocks:
        match block:
            case Thinking():
                if profile.returns_thinking and block.text:
                    bare.append(block if block.token is None else msgspec.structs.replace(block, token=None))
            case ToolCall():
                token = Token(BYPASS, WireFormat.GEMINI) if needs_bypass else None
                needs_bypass = False  # the first of parallel calls answers for all
                bare.append(_with_token(block, token))
            case _:
                bare.append(block)
    had_reasoning = len(bare) != len(blocks)
    bare = [_unsigned(block, drops_ids=had_reasoning) for block in bare]
    is_same = len(bare) == len(blocks) and all(new is old for new, old in zip(bare, blocks, strict=True))
    return blocks if is_same else tuple(bare)


def _with_token(call: ToolCall, token: Token | None) -> ToolCall:
    return call if call.token == token else msgspec.structs.replace(call, token=token)


def _unsigned(block: Block, *, drops_ids: bool) -> Block:
    """Return a block without a signature beside it; and without the id that ties an item to reasoning that is gone."""
    match block:
        case Text() | Media():
            extra = _without(block.extra, TEXT_SIGNATURE)
        case ToolCall() | Refusal():
            extra = block.extra
        case _:
            return block
    if drops_ids:
        extra = _without(extra, _ITEM_ID)
        item = extra.get(_ITEM)
        if item is not None:
            members = _OBJECT.decode(item)
            if members.pop("id", None) is not None:
                extra = {**extra, _ITEM: msgspec.Raw(msgspec.json.encode(members))}
    return block if extra is block.extra else msgspec.structs.replace(block, extra=extra)


def _without(extra: Extra, name: str) -> Extra:
    if name not in extra:
        return extra
    kept: Mapping[str, msgspec.Raw] = {key: value for key, value in extra.items() if key != name}
    return kept
