"""Token counts where a provider reports none: flagged as ours, and replaced when the real ones arrive."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.canonical import (
    Answer,
    Media,
    Request,
    ServerToolDefinition,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from omniroute.formats.events import BlockDelta, Event, MessageStart, MessageStop, UsageUpdate
from omniroute.formats.usage import NOT_REPORTED, Usage

CHARACTERS_PER_TOKEN: Final = 4
_MEDIA_TOKENS: Final = 1000
_MESSAGE_TOKENS: Final = 4


def prompt_tokens(request: Request) -> int:
    """Estimate the tokens of a prompt by its length: cheap enough for every stream."""
    characters, tokens = 0, 0
    for message in (*request.system, *request.messages):
        tokens += _MESSAGE_TOKENS
        for block in message.blocks:
            match block:
                case Text(text=text) | Thinking(text=text):
                    characters += len(text)
                case ToolCall(arguments=arguments):
                    characters += len(arguments)
                case ToolResult(blocks=inner):
                    characters += sum(len(part.text) for part in inner if isinstance(part, Text))
                    tokens += _MEDIA_TOKENS * sum(isinstance(part, Media) for part in inner)
                case Media():
                    tokens += _MEDIA_TOKENS
                case _:
                    pass
    for tool in request.tools:
        if isinstance(tool, ServerToolDefinition):
            characters += len(bytes(tool.raw))
        else:
            characters += len(tool.description or "") + (0 if tool.schema is None else len(bytes(tool.schema)))
    return tokens + characters // CHARACTERS_PER_TOKEN


def completed(answer: Answer, request: Request) -> Answer:
    """Return an answer whose usage has both counts, ours where the provider's is missing."""
    if answer.usage.input is not None and answer.usage.output is not None:
        return answer
    characters = 0
    for block in answer.blocks:
        if isinstance(block, Text | Thinking):
            characters += len(block.text)
        elif isinstance(block, ToolCall):
            characters += len(block.arguments)
    return msgspec.structs.replace(answer, usage=_filled(answer.usage, prompt_tokens(request), characters))


class Estimates:
    """Fills in the usage of one stream.

    A client that wants the prompt's count at the start gets an estimate there; every client gets what is missing at the
    end.
    """

    __slots__ = ("_at_start", "_characters", "_prompt", "_usage")

    def __init__(self, prompt: int, *, at_start: bool) -> None:
        """`prompt`: its estimated tokens."""
        self._prompt = prompt
        self._at_start = at_start
        self._characters = 0
        self._usage = NOT_REPORTED

    def events(self, events: list[Event]) -> list[Event]:
        """Return the events with the estimates among them."""
        changed: list[Event] | None = None
        for place, event in enumerate(events):
            if type(event) is BlockDelta:  # nearly all are
                if type(event.value) is str:
                    self._characters += len(event.value)
                continue
            match event:
                case UsageUpdate(usage=usage):
                    self._usage = self._usage.merge(usage)
                case MessageStart(usage=usage):
                    if usage is not None:
                        self._usage = usage
                    if self._at_start and self._usage.input is None:
                        changed = list(events)
                        guess = Usage(input=self._prompt, is_estimated=True)
                        changed[place] = msgspec.structs.replace(event, usage=guess)
                case MessageStop() if self._usage.input is None or self._usage.output is None:
                    changed = list(events) if changed is None else changed
                    changed.insert(-1, UsageUpdate(_filled(self._usage, self._prompt, self._characters)))
                case _:
                    pass
        return events if changed is None else changed


def _filled(usage: Usage, prompt: int, characters: int) -> Usage:
    output = usage.output if usage.output is not None else -(-characters // CHARACTERS_PER_TOKEN)
    input_ = usage.input if usage.input is not None else prompt
    return msgspec.structs.replace(usage, input=input_, output=output, is_estimated=True)
