"""Ask every case in every client format of every target, and say what came of it.

Without a provider the targets are formats: a request is translated, answered by the simulated provider as a vendor of
that format would (it refuses what the vendor refuses), and the answer is translated back. Live the targets are models,
and every cell is a request through the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import msgspec

from omniroute.errors import OmniRouteError, UnsupportedFeature, UpstreamProtocolError, ValidationFailed
from omniroute.formats.canonical import Answer
from omniroute.formats.codec import no_pause
from omniroute.formats.error_shapes import is_error_body
from omniroute.formats.estimates import prompt_tokens
from omniroute.formats.events import StreamError
from omniroute.formats.fold import Folder
from omniroute.formats.translate import UPSTREAMS
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from omniroute.gateway.charges import priced
from omniroute.gateway.directory import Directory, Target
from omniroute.gateway.faults import error_for
from omniroute.money.tariff import exact_usd
from omniroute.providers import classify
from omniroute.providers.spec import ModelKind
from omniroute.services.jobs import Report
from omniroute.services.translator import FORMATS, Translator, dialect_of
from omniroute.services.translator_cases import CASES, Case
from omniroute.services.translator_losses import LossDocument
from omniroute.services.translator_send import ChatTester, Draft
from omniroute.services.translator_stages import SentDocument

MOST_TARGETS: Final = 10
_CHAT: Final = WireFormat.OPENAI_CHAT
_LONGEST_EVIDENCE: Final = 1500
_NOT_THERE: Final = "no-such-model-of-the-test-bench"
_OK, _FAILED, _NOT_SUPPORTED = "ok", "failed", "not_supported"
_PATHS: Final[Mapping[WireFormat, str]] = {
    WireFormat.OPENAI_CHAT: "/v1/chat/completions",
    WireFormat.OPENAI_RESPONSES: "/v1/responses",
    WireFormat.ANTHROPIC_MESSAGES: "/v1/messages",
    WireFormat.OLLAMA: "/api/chat",
}


class EvidenceDocument(TypedDict):
    """What was sent and what came, each the beginning of it; null where it did not come to that."""

    clientRequest: str | None
    upstreamRequest: str | None
    upstreamAnswer: str | None
    clientAnswer: str | None


class CellDocument(TypedDict):
    """What came of a case in a client format at a target: `ok`, `failed` or `not_supported`, and why."""

    case: str
    format: WireFormat
    target: str
    state: str
    checked: str
    reason: str | None
    losses: list[LossDocument]
    durationMs: float
    evidence: EvidenceDocument


class BenchDocument(TypedDict):
    """The result of a run of the test bench."""

    live: bool
    ok: int
    failed: int
    notSupported: int
    cells: list[CellDocument]


class EstimateDocument(TypedDict):
    """What a live run may cost at most, as far as prices are known; `unpriced` lists the targets without one."""

    cells: int
    requests: int
    estimateUsd: str
    unpriced: list[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is to cover; nothing said is everything.

    Attributes:
        formats: of clients.
        targets: formats of targets, without a provider.
        models: targets of a live run, as `provider/model`.
    """

    cases: tuple[str, ...]
    formats: tuple[WireFormat, ...]
    targets: tuple[WireFormat, ...]
    models: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether providers are asked."""
        return bool(self.models)

    def cells(self) -> Iterator[tuple[Case, WireFormat, str]]:
        """Give every cell: case, client format, target."""
        for case in self.cases:
            for client in self.formats:
                for target in self.models or self.targets:
                    yield CASES[case], client, target


@dataclass(slots=True)
class _Cell:
    """What a cell has come to so far."""

    reason: str | None = None
    is_supported: bool = True
    client_request: bytes = b""
    upstream_request: bytes = b""
    upstream_answer: bytes = b""
    client_answer: bytes = b""
    losses: Sequence[LossDocument] = ()

    def lack(self, reason: str) -> None:
        """Say that the target cannot do this."""
        self.reason, self.is_supported = reason, False


class Bench:
    """Runs the test bench."""

    def __init__(
        self,
        *,
        translator: Translator,
        tester: ChatTester,
        directory: Callable[[], Directory],
        spacing_s: float,
        sleep: Callable[[float], None],
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`spacing_s` is the pause between two requests of a live run; `now` is monotonic, `wall` the time of day."""
        self._translator = translator
        self._tester = tester
        self._directory = directory
        self._spacing_s = spacing_s
        self._sleep = sleep
        self._now = now
        self._wall = wall

    def wanted(
        self,
        cases: Sequence[str],
        formats: Sequence[WireFormat],
        targets: Sequence[WireFormat],
        providers: Sequence[str],
        *,
        is_live: bool,
    ) -> Wanted:
        """Return what a run is to cover.

        Raises:
            ValidationFailed: a live run names no provider or model, or one that is not connected.
        """
        if not is_live:
            return Wanted(tuple(cases or CASES), tuple(formats or FORMATS), tuple(targets or FORMATS))
        if not providers:
            raise ValidationFailed([{"field": "providers", "message": "a live run needs a provider or model"}])
        models = tuple(dict.fromkeys(self._model(name) for name in providers))
        return Wanted(tuple(cases or CASES), tuple(formats or FORMATS), (), models)

    def estimate(self, wanted: Wanted) -> EstimateDocument:
        """Return what a live run may cost at most."""
        total, requests, unpriced = 0, 0, dict[str, None]()
        for case, client, model in wanted.cells():
            if not wanted.is_live or case.is_error:
                continue
            requests += 1
            request = self._translator.parsed(_CHAT, self._body(case, _CHAT, model), no_pause)
            made, _ = priced(self._target(model), Usage(input=prompt_tokens(request), output=case.max_output))
            del client
            if made.nano_usd is None:
                unpriced[model] = None
            else:
                total += made.nano_usd
        return {
            "cells": sum(1 for _ in wanted.cells()),
            "requests": requests,
            "estimateUsd": exact_usd(total),
            "unpriced": list(unpriced),
        }

    def run(self, wanted: Wanted, report: Report) -> BenchDocument:
        """Run every cell and return the matrix."""
        found: list[CellDocument] = []
        cells = list(wanted.cells())
        for number, (case, client, target) in enumerate(cells):
            if wanted.is_live and number:
                self._sleep(self._spacing_s)
            elif not number % 5:
                self._sleep(0)
            began, cell = self._now(), _Cell()
            try:
                if wanted.is_live:
                    self._ask(cell, case, client, target)
                else:
                    self._play(cell, case, client, WireFormat(target))
            except OmniRouteError as error:
                cell.reason = error.message
            found.append(_shown(cell, case, client, target, (self._now() - began) * 1000))
            report((number + 1) / len(cells))
        states = [cell["state"] for cell in found]
        return {
            "live": wanted.is_live,
            "ok": states.count(_OK),
            "failed": states.count(_FAILED),
            "notSupported": states.count(_NOT_SUPPORTED),
            "cells": found,
        }

    def _body(self, case: Case, client: WireFormat, model: str) -> bytes:
        """Return the request of a case in a client format."""
        body = {**case.body, "model": model, "max_completion_tokens": case.max_output, "stream": case.is_stream}
        encoded = msgspec.json.encode(body)
        if client is _CHAT:
            return encoded
        return self._translator.request(_CHAT, client, encoded, profile=self._translator.profile(client, None)).body

    # --- without a provider --------------------------------------------------------------------------------------

    def _play(self, cell: _Cell, case: Case, client: WireFormat, target: WireFormat) -> None:
        cell.client_request = self._body(case, client, case.model)
        profile = msgspec.structs.replace(self._translator.profile(target, None), model=case.model)
        is_stream = case.is_stream
        try:
            translated = self._translator.request(
                client, target, cell.client_request, profile=profile, is_stream=is_stream
            )
        except UnsupportedFeature as refusal:
            cell.lack(refusal.message)
            return
        cell.upstream_request, cell.losses = translated.body, translated.losses
        if self._lacks(cell, case):
            return
        status, headers, cell.upstream_answer = _played(target, case.model, translated.body, is_stream=is_stream)
        if status >= 400:
            failure = classify.classify(target, status, headers, cell.upstream_answer, now=self._wall())
            error = error_for(failure, "The provider", wall=self._wall())
            cell.client_answer = dialect_of(client).render_error(error, "0" * 32)
            cell.reason = _error_fault(case, client, cell.client_answer)
            return
        cell.client_answer = self._translator.answered(
            target, translated, cell.upstream_answer, client, is_stream=is_stream
        )
        cell.reason = _fault(case, client, cell.client_answer)

    def _lacks(self, cell: _Cell, case: Case) -> bool:
        if case.needs and any(loss["path"].startswith(case.needs) for loss in cell.losses):
            cell.lack(f"the target takes no '{case.needs}'")
            return True
        if case.carried and case.carried not in cell.upstream_request:
            cell.reason = "what the case is about did not reach the target"
            return True
        return False

    # --- live ----------------------------------------------------------------------------------------------------

    def _ask(self, cell: _Cell, case: Case, client: WireFormat, model: str) -> None:
        if case.is_error:
            model = f"{model.partition('/')[0]}/{_NOT_THERE}"
        cell.client_request = self._body(case, client, model)
        sent = self._tester.send(Draft(client, cell.client_request, model, case.is_stream))
        cell.losses = sent["losses"]
        _take(cell, sent, client)
        if case.is_error:
            cell.reason = _error_fault(case, client, cell.client_answer)
        elif sent["error"] is not None and sent["error"]["code"] == UnsupportedFeature.code:
            cell.lack(sent["error"]["message"])
        elif sent["error"] is not None:
            cell.reason = sent["error"]["message"]
        elif not self._lacks(cell, case):
            cell.reason = _fault(case, client, cell.client_answer)

    def _model(self, name: str) -> str:
        """Return the model that a name means: its own, or the first chat model of a provider."""
        directory = self._directory()
        provider = None if "/" in name else directory.provider(name)
        if provider is not None:
            for row, model in directory.options():
                if row.id == provider.id and model.kind is ModelKind.CHAT:
                    return f"{row.prefix}/{model.id}"
        try:
            return directory.resolve(name)[0].name
        except OmniRouteError as error:
            raise ValidationFailed([{"field": "providers", "message": error.message}]) from None

    def _target(self, model: str) -> Target:
        return self._directory().resolve(model)[0]


def _take(cell: _Cell, sent: SentDocument, client: WireFormat) -> None:
    joint = "\n" if client is WireFormat.OLLAMA else "\n\n"
    cell.client_answer = "".join(f"{one['text']}{joint}" for one in sent["clientResponse"]["frames"]).encode()
    if not sent["attempts"]:
        return
    last = sent["attempts"][-1]
    body: Any = last["request"]["body"]
    cell.upstream_request = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    if last["response"] is not None:
        cell.upstream_answer = "\n\n".join(piece["text"] for piece in last["response"]["frames"]).encode()


def _played(target: WireFormat, model: str, body: bytes, *, is_stream: bool) -> tuple[int, Mapping[str, str], bytes]:
    """Return the answer of the simulated provider to a request."""
    from omniroute.providers.sandbox import respond  # its modules are for those who ask it

    verb = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
    script = respond(_PATHS.get(target) or f"/v1beta/models/{model}:{verb}", {}, body)
    return script.status, dict(script.headers), b"".join(data for _, data in script.frames)


def _fault(case: Case, client: WireFormat, body: bytes) -> str | None:
    """Say what is wrong with an answer, read as a client of its format would."""
    try:
        answer = _read_stream(client, body) if case.is_stream else UPSTREAMS[client].parse_answer(body)
    except UpstreamProtocolError as error:
        return f"the client cannot read the answer: {error.message}"
    return "the answer is an error" if answer is None else case.fault_of(answer)


def _read_stream(client: WireFormat, body: bytes) -> Answer | None:
    parser, folder = UPSTREAMS[client].new_parser(), Folder(client)
    events = [*parser.feed(body), *parser.close()]
    if any(isinstance(event, StreamError) for event in events):
        return None
    folder.see(events)
    return folder.answer()


def _error_fault(case: Case, client: WireFormat, body: bytes) -> str | None:
    if not case.is_error:
        return f"the target refuses: {body[:_LONGEST_EVIDENCE].decode('utf-8', 'replace')}"
    return None if is_error_body(client, body) else "the error is not in the client's own form"


def _shown(cell: _Cell, case: Case, client: WireFormat, target: str, duration_ms: float) -> CellDocument:
    state = _NOT_SUPPORTED if not cell.is_supported else _OK if cell.reason is None else _FAILED
    return {
        "case": case.name,
        "format": client,
        "target": target,
        "state": state,
        "checked": case.expects,
        "reason": cell.reason,
        "losses": list(cell.losses),
        "durationMs": round(duration_ms, 1),
        "evidence": {
            "clientRequest": _beginning(cell.client_request),
            "upstreamRequest": _beginning(cell.upstream_request),
            "upstreamAnswer": _beginning(cell.upstream_answer),
            "clientAnswer": _beginning(cell.client_answer),
        },
    }


def _beginning(data: bytes) -> str | None:
    if not data:
        return None
    text = data[:_LONGEST_EVIDENCE].decode("utf-8", "replace")
    return f"{text}…" if len(data) > _LONGEST_EVIDENCE else text
