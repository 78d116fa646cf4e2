"""Examine a connection: one small call, one streamed call, and a sentence about what they found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from omniroute.formats.wire import WireFormat
from omniroute.ids import new_id
from omniroute.providers.requests import Endpoint, NotUsable, list_request, prepare
from omniroute.providers.spec import Model, ModelKind, Provider
from omniroute.records import AttemptRecord, Connection, RequestRecord
from omniroute.routing.failures import Failure, FailureClass
from omniroute.secret import Secret
from omniroute.services.probe import DEADLINES, PREFERRED, Finding, Prober


class RowLog(Protocol):
    """Where a test call leaves its row."""

    def put(self, record: RequestRecord) -> None:
        """Take a settled row."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """A connection to examine, stored or not, with what is known about its provider."""

    provider: Provider
    connection: Connection
    models: Mapping[str, Model]
    secret_headers: Mapping[str, Secret] | None = None


@dataclass(frozen=True, slots=True)
class Checkup:
    """What an examination found; `error` has code, class and message."""

    is_valid: bool
    latency_ms: float
    status: int | None
    model: str | None
    error: Mapping[str, Any] | None
    diagnosis: str | None
    tested_at: float

    def applied_to(self, connection: Connection) -> Connection:
        """Return the connection with this as its last test."""
        error = None
        if self.error is not None:
            error = {"code": self.error["code"], "message": self.error["message"], "at": self.tested_at}
        status = "ok" if self.is_valid else "error"
        return replace(connection, test_status=status, last_error=error, last_tested_at=self.tested_at)


class Checkups:
    """Examines connections and leaves a row for each stored one."""

    def __init__(self, *, prober: Prober, now: Callable[[], float], request_log: RowLog | None) -> None:
        self._prober = prober
        self._now = now
        self._request_log = request_log

    def examine(
        self,
        subject: Subject,
        model: str | None = None,
        *,
        listed: Finding | None = None,
        with_stream: bool = True,
    ) -> Checkup:
        """Ask once whole and, when that worked, once streamed; `listed` is the provider's list if it is known."""
        try:
            chosen = self._chosen(subject, model, listed)
        except NotUsable as error:
            chosen = Failure("misconfigured", FailureClass.LOCAL, message=str(error))
        if isinstance(chosen, Failure):
            return self._result(None, chosen)
        endpoint, model_id = chosen
        finding = self._prober.ask(endpoint, model_id, stream=False)
        if finding.is_ok and with_stream:
            streamed = self._prober.ask(endpoint, model_id, stream=True)
            finding = finding if streamed.is_ok else streamed
        return self._result(model_id, finding.failure, finding)

    def listed(self, subject: Subject) -> Finding | None:
        """Ask for the provider's own model list; None when it publishes none."""
        request = list_request(
            subject.provider,
            subject.connection.credential,
            subject.connection.provider_data,
            secret_headers=subject.secret_headers,
            deadlines=DEADLINES,
            connection_id=subject.connection.id,
        )
        return self._prober.list_models(request) if request is not None else None

    def log(self, provider: Provider, connection: Connection, result: Checkup) -> None:
        """Leave a row of kind `test`: visible in the log, outside usage."""
        if self._request_log is None:
            return
        model = result.model or ""
        error = result.error or {}
        attempt = AttemptRecord(
            provider.prefix,
            connection.id,
            model,
            result.status,
            error.get("class"),
            error.get("code"),
            started_ms=0.0,
            connected_ms=None,
            first_content_ms=None,
            ended_ms=result.latency_ms,
        )
        self._request_log.put(
            RequestRecord(
                request_id=new_id("req"),
                time=result.tested_at,
                endpoint="/api/providers/test",
                client_format=WireFormat.OTHER.value,
                requested_model=f"{provider.prefix}/{model}",
                status=result.status or 0,
                outcome="success" if result.is_valid else "failed",
                model=model or None,
                provider=provider.prefix,
                connection_id=connection.id,
                error_code=error.get("code"),
                duration_ms=result.latency_ms,
                attempts=(attempt,),
                kind="test",
            )
        )

    def _chosen(self, subject: Subject, model: str | None, listed: Finding | None) -> tuple[Endpoint, str] | Failure:
        """Choose what to ask: the model named, the connection's own, the first on our list, the first on theirs."""
        provider, connection, known = subject.provider, subject.connection, subject.models
        endpoints = prepare(
            provider,
            connection.credential,
            connection.provider_data,
            secret_headers=subject.secret_headers,
            connection_id=connection.id,
        )
        if not endpoints:
            return Failure("unsupported", FailureClass.LOCAL, message=f"{provider.name} has no chat to test.")
        chosen = model or connection.default_model
        if chosen is not None:
            prefix, slash, rest = chosen.partition("/")
            chosen = rest if slash and prefix.lower() in provider.names and chosen not in known else chosen
        else:
            chosen = next((row.id for row in known.values() if row.kind is ModelKind.CHAT), None)
        if chosen is None:
            found = listed if listed is not None else self.listed(subject)
            if found is not None and found.failure is not None:
                return found.failure
            chosen = found.models[0] if found is not None and found.models else None
        if chosen is None:
            return Failure("no_model", FailureClass.LOCAL, message="Name a model, or set a default model.")
        facts = known.get(chosen)
        served = facts.formats if facts is not None and facts.formats else PREFERRED
        formats = [key for key in PREFERRED if key in endpoints and key in served]
        return endpoints[formats[0] if formats else next(iter(endpoints))], chosen

    def _result(self, model: str | None, failure: Failure | None, finding: Finding | None = None) -> Checkup:
        return Checkup(
            is_valid=failure is None,
            latency_ms=finding.latency_ms if finding is not None else 0.0,
            status=finding.status if finding is not None else None,
            model=model,
            error=None if failure is None else _error_of(failure),
            diagnosis=None if failure is None else diagnosis_of(failure),
            tested_at=self._now(),
        )


def _error_of(failure: Failure) -> dict[str, Any]:
    message = failure.message or diagnosis_of(failure)
    return {"code": failure.kind, "class": failure.failure_class.value, "message": message}


def diagnosis_of(failure: Failure) -> str:
    """Say in one sentence what to do about a failed test."""
    match failure.failure_class:
        case FailureClass.CREDENTIAL:
            return "The provider refuses the key: check that it is complete, active and allowed to use the API."
        case FailureClass.QUOTA:
            return "The key is accepted, but its credit or quota is used up."
        case FailureClass.RATE_LIMIT:
            return "The key is accepted, but its rate limit is reached; try again later."
        case FailureClass.MODEL_UNAVAILABLE:
            return "The provider does not serve this model or address; test with another model."
        case FailureClass.CALLER_FAULT:
            return "The provider does not accept the test request for this model; test with another model."
        case FailureClass.LOCAL:
            return failure.message or "The connection is not set up completely."
        case FailureClass.TRANSIENT if failure.kind == "transport":
            return "The provider cannot be reached: check the address, the network and the certificate."
        case FailureClass.TRANSIENT if failure.kind.startswith("timeout"):
            return "The provider did not answer in time."
        case FailureClass.TRANSIENT | FailureClass.UNKNOWN | FailureClass.CANCELLED:
            return "The provider failed to answer; this may pass."
