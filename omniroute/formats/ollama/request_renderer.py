"""A prepared canonical request to the body of `/api/chat`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.formats.arguments import object_for
from omniroute.formats.canonical import (
    AnyTool,
    Block,
    CallKind,
    ChoiceMode,
    Effort,
    Media,
    MediaKind,
    Message,
    Refusal,
    Request,
    Role,
    ServerTool,
    ServerToolDefinition,
    SourceKind,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import Pause
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.ollama.own_request import render_own_request
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.reasoning import effort_of, is_wanted, nearest_effort
from omniroute.formats.schemas import as_object
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.OLLAMA

ERROR_MARK: Final = "[tool error] "
"""In front of what a failed tool gave back: the format has no flag for it."""

_LEVELS: Final = (Effort.LOW, Effort.MEDIUM, Effort.HIGH)

# The window of the context. Left alone, the server takes a small one and silently cuts the prompt from its front. It
# loads the model anew whenever the window changes, so that it grows in few steps.
SMALLEST_WINDOW: Final = 8192
LARGEST_WINDOW: Final = 131_072
_BYTES_PER_TOKEN: Final = 3
"""Fewer than there are in any usual text: a window that is too large costs memory, one that is too small the prompt."""
_TOKENS_PER_IMAGE: Final = 1500
_TOKENS_PER_MESSAGE: Final = 8
_ROOM_FOR_ANSWER: Final = 2048
_MOST_ROOM_FOR_ANSWER: Final = 16_384


def render_request(request: Request, profile: Profile, losses: Losses, pause: Pause) -> bytes:
    """See :class:`omniroute.formats.codec.RequestRenderer`."""
    if request.origin is _ORIGIN:
        return render_own_request(request, profile.model, pause)
    return _Renderer(request, profile, losses).render(pause)


class _Renderer:
    """Renders one request that came in another format."""

    def __init__(self, request: Request, profile: Profile, losses: Losses) -> None:
        self._request = request
        self._profile = profile
        self._losses = losses
        self._bytes = 0
        """Of the prompt's text, as far as it has been rendered."""
        self._images = 0

    def render(self, pause: Pause) -> bytes:
        request = self._request
        self._refuse_what_must_not_be_dropped()
        messages: list[msgspec.Raw] = []
        for message in (*request.system, *request.messages):
            for members in self._messages(message):
                encoded = msgspec.json.encode(members)
                self._bytes += len(encoded) - sum(len(data) for data in members.get("images", ()))
                messages.append(msgspec.Raw(encoded))
            pause()
        tools = [msgspec.Raw(msgspec.json.encode(self._tool(tool))) for tool in self._callable_tools()]
        self._bytes += sum(len(bytes(tool)) for tool in tools)
        body: dict[str, Any] = {"model": self._profile.model, "messages": messages}
        if tools:
            body["tools"] = tools
        if request.output is not None:
            schema = request.output.schema
            body["format"] = "json" if schema is None else schema
            if request.output.name is not None:
                self._losses.drop("output.name")
        think = self._think()
        if think is not None:
            body["think"] = think
        self._put_logprobs(body)
        body["options"] = self._options(len(messages))
        body["stream"] = request.stream  # unsaid, it would mean yes
        self._note_losses()
        return msgspec.json.encode(body)

    def _refuse_what_must_not_be_dropped(self) -> None:
        request = self._request
        if request.n is not None and request.n > 1:
            raise unsupported("n", "This model gives one answer at a time.")
        if request.audio_output is not None:
            raise unsupported("audio", "This model cannot answer in audio.")
        if request.previous_id is not None:
            raise unsupported("previous_response_id", "This model's provider keeps no earlier answers.")

    # --- messages ----------------------------------------------------------------------------------------------------

    def _messages(self, message: Message) -> list[dict[str, Any]]:
        """Return what a message becomes: one, or one per result."""
        if message.extra:
            self._losses.drop_all("messages.extra", message.extra)
        if message.role is Role.TOOL:
            return [self._result(block) for block in message.blocks if isinstance(block, ToolResult)]
        if message.name is not None:
            self._losses.drop("message.name")
        members: dict[str, Any] = {"role": _ROLES[message.role]}
        thinking = [self._thinking(block) for block in message.blocks if isinstance(block, Thinking)]
        if any(thinking):
            members["thinking"] = "".join(thinking)
        members.update(self._content(message.blocks))
        calls = [self._call(block) for block in message.blocks if isinstance(block, ToolCall)]
        if calls:
            members["tool_calls"] = calls
        return [members]

    def _thinking(self, block: Thinking) -> str:
        if block.redacted:
            self._losses.drop("thinking")
        return block.text

    def _content(self, blocks: tuple[Block, ...]) -> dict[str, Any]:
        """Return text and images: the format has one string, and the images beside it."""
        texts: list[str] = []
        images: list[str] = []
        for block in blocks:
            self._note_block(block)
            match block:
                case Text(text=text) | Refusal(text=text):
                    texts.append(text)
                case ServerTool(note=note):
                    texts.append(note)
                case Media():
                    images.append(self._image(block))
                case Unknown():
                    raise unsupported("messages", "A block of this conversation means nothing to this model.")
                case _:
                    pass
        members: dict[str, Any] = {"content": "\n\n".join(text for text in texts if text)}
        if images:
            self._images += len(images)
            members["images"] = images
        return members

    def _note_block(self, block: Block) -> None:
        if isinstance(block, ServerTool | Unknown):
            return
        if block.extra:
            self._losses.drop_all("messages.extra", block.extra)
        if isinstance(block, Text | Media | ToolCall | ToolResult) and block.cache is not None:
            self._losses.drop("cache")
        if isinstance(block, Text) and block.citations:
            self._losses.drop("citations")

    def _image(self, media: Media) -> str:
        if media.kind is not MediaKind.IMAGE or media.source is not SourceKind.INLINE:
            raise unsupported("messages", f"This model takes no {media.kind.value} in this form.")
        if media.detail is not None:
            self._losses.drop("media.detail")
        return media.data

    def _call(self, call: ToolCall) -> dict[str, Any]:
        return {"function": {"name": call.name, "arguments": object_for(call)}}

    def _result(self, result: ToolResult) -> dict[str, Any]:
        self._note_block(result)
        members: dict[str, Any] = {"role": "tool", **self._content(result.blocks)}
        if result.is_error:
            members["content"] = ERROR_MARK + members["content"]
        if result.name is not None:
            members["tool_name"] = result.name
        return members

    # --- tools -------------------------------------------------------------------------------------------------------

    def _callable_tools(self) -> tuple[AnyTool, ...]:
        """Return the tools that may be called; the definitions are all that the format has to say it with."""
        request, choice = self._request, self._request.tool_choice
        if request.parallel_tools is False and request.tools:
            self._losses.drop("parallel_tools")
        if choice is None or choice.mode is ChoiceMode.AUTO:
            return request.tools
        if choice.mode is ChoiceMode.NONE:
            return ()
        if request.tools:
            self._losses.drop("tool_choice")  # a call can be suggested, but not demanded
        if choice.mode is ChoiceMode.NAMED:
            return tuple(tool for tool in request.tools if tool.name in choice.names) or request.tools
        return request.tools

    def _tool(self, tool: AnyTool) -> dict[str, Any] | msgspec.Raw:
        match tool:
            case ServerToolDefinition(raw=raw):
                return raw
            case Tool():
                self._losses.drop_all("tools.extra", tool.extra)
                if tool.cache is not None:
                    self._losses.drop("cache")
                if tool.strict:
                    self._losses.drop("tools.strict")
                schema = as_object(tool.schema if tool.kind is CallKind.FUNCTION else None)
                function = {"name": tool.name, "description": tool.description or "", "parameters": schema}
                return {"type": "function", "function": function}

    # --- parameters --------------------------------------------------------------------------------------------------

    def _think(self) -> bool | str | None:
        """Return the switch, or the level for models that have several."""
        reasoning, profile = self._request.reasoning, self._profile
        wanted = is_wanted(reasoning)
        if reasoning is None or wanted is None or profile.reasoning is ReasoningStyle.NONE:
            return None
        if profile.reasoning is not ReasoningStyle.EFFORT:
            return wanted
        effort = effort_of(reasoning)
        if effort is None:
            return wanted
        nearest = nearest_effort(effort, profile.efforts or _LEVELS)
        return False if nearest is Effort.NONE else nearest.value

    def _put_logprobs(self, body: dict[str, Any]) -> None:
        request = self._request
        for name, value in (("logprobs", request.logprobs or None), ("top_logprobs", request.top_logprobs or None)):
            if value is None:
                continue
            if self._profile.takes_logprobs:
                body[name] = value
            else:
                self._losses.drop(name)

    def _options(self, messages: int) -> dict[str, Any]:
        request, profile = self._request, self._profile
        limit = request.max_output
        if limit is not None and profile.max_output is not None:
            limit = min(limit, profile.max_output)
        temperature = request.temperature
        if temperature is not None and profile.max_temperature is not None:
            temperature = min(temperature, profile.max_temperature)
        options: dict[str, Any] = {
            "num_ctx": self._window(messages, limit),
            "num_predict": limit,
            "temperature": temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "seed": request.seed,
            "frequency_penalty": request.frequency_penalty,
            "presence_penalty": request.presence_penalty,
            "stop": request.stop or None,
        }
        return {name: value for name, value in options.items() if value is not None}

    def _window(self, messages: int, limit: int | None) -> int:
        """Return the smallest power of two that holds prompt and answer, as far as the model's window goes."""
        prompt = self._bytes // _BYTES_PER_TOKEN + self._images * _TOKENS_PER_IMAGE + messages * _TOKENS_PER_MESSAGE
        needed = prompt + min(limit or _ROOM_FOR_ANSWER, _MOST_ROOM_FOR_ANSWER)
        window = SMALLEST_WINDOW
        most = self._profile.context or LARGEST_WINDOW
        while window < needed and window < most:
            window *= 2
        return min(window, most)

    def _note_losses(self) -> None:
        request = self._request
        for path, value in (
            ("logit_bias", request.logit_bias),
            ("user", request.user),
            ("metadata", request.metadata),
            ("cache_key", request.cache_key),
            ("service_tier", request.service_tier),
            ("verbosity", request.verbosity),
            ("store", request.store or None),
        ):
            if value is not None:
                self._losses.drop(path)
        if request.reasoning is not None:
            self._losses.drop_all("reasoning", request.reasoning.extra)
        self._losses.drop_all("extra", request.extra)


_ROLES: Final = {
    Role.USER: "user",
    Role.ASSISTANT: "assistant",
    Role.SYSTEM: "system",
    Role.DEVELOPER: "system",
}
