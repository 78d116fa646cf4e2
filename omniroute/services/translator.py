"""Turn a request, an answer or a stream of one format into another, and say what is lost, without sending anything.

The parsers and renderers are those that requests go through. What a target takes depends on its model: a named model
counts with what is known of it, otherwise a capable model of the format's own vendor is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from mimetypes import guess_type
from typing import Any, Final, TypedDict

import msgspec

from omniroute.errors import (
    InvalidJson,
    InvalidRequest,
    MissingField,
    OmniRouteError,
    UnsupportedFeature,
    UpstreamProtocolError,
    ValidationFailed,
)
from omniroute.formats.canonical import Answer, Reasoning, Request
from omniroute.formats.changes import NO_CHANGES
from omniroute.formats.codec import Pause, Reply
from omniroute.formats.estimates import Estimates, completed, prompt_tokens
from omniroute.formats.events import MessageStop, StreamError
from omniroute.formats.fold import Folder
from omniroute.formats.media import urls_to_fetch, with_fetched
from omniroute.formats.profile import Profile, ReasoningStyle, profile_for
from omniroute.formats.splice import scan
from omniroute.formats.translate import FILTERED, UPSTREAMS, ErrorInside, read_answer, translate_request
from omniroute.formats.usage import Usage
from omniroute.formats.way_back import WayBack
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import DIALECTS, Dialect, Surface
from omniroute.gateway.directory import Directory
from omniroute.gateway.exchange import profile_in
from omniroute.gateway.slices import Slices
from omniroute.services.translator_losses import LossDocument, answer_losses, request_losses

FORMATS: Final = (
    WireFormat.OPENAI_CHAT,
    WireFormat.OPENAI_RESPONSES,
    WireFormat.ANTHROPIC_MESSAGES,
    WireFormat.GEMINI,
    WireFormat.OLLAMA,
)
"""The formats that clients and providers speak, in the order in which they are shown."""
NAMES: Final[Mapping[WireFormat, str]] = {
    WireFormat.OPENAI_CHAT: "OpenAI Chat Completions",
    WireFormat.OPENAI_RESPONSES: "OpenAI Responses",
    WireFormat.ANTHROPIC_MESSAGES: "Anthropic Messages",
    WireFormat.GEMINI: "Gemini",
    WireFormat.OLLAMA: "Ollama",
}
_OTHER_NAMES: Final[Mapping[str, WireFormat]] = {
    "openai": WireFormat.OPENAI_CHAT,
    "chat": WireFormat.OPENAI_CHAT,
    "responses": WireFormat.OPENAI_RESPONSES,
    "anthropic": WireFormat.ANTHROPIC_MESSAGES,
    "messages": WireFormat.ANTHROPIC_MESSAGES,
    "claude": WireFormat.ANTHROPIC_MESSAGES,
}
SURFACES: Final[Mapping[WireFormat, Surface]] = {
    WireFormat.OPENAI_CHAT: Surface.OPENAI_CHAT,
    WireFormat.OPENAI_RESPONSES: Surface.OPENAI_RESPONSES,
    WireFormat.ANTHROPIC_MESSAGES: Surface.ANTHROPIC_MESSAGES,
    WireFormat.GEMINI: Surface.GEMINI,
    WireFormat.OLLAMA: Surface.OLLAMA_CHAT,
}
SPELLINGS: Final = (
    *FORMATS,
    *(name.value.replace("_", "-") for name in FORMATS if "_" in name.value),
    *_OTHER_NAMES,
)
"""Every way in which a format may be named."""

_VENDOR_FACTS: Final[Mapping[WireFormat, Mapping[str, Any]]] = {
    WireFormat.OPENAI_CHAT: {
        "provider": "openai",
        "reasoning": ReasoningStyle.EFFORT,
        "takes_custom_tools": True,
    },
    WireFormat.OPENAI_RESPONSES: {"provider": "openai", "reasoning": ReasoningStyle.EFFORT},
    WireFormat.ANTHROPIC_MESSAGES: {"provider": "anthropic", "reasoning": ReasoningStyle.BUDGET},
    WireFormat.GEMINI: {"provider": "gemini", "reasoning": ReasoningStyle.GEMINI_BUDGET, "budget_max": 24576},
    WireFormat.OLLAMA: {"provider": "ollama", "reasoning": ReasoningStyle.SWITCH},
}
_ID: Final = "0" * 32
_SAMPLE_MODEL: Final = "model"
_PLACEHOLDER: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
"""A picture of one pixel."""
_FETCHED: Final = "Read when a request is sent, since this target takes no addresses; a placeholder stands here for"
_LONGEST_URL: Final = 200


class TranslationDocument(TypedDict):
    """A translated request or answer; `result` is the body in the other format, spelt as it is sent."""

    result: Any
    losses: list[LossDocument]


class TranslatedStreamDocument(TypedDict):
    """A translated stream: what is sent, frame by frame, and the same as one answer; `error` where it ends in one."""

    frames: list[str]
    folded: Any
    losses: list[LossDocument]
    error: str | None


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in the target's format; `request` is what was asked, `way_back` turns an answer back."""

    body: bytes
    request: Request
    losses: list[LossDocument]
    way_back: Callable[[], WayBack]


def format_named(name: str) -> WireFormat:
    """Return the format of a name, however it is spelt.

    Raises:
        ValueError: no format is called so.
    """
    folded = name.strip().lower().replace("-", "_")
    return _OTHER_NAMES.get(folded) or WireFormat(folded)


class Translator:
    """Translates between formats."""

    def __init__(
        self, *, directory: Callable[[], Directory], now: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        """`now` is a monotonic clock, `wall` the time of day, both in seconds."""
        self._directory = directory
        self._now = now
        self._wall = wall

    def translate(
        self, source: WireFormat, target: WireFormat, body: bytes, *, model: str | None = None
    ) -> TranslationDocument:
        """Translate a client's request, for the target `model` where one is named.

        Raises:
            ValidationFailed: the body is not a request of the format; the field is in it.
            UnsupportedFeature: the target cannot say something that is never left out.
            ModelNotFound: there is no such model.
        """
        translated = self.request(source, target, body, profile=self.profile(target, model))
        return {"result": msgspec.Raw(translated.body), "losses": translated.losses}

    def translate_answer(self, source: WireFormat, target: WireFormat, body: bytes) -> TranslationDocument:
        """Translate a provider's whole answer.

        Raises:
            ValidationFailed: the body is not an answer of the format.
        """
        try:
            scan(body)
            answer = read_answer(body, source, self._way_back(source, target))
        except ErrorInside:
            raise _unreadable("body", "is an error, not an answer") from None
        except (InvalidRequest, InvalidJson, UpstreamProtocolError) as error:
            raise _unreadable(
                _within("body", error.param), f"is no answer of {NAMES[source]}: {error.message}"
            ) from None
        rendered = self._rendered(target, answer)
        return {"result": msgspec.Raw(rendered), "losses": answer_losses(answer, _read_again(rendered, target))}

    def translate_stream(self, source: WireFormat, target: WireFormat, data: bytes) -> TranslatedStreamDocument:
        """Translate the bytes of a provider's stream.

        Raises:
            ValidationFailed: the text is not a stream of the format.
        """
        way_back, dialect = self._way_back(source, target), DIALECTS[SURFACES[target]]
        parser, folder = UPSTREAMS[source].new_parser(), Folder(source)
        try:
            events = [*parser.feed(data), *parser.close()]
            events = way_back.events(events)
        except (UpstreamProtocolError, InvalidRequest) as error:
            raise _unreadable("sse", f"is no stream of {NAMES[source]}: {error.message}") from None
        if not any(not isinstance(event, StreamError) for event in events):
            raise _unreadable("sse", f"holds no event of a stream of {NAMES[source]}")
        request = _empty_request(target)
        events = Estimates(0, at_start=target is WireFormat.ANTHROPIC_MESSAGES).events(events)
        renderer = dialect.new_renderer(self._reply(request))
        pause, frames, failed = Slices(self._now), list[str](), None
        for event in events:
            pause()
            if isinstance(event, StreamError):
                failed = _stream_error(event)
                frames += split_frames(renderer.fail(failed, _ID), target)
                continue
            folder.see([event])
            frames += split_frames(renderer.render([event]), target)
        folded, losses = None, list[LossDocument]()
        if any(isinstance(event, MessageStop) for event in events):
            answer = folder.answer()
            rendered = dialect.render_answer(answer, self._reply(request))
            folded, losses = msgspec.Raw(rendered), answer_losses(answer, _read_again(rendered, target))
        return {
            "frames": frames,
            "folded": folded,
            "losses": losses,
            "error": None if failed is None else failed.message,
        }

    # --- parts, which the bench puts together --------------------------------------------------------------------

    def request(
        self,
        source: WireFormat,
        target: WireFormat,
        body: bytes,
        *,
        profile: Profile,
        is_stream: bool | None = None,
    ) -> Translated:
        """Translate a request for a target of this profile; see :meth:`translate`.

        `is_stream` is for formats that say it in their path.
        """
        pause = Slices(self._now)
        request = self.parsed(source, body, pause)
        if is_stream is not None:
            request = msgspec.structs.replace(request, stream=is_stream)
        if not request.model:
            request = msgspec.structs.replace(request, model=profile.model or _SAMPLE_MODEL)
        if not profile.model:
            profile = msgspec.structs.replace(profile, model=request.model)
        urls = urls_to_fetch(request, profile)
        if urls:
            request = with_fetched(request, {url: (guess_type(url)[0] or "image/png", _PLACEHOLDER) for url in urls})
        try:
            translated = translate_request(request, profile, thinking_of=lambda _: None, pause=pause)
        except UnsupportedFeature as refusal:
            refusal.param = _within("body", refusal.param)
            raise
        losses = request_losses(translated.losses.paths)
        losses += [{"path": "media", "reason": f"{_FETCHED} {url[:_LONGEST_URL]}"} for url in urls]
        changes = translated.changes
        return Translated(translated.body, request, losses, lambda: WayBack(changes, profile, source, _ID[:20]))

    def answered(
        self, source: WireFormat, asked: Translated, data: bytes, client: WireFormat, *, is_stream: bool
    ) -> bytes:
        """Return a provider's answer to a translated request as the client gets it.

        Raises:
            UpstreamProtocolError: it is no answer of the format, or an error.
        """
        dialect, reply, way_back = dialect_of(client), self._reply(asked.request, asked.request.model), asked.way_back()
        if not is_stream:
            try:
                answer = read_answer(data, source, way_back)
            except ErrorInside:
                raise UpstreamProtocolError("The answer is an error.") from None
            return dialect.render_answer(completed(answer, asked.request), reply)
        parser, renderer = UPSTREAMS[source].new_parser(), dialect.new_renderer(reply)
        events = way_back.events([*parser.feed(data), *parser.close()])
        for event in events:
            if isinstance(event, StreamError):
                raise _stream_error(event)
        estimates = Estimates(prompt_tokens(asked.request), at_start=client is WireFormat.ANTHROPIC_MESSAGES)
        return renderer.render(estimates.events(events))

    def parsed(self, source: WireFormat, body: bytes, pause: Pause) -> Request:
        """Read a request.

        Raises:
            ValidationFailed: it is not one of the format.
        """
        dialect = DIALECTS[SURFACES[source]]
        try:
            top = scan(body, acted_on=dialect.acted_on, pause=pause)
            if not any(member in top for member in dialect.conversation):
                raise _unreadable(f"body.{dialect.conversation[0]}", f"is required in a request of {NAMES[source]}")
            return dialect.parse_request(top.body, pause)
        except (InvalidRequest, InvalidJson, MissingField) as error:
            message = error.message.removeprefix(f"{error.param}: ")
            raise _unreadable(_within("body", error.param), message) from None

    def profile(self, wire_format: WireFormat, model: str | None) -> Profile:
        """Return what a model takes in a format: a named one, else a capable one of the format's vendor."""
        if model is None:
            return profile_for(wire_format, "", is_vendor=True, **_VENDOR_FACTS[wire_format])
        target = self._directory().resolve(model)[0]
        return profile_in(target, wire_format)

    def _way_back(self, source: WireFormat, target: WireFormat) -> WayBack:
        return WayBack(NO_CHANGES, self.profile(source, None), target, _ID[:20])

    def _rendered(self, target: WireFormat, answer: Answer) -> bytes:
        request = _empty_request(target)
        return DIALECTS[SURFACES[target]].render_answer(completed(answer, request), self._reply(request, answer.model))

    def _reply(self, request: Request, model: str = _SAMPLE_MODEL) -> Reply:
        return Reply(request, model or _SAMPLE_MODEL, _ID, int(self._wall()), _no_trailer)


def split_frames(data: bytes, wire_format: WireFormat) -> list[str]:
    """Return the frames of a stream's bytes: events where the format has them, else lines; nothing empty."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    if wire_format is WireFormat.OLLAMA:
        return [line for line in text.split("\n") if line.strip()]
    return [frame for frame in text.split("\n\n") if frame.strip()]


def dialect_of(wire_format: WireFormat) -> Dialect:
    """Return the way in of a format."""
    return DIALECTS[SURFACES[wire_format]]


def _read_again(rendered: bytes, wire_format: WireFormat) -> Answer | None:
    try:
        return UPSTREAMS[wire_format].parse_answer(rendered)
    except UpstreamProtocolError:
        return None


def _empty_request(wire_format: WireFormat) -> Request:
    """Return a request that an answer may say everything to."""
    return Request(
        origin=wire_format,
        model=_SAMPLE_MODEL,
        messages=(),
        reasoning=Reasoning(is_visible=True),
        stream=True,
        include_usage=True,
    )


def _stream_error(event: StreamError) -> OmniRouteError:
    if not event.data:
        return UpstreamProtocolError("The stream ends in the middle of its answer.")
    return UpstreamProtocolError(_message_in(event.data) or "The stream ends with an error of the provider.")


def _message_in(data: bytes) -> str | None:
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    while isinstance(found, dict):
        message = found.get("message")
        if isinstance(message, str) and message:
            return message[:500]
        found = found.get("error")
    return found[:500] if isinstance(found, str) and found != FILTERED else None


def _unreadable(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])


def _within(holder: str, path: str | None) -> str:
    return f"{holder}.{path}" if path else holder


def _no_trailer(usage: Usage) -> bytes:
    del usage
    return b""
