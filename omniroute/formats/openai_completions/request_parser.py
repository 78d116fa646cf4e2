"""A text completion request to the canonical request: the prompt is what the user says."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.errors import UnsupportedFeature
from omniroute.formats.canonical import Message, Request, Role, Text
from omniroute.formats.codec import Pause
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import (
    NULL,
    BadShape,
    Members,
    is_text,
    list_of,
    missing,
    take_bool,
    take_int,
    take_text_if_any,
    text_of,
)
from omniroute.formats.openai_chat.message_parser import spelt
from omniroute.formats.openai_chat.request_parser import KNOBS, read_body, take_knobs
from omniroute.formats.openai_chat.request_renderer import TEXT_COMPLETION_NOTE
from omniroute.formats.wire import WireFormat

ECHO_NOTE: Final = f"{SPELLING}echo"
"""Marks a request whose answer repeats the prompt."""

_MOST_LOGPROBS: Final = 20
_KNOWN: Final = KNOBS | {"prompt", "suffix", "echo", "best_of", "logprobs"}
_TRUE: Final = msgspec.Raw(b"true")


def parse_request(body: bytes, pause: Pause) -> Request:
    """See :class:`omniroute.formats.codec.RequestParser`.

    Raises:
        UnsupportedFeature: several prompts, a prompt in tokens, or what only a text completion model can do.
    """
    return read_body(body, pause, _parse)


def _parse(members: Members, pause: Pause) -> Request:
    pause()
    prompt = _prompt(members.pop("prompt", NULL))
    count = take_int(members, "logprobs")
    if count is not None and not 0 <= count <= _MOST_LOGPROBS:
        raise BadShape("logprobs", f"This must be between 0 and {_MOST_LOGPROBS}.")
    does_echo = bool(take_bool(members, "echo"))
    knobs = take_knobs(members)
    _refuse(members, does_echo=does_echo, wants_logprobs=count is not None, answers=knobs["n"] or 1)
    extra = dict(spelt(members, _KNOWN))
    extra[TEXT_COMPLETION_NOTE] = _TRUE
    if does_echo:
        extra[ECHO_NOTE] = _TRUE
    return Request(
        origin=WireFormat.OPENAI_CHAT,
        messages=(Message(Role.USER, (Text(prompt),), plain=True),),
        logprobs=None if count is None else True,
        top_logprobs=count or None,
        extra=extra,
        **knobs,
    )


def _prompt(raw: msgspec.Raw) -> str:
    if raw == NULL:
        missing("prompt")
    if is_text(raw):
        return text_of(raw, "prompt")
    prompts = list_of(raw, "prompt")
    if len(prompts) == 1 and is_text(prompts[0]):
        return text_of(prompts[0], "prompt.0")
    if not prompts:
        raise BadShape("prompt", "At least one prompt is needed.")
    if all(map(is_text, prompts)):
        raise UnsupportedFeature("prompt: Send one prompt for each request.", param="prompt")
    raise UnsupportedFeature("prompt: Send the prompt as text, not as tokens.", param="prompt")


def _refuse(members: Members, *, does_echo: bool, wants_logprobs: bool, answers: int) -> None:
    """Refuse what a chat model cannot do and what would change the answer if it were left out."""
    if take_text_if_any(members, "suffix"):
        raise UnsupportedFeature("suffix: A chat model cannot fill in between two texts.", param="suffix")
    if (take_int(members, "best_of") or 1) > answers:
        raise UnsupportedFeature("best_of: All answers are given, none is chosen among.", param="best_of")
    if does_echo and wants_logprobs:
        raise UnsupportedFeature("echo: The log probabilities of a prompt are not known.", param="echo")
