"""From a request to its script: which path, which dialect, which model, and what may go wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from omniroute.providers.sandbox import (
    anthropic_answer,
    anthropic_request,
    completions,
    gemini_answer,
    gemini_request,
    ollama_answer,
    ollama_request,
    openai_answer,
    openai_request,
    responses_answer,
    responses_request,
)
from omniroute.providers.sandbox.answer import compose
from omniroute.providers.sandbox.blocks import Answer, Fault, Stop
from omniroute.providers.sandbox.invoice import Job
from omniroute.providers.sandbox.jsontext import load_object
from omniroute.providers.sandbox.models import LISTED, PREFIX, Behaviour, Kind, parse_model
from omniroute.providers.sandbox.prompt import Prompt, digest_of
from omniroute.providers.sandbox.routes import Action, Route, find_route
from omniroute.providers.sandbox.script import NEVER, Dialect, Ending, Frame, Options, Script, VendorError

_JSON: Final = ("content-type", "application/json")
_LINES: Final = ("content-type", "application/x-ndjson")
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
    route = find_route(path, headers)
    try:
        options = _overridden(options, headers)
        _check_key(headers, route, options)
        script = _routed(route, path, body, options, rng)
    except VendorError as error:
        script = render_failure(route.dialect, error, body, is_array=route.is_array)
    return _delayed(script, body, options, rng) if options.latency_ms or options.jitter_ms else script


def _routed(route: Route, path: str, body: bytes, options: Options, rng: random.Random | None) -> Script:
    match route.action:
        case Action.ANSWER | Action.COMPLETE:
            return _answer(route, body, options, rng)
        case Action.COUNT:
            return _whole(route.dialect, _count(route, body), digest_of(body))
        case Action.COMPACT:
            return _compact(body, options, rng)
        case Action.MODELS:
            return _whole(route.dialect, _models(route.dialect, route.name), digest_of(body))
        case Action.SHOW:
            asked = load_object(body)
            return _whole(route.dialect, _model(route.dialect, str(asked.get("model") or asked.get("name"))), "")
        case Action.VERSION:
            return _whole(route.dialect, ollama_answer.render_version(), digest_of(body))
        case Action.STORED:
            raise _not_stored(route.name)
        case Action.UNKNOWN:
            raise VendorError(404, f"Unknown path: {path.partition('?')[0] or '/'}", code="unknown_url")
        case _:
            raise ValueError(f"unknown action {route.action}")


def render_failure(dialect: Dialect, error: VendorError, body: bytes, *, is_array: bool = False) -> Script:
    """Return the answer by which the vendor of `dialect` refuses a request."""
    request_id = _request_id(dialect, digest_of(body))
    headers = [_JSON, request_id]
    if error.retry_after_s is not None and dialect is not Dialect.GEMINI:  # there the body holds the hint
        headers.append(("retry-after", str(-int(-error.retry_after_s // 1))))
        if dialect in (Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES):
            headers.append(("retry-after-ms", str(round(error.retry_after_s * 1000))))
    match dialect:
        case Dialect.OPENAI_CHAT | Dialect.OPENAI_RESPONSES:
            content = openai_answer.render_error(error)
        case Dialect.ANTHROPIC_MESSAGES:
            can_help = error.status in (408, 409, 429) or error.status >= 500
            headers.append(("x-should-retry", "true" if can_help else "false"))
            content = anthropic_answer.render_error(error, request_id[1])
        case Dialect.GEMINI:
            content = gemini_answer.render_error(error)
            content = b"[%b]" % content if is_array else content
        case Dialect.OLLAMA:
            content = ollama_answer.render_error(error)
        case _:
            raise ValueError(f"unknown dialect {dialect}")
    headers.append(("content-length", str(len(content))))
    return Script(error.status, tuple(headers), iter(((0.0, content),)))


def dialect_of(path: str, headers: Mapping[str, str]) -> Dialect:
    """Return the dialect in which a request on `path` is answered; header names in lower case."""
    return find_route(path, headers).dialect


def credential_of(headers: Mapping[str, str]) -> str:
    """Return the key that a request carries, in whichever header; empty without one."""
    named = headers.get("x-api-key") or headers.get("x-goog-api-key")
    return named or headers.get("authorization", "").removeprefix("Bearer ")


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


def _check_key(headers: Mapping[str, str], route: Route, options: Options) -> None:
    if options.require_key is None:
        return
    if (credential_of(headers) or route.key) == options.require_key.reveal():
        return
    if route.dialect is Dialect.GEMINI:
        raise VendorError(400, "API key not valid. Please pass a valid API key.", code="api_key_invalid")
    raise VendorError(401, _REASONS[401][0], code=_REASONS[401][1])


def _answer(route: Route, body: bytes, options: Options, rng: random.Random | None) -> Script:
    prompt = _prompt(route, body)
    behaviour = _behaviour(prompt)
    _fail(behaviour, options, body, rng)
    if route.dialect is Dialect.OLLAMA and not prompt.entries and not prompt.media:
        return _whole(route.dialect, ollama_answer.render_load(prompt), prompt.digest)
    if behaviour.kind is Kind.GARBAGE:
        return _garbage(prompt)
    try:
        answer = compose(prompt, behaviour, options)
    except VendorError as error:
        if not (error.is_in_stream and prompt.is_stream and prompt.dialect is Dialect.OPENAI_RESPONSES):
            raise
        answer = Answer((), Stop.END, 0, torn_after=0, fault=Fault.LATE_ERROR, error=error)
    if prompt.is_stream:
        script = _stream(prompt, answer, _frames(route, prompt, answer), is_array=route.is_array)
    else:
        script = _unstreamed(prompt, answer, _body(route, prompt, answer))
    if answer.fault in (Fault.EARLY_ERROR, Fault.EMPTY):
        return script
    request_id = _request_id(prompt.dialect, prompt.digest)[1]
    job = Job(request_id, prompt, answer, prompt.is_stream, lambda: _frames(route, prompt, answer))
    return replace(script, job=job)


def _prompt(route: Route, body: bytes) -> Prompt:
    match route.dialect:
        case Dialect.OPENAI_CHAT if route.action is Action.COMPLETE:
            return completions.parse_request(body)
        case Dialect.OPENAI_CHAT:
            return openai_request.parse_request(body)
        case Dialect.OPENAI_RESPONSES:
            return responses_request.parse_request(body)
        case Dialect.ANTHROPIC_MESSAGES:
            return anthropic_request.parse_request(body)
        case Dialect.GEMINI:
            return gemini_request.parse_request(body, route.name, is_stream=route.is_stream)
        case Dialect.OLLAMA:
            return ollama_request.parse_request(body)
        case _:
            raise ValueError(f"unknown dialect {route.dialect}")


def _body(route: Route, prompt: Prompt, answer: Answer) -> bytes:
    match route.dialect:
        case Dialect.OPENAI_CHAT if route.action is Action.COMPLETE:
            return completions.render_answer(prompt, answer)
        case Dialect.OPENAI_CHAT:
            return openai_answer.render_answer(prompt, answer)
        case Dialect.OPENAI_RESPONSES:
            return responses_answer.render_answer(prompt, answer)
        case Dialect.ANTHROPIC_MESSAGES:
            return anthropic_answer.render_answer(prompt, answer)
        case Dialect.GEMINI:
            return gemini_answer.render_answer(prompt, answer)
        case Dialect.OLLAMA:
            return ollama_answer.render_answer(prompt, answer)
        case _:
            raise ValueError(f"unknown dialect {route.dialect}")


def _frames(route: Route, prompt: Prompt, answer: Answer) -> Iterator[Frame]:
    if answer.fault is Fault.EMPTY:
        return iter(())
    match route.dialect:
        case Dialect.OPENAI_CHAT if route.action is Action.COMPLETE:
            return completions.render_stream(prompt, answer)
        case Dialect.OPENAI_CHAT:
            return openai_answer.render_stream(prompt, answer)
        case Dialect.OPENAI_RESPONSES:
            return responses_answer.render_stream(prompt, answer)
        case Dialect.ANTHROPIC_MESSAGES:
            return anthropic_answer.render_stream(prompt, answer)
        case Dialect.GEMINI:
            return gemini_answer.render_stream(prompt, answer, is_array=route.is_array)
        case Dialect.OLLAMA:
            return ollama_answer.render_stream(prompt, answer)
        case _:
            raise ValueError(f"unknown dialect {route.dialect}")


def _count(route: Route, body: bytes) -> bytes:
    match route.dialect:
        case Dialect.OPENAI_RESPONSES:
            return responses_answer.render_count(responses_request.parse_count_request(body))
        case Dialect.GEMINI:
            return gemini_answer.render_count(gemini_request.parse_count_request(body))
        case _:
            return anthropic_answer.render_count(anthropic_request.parse_count_request(body))


def _compact(body: bytes, options: Options, rng: random.Random | None) -> Script:
    prompt = responses_request.parse_request(body)
    _fail(_behaviour(prompt), options, body, rng)
    return _whole(prompt.dialect, responses_answer.render_compaction(prompt), prompt.digest)


def _not_stored(target: str) -> VendorError:
    """Return the refusal to look up an answer: the sandbox keeps none."""
    response_id = target.partition("/")[0]
    if not response_id.startswith("resp_"):
        return VendorError(
            400,
            f"Invalid 'response_id': '{response_id}'. Expected an ID that begins with 'resp'.",
            param="response_id",
            code="invalid_value",
        )
    return VendorError(404, f"Response with id '{response_id}' not found.")


def _behaviour(prompt: Prompt) -> Behaviour:
    behaviour = parse_model(prompt.model)
    if behaviour is None:
        raise _no_model(prompt.dialect, prompt.model)
    return behaviour


def _no_model(dialect: Dialect, name: str) -> VendorError:
    match dialect:
        case Dialect.ANTHROPIC_MESSAGES:
            return VendorError(404, f"model: {name}")
        case Dialect.GEMINI:
            return VendorError(
                404,
                f"models/{name} is not found for API version v1beta, or is not supported for generateContent. "
                "Call ListModels to see the list of available models and their supported methods.",
            )
        case Dialect.OLLAMA:
            return VendorError(404, f"model '{name}' not found")
        case _:
            return VendorError(
                404,
                f"The model '{name}' does not exist or you do not have access to it.",
                param="model",
                code="model_not_found",
            )


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
    if model_id:
        return _model(dialect, model_id)
    match dialect:
        case Dialect.ANTHROPIC_MESSAGES:
            return anthropic_answer.render_models()
        case Dialect.GEMINI:
            return gemini_answer.render_models()
        case Dialect.OLLAMA:
            return ollama_answer.render_models()
        case _:
            return openai_answer.render_models()


def _model(dialect: Dialect, model_id: str) -> bytes:
    for model in LISTED:
        if model.id != model_id.removeprefix(PREFIX):
            continue
        match dialect:
            case Dialect.ANTHROPIC_MESSAGES:
                return anthropic_answer.render_model(model)
            case Dialect.GEMINI:
                return gemini_answer.render_model(model)
            case Dialect.OLLAMA:
                return ollama_answer.render_model(model)
            case _:
                return openai_answer.render_model(model)
    raise _no_model(dialect, model_id)


def _whole(dialect: Dialect, content: bytes, digest: str, ending: Ending = Ending.COMPLETE) -> Script:
    headers = (_JSON, _request_id(dialect, digest), ("content-length", str(len(content))))
    sent = content if ending is Ending.COMPLETE else content[: len(content) // 2]
    return Script(200, headers, iter(((0.0, sent),)), ending)


def _unstreamed(prompt: Prompt, answer: Answer, content: bytes) -> Script:
    if answer.ending is Ending.HANG:
        return Script(200, (), iter(()), Ending.HANG, NEVER)
    match answer.fault:
        case Fault.LATE_ERROR if answer.error is not None:
            raise answer.error
        case Fault.EARLY_ERROR if answer.error is not None:
            script = render_failure(prompt.dialect, answer.error, prompt.digest.encode())
            return replace(script, status=200)
        case Fault.EMPTY:
            content = b""
        case _:
            pass
    script = _whole(prompt.dialect, content, prompt.digest, answer.ending)
    return replace(script, head_delay_s=answer.first_delay_s) if answer.first_delay_s else script


def _stream(prompt: Prompt, answer: Answer, frames: Iterator[Frame], *, is_array: bool) -> Script:
    return Script(200, _stream_head(prompt, is_array=is_array), frames, answer.ending)


def _stream_head(prompt: Prompt, *, is_array: bool) -> tuple[tuple[str, str], ...]:
    if prompt.dialect is Dialect.OLLAMA:
        kind = _LINES
    else:
        kind = _JSON if is_array else _EVENTS
    return kind, _NO_CACHE, _request_id(prompt.dialect, prompt.digest)


def _garbage(prompt: Prompt) -> Script:
    """Answer 200 with what looks like the vendor's format at first and can be read as nothing."""
    if not prompt.is_stream:
        return _whole(prompt.dialect, _GARBAGE, prompt.digest)
    frame = _GARBAGE + b"\n" if prompt.dialect is Dialect.OLLAMA else b"data: " + _GARBAGE + b"\n\n"
    return Script(200, _stream_head(prompt, is_array=False), iter([(0.0, frame)] * _GARBAGE_FRAMES))


def _delayed(script: Script, body: bytes, options: Options, rng: random.Random | None) -> Script:
    delay_ms = options.latency_ms
    if options.jitter_ms:
        delay_ms += (rng or _chance(body)).random() * options.jitter_ms
    return replace(script, head_delay_s=script.head_delay_s + delay_ms / 1000)


def _chance(body: bytes) -> random.Random:
    return random.Random(digest_of(body))  # noqa: S311 - simulated bad luck, not a secret


def _request_id(dialect: Dialect, digest: str) -> tuple[str, str]:
    name = "request-id" if dialect is Dialect.ANTHROPIC_MESSAGES else "x-request-id"
    return name, f"req_{digest[32:56]}"
