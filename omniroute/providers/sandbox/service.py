"""From a request to its script: which path, which dialect, which model, and what may go wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from omniroute.providers.sandbox import anthropic_answer, anthropic_request, openai_answer, openai_request
from omniroute.providers.sandbox.answer import Answer, compose
from omniroute.providers.sandbox.models import LISTED, PREFIX, Behaviour, Kind, parse_model
from omniroute.providers.sandbox.prompt import Prompt, digest_of
from omniroute.providers.sandbox.script import NEVER, Dialect, Ending, Frame, Options, Script, VendorError

_CHAT: Final = "/chat/completions"
_MESSAGES: Final = "/messages"
_COUNT: Final = "/messages/count_tokens"
_MODELS: Final = "/models"
_JSON: Final = ("content-type", "application/json")
_EVENTS: Final = ("content-type", "text/event-stream; charset=utf-8")
_NO_CACHE: Final = ("cache-control", "no-cache")
_DEFAULTS: Final = Options()
_RATE_LIMIT_S: Final = 5.0

_MOST_MS: Final = 600_000.0
_MOST_CHUNKS: Final = 1_000_000.0

# What `fail-<status>` says where the vendor has a usual reason: message, code.
_REASONS: Final[Mapping[int, tuple[str, str | None]]] = {
    400: ("The sandbox was asked to find this request invalid.", None),
    401: ("Incorrect API key provided.", "invalid_api_key"),
    402: ("Your credit balance is too low.", "insufficient_quota"),
    403: ("This API key may not use the requested model.", "permission_denied"),
    404: ("The model does not exist or you do not have access to it.", "model_not_found"),
    413: ("The request exceeds the maximum size.", "request_too_large"),
    429: ("Rate limit reached.", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request.", "internal_error"),
    503: ("The service is overloaded. Try again later.", "overloaded"),
    504: ("The request timed out.", "timeout"),
    529: ("Overloaded.", "overloaded"),
}
_GARBAGE: Final = b'{"id":"\xff\xfe\xfa","choices":[{"delta":{"content":"\xc3\x28'
_GARBAGE_FRAMES: Final = 4


def respond(
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    options: Options = _DEFAULTS,
    rng: random.Random | None = None,
) -> Script:
    """Answer one request as the vendor of its path would.

    The same arguments always give the same script; `rng` decides about failures and jitter only, and only if the
    options ask for them. Without it chance follows from the body.

    Args:
        path: path of the URL, with or without `/v1` and with any query, for example `/v1/messages?beta=true`.
        headers: names in any case; `x-sandbox-*` ones change the pace of this request.
        body: the request as sent; empty for the model lists.
        options: behaviour where the request leaves it open.
        rng: source of chance.
    """
    return build_script(path, {name.lower(): value for name, value in headers.items()}, body, options, rng)


def build_script(
    path: str, headers: Mapping[str, str], body: bytes, options: Options, rng: random.Random | None
) -> Script:
    """Do the work of :func:`respond` for a caller whose header names are in lower case already."""
    route = path.partition("?")[0].removeprefix("/v1").rstrip("/")
    dialect = _dialect(route, headers)
    try:
        options = _overridden(options, headers)
        _check_key(headers, options)
        script = _routed(route, dialect, body, options, rng)
    except VendorError as error:
        script = render_failure(dialect, error, body)
    return _delayed(script, body, options, rng) if options.latency_ms or options.jitter_ms else script


def _routed(route: str, dialect: Dialect, body: bytes, options: Options, rng: random.Random | None) -> Script:
    if route == _CHAT:
        return _chat(body, options, rng)
    if route == _MESSAGES:
        return _messages(body, options, rng)
    if route == _COUNT:
        count = anthropic_answer.render_count(anthropic_request.parse_count_request(body))
        return _whole(dialect, count, digest_of(body))
    if route == _MODELS or route.startswith(_MODELS + "/"):
        return _whole(dialect, _models(dialect, unquote(route[len(_MODELS) + 1 :])), digest_of(body))
    raise VendorError(404, f"Unknown path: {route or '/'}", code="unknown_url")


def render_failure(dialect: Dialect, error: VendorError, body: bytes) -> Script:
    """Return the answer by which the vendor of `dialect` refuses a request."""
    request_id = _request_id(dialect, digest_of(body))
    headers = [_JSON, request_id]
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(-int(-error.retry_after_s // 1))))
        if dialect is Dialect.OPENAI_CHAT:
            headers.append(("retry-after-ms", str(round(error.retry_after_s * 1000))))
    if dialect is Dialect.OPENAI_CHAT:
        content = openai_answer.render_error(error)
    else:
        can_help = error.status in (408, 409, 429) or error.status >= 500
        headers.append(("x-should-retry", "true" if can_help else "false"))
        content = anthropic_answer.render_error(error, request_id[1])
    headers.append(("content-length", str(len(content))))
    return Script(error.status, tuple(headers), iter(((0.0, content),)))


def dialect_of(path: str, headers: Mapping[str, str]) -> Dialect:
    """Return the dialect in which a request on `path` is answered; header names in lower case."""
    return _dialect(path.partition("?")[0].removeprefix("/v1").rstrip("/"), headers)


def credential_of(headers: Mapping[str, str]) -> str:
    """Return the key that a request carries, in whichever header; empty without one."""
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


def _dialect(route: str, headers: Mapping[str, str]) -> Dialect:
    if route == _CHAT:
        return Dialect.OPENAI_CHAT
    if route in (_MESSAGES, _COUNT) or "anthropic-version" in headers:
        return Dialect.ANTHROPIC_MESSAGES
    return Dialect.OPENAI_CHAT


def _overridden(options: Options, headers: Mapping[str, str]) -> Options:
    """Return the options with the pace that this request asks for."""
    latency_ms = _asked(headers, "x-sandbox-latency-ms", _MOST_MS)
    chunks = _asked(headers, "x-sandbox-chunks", _MOST_CHUNKS)
    chunk_size = _asked(headers, "x-sandbox-chunk-size", _MOST_CHUNKS)
    interval_ms = _asked(headers, "x-sandbox-chunk-interval-ms", _MOST_MS)
    if latency_ms is chunks is chunk_size is interval_ms is None:
        return options
    return replace(
        options,
        latency_ms=options.latency_ms if latency_ms is None else latency_ms,
        chunks=options.chunks if chunks is None else (int(chunks) or None),
        chunk_size=options.chunk_size if chunk_size is None else (int(chunk_size) or None),
        chunk_interval_ms=options.chunk_interval_ms if interval_ms is None else interval_ms,
    )


def _asked(headers: Mapping[str, str], name: str, most: float) -> float | None:
    text = headers.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise VendorError(400, f"{name} must be a number from 0 to {most:g}.", param=name)
    return value


def _check_key(headers: Mapping[str, str], options: Options) -> None:
    if options.require_key is None:
        return
    if credential_of(headers) != options.require_key.reveal():
        raise VendorError(401, _REASONS[401][0], code=_REASONS[401][1])


def _chat(body: bytes, options: Options, rng: random.Random | None) -> Script:
    prompt = openai_request.parse_request(body)
    behaviour = _behaviour(prompt)
    _fail(behaviour, options, body, rng)
    if behaviour.kind is Kind.GARBAGE:
        return _garbage(prompt)
    answer = compose(prompt, behaviour, options)
    if prompt.is_stream:
        return _stream(prompt, answer, openai_answer.render_stream(prompt, answer))
    return _unstreamed(prompt, answer, openai_answer.render_answer(prompt, answer))


def _messages(body: bytes, options: Options, rng: random.Random | None) -> Script:
    prompt = anthropic_request.parse_request(body)
    behaviour = _behaviour(prompt)
    _fail(behaviour, options, body, rng)
    if behaviour.kind is Kind.GARBAGE:
        return _garbage(prompt)
    answer = compose(prompt, behaviour, options)
    if prompt.is_stream:
        return _stream(prompt, answer, anthropic_answer.render_stream(prompt, answer))
    return _unstreamed(prompt, answer, anthropic_answer.render_answer(prompt, answer))


def _behaviour(prompt: Prompt) -> Behaviour:
    behaviour = parse_model(prompt.model)
    if behaviour is None:
        raise VendorError(404, f"The model '{prompt.model}' does not exist.", param="model", code="model_not_found")
    return behaviour


def _fail(behaviour: Behaviour, options: Options, body: bytes, rng: random.Random | None) -> None:
    """Raise the failure that the model's name or the options ask for."""
    if behaviour.kind is Kind.FAIL:
        retry_after_s = behaviour.number(1)
        raise failure(behaviour.number(0) or 500, None if retry_after_s is None else float(retry_after_s))
    if options.fail_rate and (rng or _chance(body)).random() < options.fail_rate:
        raise failure(options.fail_status, None)


def failure(status: int, retry_after_s: float | None) -> VendorError:
    """Return what the vendor says with `status`; a rate limit always carries a hint."""
    message, code = _REASONS.get(status, (f"The sandbox was asked to fail with status {status}.", None))
    if status == 429 and retry_after_s is None:
        retry_after_s = _RATE_LIMIT_S
    if retry_after_s is not None:
        message = f"{message} Please try again in {retry_after_s:g}s."
    return VendorError(status, message, code=code, retry_after_s=retry_after_s)


def _models(dialect: Dialect, model_id: str) -> bytes:
    is_openai = dialect is Dialect.OPENAI_CHAT
    if not model_id:
        return openai_answer.render_models() if is_openai else anthropic_answer.render_models()
    for model in LISTED:
        if model.id == model_id.removeprefix(PREFIX):
            return openai_answer.render_model(model) if is_openai else anthropic_answer.render_model(model)
    raise VendorError(404, f"The model '{model_id}' does not exist.", param="model", code="model_not_found")


def _whole(dialect: Dialect, content: bytes, digest: str, ending: Ending = Ending.COMPLETE) -> Script:
    headers = (_JSON, _request_id(dialect, digest), ("content-length", str(len(content))))
    sent = content if ending is Ending.COMPLETE else content[: len(content) // 2]
    return Script(200, headers, iter(((0.0, sent),)), ending)


def _unstreamed(prompt: Prompt, answer: Answer, content: bytes) -> Script:
    if answer.ending is Ending.HANG:
        return Script(200, (), iter(()), Ending.HANG, NEVER)
    script = _whole(prompt.dialect, content, prompt.digest, answer.ending)
    return replace(script, head_delay_s=answer.first_delay_s) if answer.first_delay_s else script


def _stream(prompt: Prompt, answer: Answer, frames: Iterator[Frame]) -> Script:
    return Script(200, (_EVENTS, _NO_CACHE, _request_id(prompt.dialect, prompt.digest)), frames, answer.ending)


def _garbage(prompt: Prompt) -> Script:
    """Answer 200 with what looks like the vendor's format at first and can be read as nothing."""
    if not prompt.is_stream:
        return _whole(prompt.dialect, _GARBAGE, prompt.digest)
    frames = iter([(0.0, b"data: " + _GARBAGE + b"\n\n")] * _GARBAGE_FRAMES)
    return Script(200, (_EVENTS, _NO_CACHE, _request_id(prompt.dialect, prompt.digest)), frames)


def _delayed(script: Script, body: bytes, options: Options, rng: random.Random | None) -> Script:
    delay_ms = options.latency_ms
    if options.jitter_ms:
        delay_ms += (rng or _chance(body)).random() * options.jitter_ms
    return replace(script, head_delay_s=script.head_delay_s + delay_ms / 1000)


def _chance(body: bytes) -> random.Random:
    return random.Random(digest_of(body))  # noqa: S311 - simulated bad luck, not a secret


def _request_id(dialect: Dialect, digest: str) -> tuple[str, str]:
    name = "x-request-id" if dialect is Dialect.OPENAI_CHAT else "request-id"
    return name, f"req_{digest[32:56]}"
