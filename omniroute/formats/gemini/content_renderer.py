"""Canonical messages to contents for a Gemini model.

The vendor wants turns that alternate and begin with the user's, all results of a turn in one content, and no part that
says nothing. Since its third generation it refuses a call of its own turn without the signature that came with it; for
calls that another model made it documents a value that stands for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from omniroute.formats.arguments import object_for
from omniroute.formats.canonical import (
    Block,
    Extra,
    Media,
    Message,
    Refusal,
    Role,
    ServerTool,
    SourceKind,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import Pause
from omniroute.formats.gemini.media import mime_for
from omniroute.formats.gemini.results import response_for
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.members import as_spelt
from omniroute.formats.profile import IdRule, Profile
from omniroute.formats.wire import WireFormat

Part = dict[str, Any] | msgspec.Raw
Content = dict[str, Any]

BYPASS: Final = "skip_thought_signature_validator"
"""The vendor's documented value for calls that none of its models made."""
_OPENING: Final = "(start of the conversation)"
_PROMPT_TO_GO_ON: Final = "Continue."
_ORIGIN: Final = WireFormat.GEMINI


def render_contents(messages: Sequence[Message], profile: Profile, losses: Losses, pause: Pause) -> list[Content]:
    """Return the contents of a conversation."""
    writer = _Writer(profile, losses)
    for message in messages:
        writer.add(message)
        pause()
    return writer.finished()


def render_own(messages: Sequence[Message], profile: Profile, losses: Losses) -> list[Content]:
    """Return contents that came from this format: as they are, one for each message.

    They have been changed, or they would not be written anew: mostly, another vendor's signature has been taken out.
    """
    writer = _Writer(profile, losses, is_own=True)
    for message in messages:
        writer.add(message)
    writer.sign()
    return writer.contents


class _Writer:
    def __init__(self, profile: Profile, losses: Losses, *, is_own: bool = False) -> None:
        self.contents: list[Content] = []
        self._profile = profile
        self._losses = losses
        self._is_own = is_own
        self._names: dict[str, str] = {}
        """Call id to tool name."""

    def add(self, message: Message) -> None:
        role = "model" if message.role is Role.ASSISTANT else "user"
        if not self._is_own:
            self._losses.drop_all("messages.extra", message.extra)
            if message.name is not None:
                self._losses.drop("message.name")
        parts: list[Part] = []
        for block in message.blocks:
            part = self._part(block)
            if part is not None:
                parts.append(part)
        if not parts:
            return
        last = self.contents[-1] if self.contents else None
        if last is not None and last["role"] == role and not self._is_own:
            last["parts"] += parts
        else:
            self.contents.append({"role": role, "parts": parts})

    def finished(self) -> list[Content]:
        contents = self.contents
        if not contents or contents[0]["role"] == "model":
            contents.insert(0, {"role": "user", "parts": [{"text": _OPENING}]})
        if contents[-1]["role"] == "model" and not self._profile.takes_prefill:
            contents.append({"role": "user", "parts": [{"text": _PROMPT_TO_GO_ON}]})
        self.sign()
        return contents

    def sign(self) -> None:
        """Let calls that none of the vendor's models made pass for what they are."""
        if self._profile.takes_bypass:
            for content in self.contents:
                if content["role"] == "model":
                    _sign_first_call(content["parts"])

    # --- parts -------------------------------------------------------------------------------------------------------

    def _part(self, block: Block) -> Part | None:
        match block:
            case Text():
                return self._text(block)
            case Thinking():
                return self._thinking(block)
            case ToolCall():
                return self._call(block)
            case ToolResult():
                return self._result(block)
            case Media():
                self._note(block.cache, block.extra)
                return self._media(block)
            case Refusal():
                self._note(None, block.extra)
                return {"text": block.text} if block.text else None
            case ServerTool() | Unknown() if block.origin is _ORIGIN:
                return block.raw
            case ServerTool():
                return {"text": block.note} if block.note else None
            case _:
                raise unsupported("messages", "This content means nothing to a Gemini model.")

    def _text(self, block: Text) -> Part | None:
        self._note(block.cache, block.extra)
        if block.citations:
            self._losses.drop("citations")
        part: dict[str, Any] = {"text": block.text}
        if self._is_own and block.extra:
            part.update(as_spelt(block.extra))
        elif not block.text:
            return None
        return part

    def _thinking(self, block: Thinking) -> Part | None:
        part: dict[str, Any] = {} if block.redacted else {"text": block.text}
        part["thought"] = True
        if block.token is not None:
            part["thoughtSignature"] = block.token.value
        elif not block.text:
            return None
        if self._is_own:
            part.update(as_spelt(block.extra))
        return part

    def _call(self, block: ToolCall) -> Part:
        self._note(block.cache, block.extra)
        self._names[block.id] = block.name
        call: dict[str, Any] = {"name": block.name, "args": object_for(block)}
        if block.id and self._profile.id_rule is not IdRule.NONE:
            call = {"id": block.id, **call}
        if self._is_own:
            call.update(as_spelt(block.extra))
        part: dict[str, Any] = {"functionCall": call}
        if block.token is not None:
            part["thoughtSignature"] = block.token.value
        return part

    def _result(self, block: ToolResult) -> Part:
        self._note(block.cache, block.extra)
        texts: list[str] = []
        parts: list[Part] = []
        for inner in block.blocks:
            match inner:
                case Text():
                    self._note(inner.cache, inner.extra)
                    texts.append(inner.text)
                case Media():
                    part = self._media(inner)
                    if part is not None:
                        parts.append(part)
                case ServerTool() | Unknown() if inner.origin is _ORIGIN:
                    parts.append(inner.raw)
                case ServerTool():
                    texts.append(inner.note)
                case _:
                    raise unsupported("messages", "This part of a tool result means nothing to a Gemini model.")
        result: dict[str, Any] = {"name": block.name or self._names.get(block.call_id) or block.call_id}
        if block.call_id and self._profile.id_rule is not IdRule.NONE:
            result = {"id": block.call_id, **result}
        result["response"] = response_for("\n".join(texts), is_error=block.is_error)
        if parts:
            result["parts"] = parts
        if self._is_own:
            result.update(as_spelt(block.extra))
        return {"functionResponse": result}

    def _media(self, media: Media) -> Part | None:
        if media.detail is not None:
            self._losses.drop("media.detail")
        part = self._media_data(media)
        if self._is_own and part is not None:
            part.update(as_spelt(media.extra))
        return part

    def _media_data(self, media: Media) -> dict[str, Any] | None:
        match media.source:
            case SourceKind.INLINE:
                blob = {"mimeType": mime_for(media.kind, media.mime, media.data), "data": media.data}
                if self._is_own and media.name is not None:
                    blob["displayName"] = media.name
                return {"inlineData": blob}
            case SourceKind.TEXT:
                return {"text": media.data} if media.data else None
            case SourceKind.URL | SourceKind.FILE_ID:
                file = {"fileUri": media.data}
                if media.mime:
                    file["mimeType"] = media.mime
                if self._is_own and media.name is not None:
                    file["displayName"] = media.name
                return {"fileData": file}

    def _note(self, cache: msgspec.Raw | None, extra: Extra) -> None:
        if cache is not None:
            self._losses.drop("cache")
        if extra and not self._is_own:
            self._losses.drop_all("messages.extra", extra)


def _sign_first_call(parts: list[Any]) -> None:
    """Put the value that stands for a signature on the first call of a turn that has none.

    Only the first of parallel calls ever carries a signature, so a turn with one anywhere is the model's own.
    """
    calls = [part for part in parts if isinstance(part, dict) and "functionCall" in part]
    if calls and not any("thoughtSignature" in call for call in calls):
        calls[0]["thoughtSignature"] = BYPASS
