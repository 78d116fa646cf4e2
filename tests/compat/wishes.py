"""What the clients ask for, the same for all, and how each dialect says that it was too much."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from tests.compat.matrix import Cell, Client


@dataclass(frozen=True, slots=True)
class File:
    """What an agent is to write."""

    name: str
    content: str


FILE = File("greeting.txt", "Good morning, signal house.")
WISH = f"Create the file {FILE.name} with the content: {FILE.content}"
"""The model `agent` of the sandbox takes a look around with two calls at once, then does this with a third."""

PIECES = 24
STORY = f"story-{PIECES}-5"
_NAMES = ("marsh", "lamp", "tower", "ferry", "signal", "channel", "evening", "wick")
WORDS = "".join(f"{number}:{_NAMES[number % 8]} " for number in range(PIECES))
"""What the model `STORY` says, a word every five milliseconds."""

WINDOW = 2_000
FILLER = "marigold " * 300
"""Some 700 tokens."""


class Refusal(Protocol):
    """What a client tells of a refused request."""

    kind: str
    status: int
    code: str
    message: str


_OPENAI = re.compile(r"context (length|window)")
_ANTHROPIC = re.compile(r"^prompt is too long")
_GOOGLE = re.compile(r"token count.* exceeds the maximum number of tokens")
TOO_LONG = {
    Client.OPENAI_CHAT: _OPENAI,
    Client.OPENAI_RESPONSES: _OPENAI,
    Client.ANTHROPIC: _ANTHROPIC,
    Client.GOOGLE_GENAI: _GOOGLE,
    Client.AI_OPENAI: _OPENAI,
    Client.AI_COMPATIBLE: _OPENAI,
    Client.AI_ANTHROPIC: _ANTHROPIC,
    Client.AI_GOOGLE: _GOOGLE,
}
"""The words by which programs of each client know that a prompt does not fit."""
_KINDS = {
    Client.OPENAI_CHAT: ("BadRequestError", 400, "context_length_exceeded"),
    Client.OPENAI_RESPONSES: ("BadRequestError", 400, "context_length_exceeded"),
    Client.ANTHROPIC: ("BadRequestError", 400, "invalid_request_error"),
    Client.GOOGLE_GENAI: ("ClientError", 400, "INVALID_ARGUMENT"),
}


def is_told_that_it_is_too_long(cell: Cell, refused: Refusal) -> bool:
    """Say whether a refusal is the one by which programs of this client know that the prompt does not fit."""
    is_of_kind = (refused.kind, refused.status, refused.code) == _KINDS[cell.client]
    return is_of_kind and TOO_LONG[cell.client].search(refused.message) is not None


def filler(word: str, count: int) -> str:
    """Return a long prompt that no tokenizer makes short, of some three tokens a word."""
    return "Keep this list in mind: " + " ".join(f"{word}-{number:05}" for number in range(count))
