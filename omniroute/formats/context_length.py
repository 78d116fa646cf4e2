"""The sentences in which each dialect says that a request is too long: agents find the numbers by them."""

from __future__ import annotations

from omniroute.errors import ContextLengthExceeded, OmniRouteError


def openai_message(error: OmniRouteError) -> str:
    """Return the sentence of OpenAI's formats."""
    if not isinstance(error, ContextLengthExceeded) or error.limit is None or error.used is None:
        return error.message
    if error.output is not None:
        return (
            f"This model's maximum context length is {error.limit} tokens. However, you requested "
            f"{error.used + error.output} tokens ({error.used} in the messages, {error.output} in the completion). "
            "Please reduce the length of the messages or completion."
        )
    return (
        f"This model's maximum context length is {error.limit} tokens. However, your messages resulted in {error.used} "
        "tokens. Please reduce the length of the messages."
    )


def messages_message(error: OmniRouteError) -> str:
    """Return the sentence of Anthropic's format; agents look for its first words."""
    if not isinstance(error, ContextLengthExceeded):
        return error.message
    if error.limit is None or error.used is None:
        return error.message if "prompt is too long" in error.message else f"prompt is too long: {error.message}"
    if error.output is not None:
        return (
            f"input length and `max_tokens` exceed context limit: {error.used} + {error.output} > {error.limit}, "
            "decrease input length or `max_tokens` and try again"
        )
    return f"prompt is too long: {error.used} tokens > {error.limit} maximum"


def gemini_message(error: OmniRouteError) -> str:
    """Return the sentence of Gemini's format."""
    if not isinstance(error, ContextLengthExceeded):
        return error.message
    if error.limit is None or error.used is None:
        return "The input token count exceeds the maximum number of tokens allowed."
    return f"The input token count ({error.used}) exceeds the maximum number of tokens allowed ({error.limit})."
