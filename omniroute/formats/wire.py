"""The names of the wire formats."""

from __future__ import annotations

from enum import StrEnum


class WireFormat(StrEnum):
    """A protocol that a client or a provider speaks."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    GEMINI = "gemini"
    OLLAMA = "ollama"
    OTHER = "other"
