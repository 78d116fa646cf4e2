"""Try models: one small call and one streamed call each, outside usage and without a word about the connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from omniroute.errors import NotFound, OmniRouteError, ValidationFailed
from omniroute.gateway.directory import Directories, Directory, Target
from omniroute.providers.spec import ModelKind
from omniroute.records import AuthType, Connection
from omniroute.services.checkups import Checkup, Checkups, diagnosis_of
from omniroute.services.jobs import Report
from omniroute.services.probe import PREFERRED, Prober

MOST_TESTED: Final = 200
"""Models that one job tries: every one of them is a call that somebody pays for."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a try found; the times are those of the whole answer, and of the first content of a streamed one."""

    model: str
    connection_id: str
    is_ok: bool
    latency_ms: float | None = None
    ttft_ms: float | None = None
    error: str | None = None
    code: str | None = None


class ModelTests:
    """Tries models that are connected."""

    def __init__(
        self,
        *,
        directories: Directories,
        prober: Prober,
        checkups: Checkups,
        spacing_s: float,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """`checkups` leaves a row in the log for each try; `spacing_s` is the pause between two models of a job."""
        self._directories = directories
        self._prober = prober
        self._checkups = checkups
        self._spacing_s = spacing_s
        self._now = now
        self._sleep = sleep

    def try_one(self, model: str, connection_id: str | None = None) -> Tried:
        """Try a model on one of its connections, or on the first.

        Raises:
            ModelNotFound: nobody has it, or nobody who has it is connected.
            PermissionDenied: the operator has hidden it.
            NotFound: the connection is none of those that serve it.
        """
        targets = self._directory.resolve(model)
        target = next((one for one in targets if connection_id in (None, one.connection_id)), None)
        if target is None:
            raise NotFound("This connection does not serve this model.")
        return self._tried(target)

    def chosen(self, provider: str | None, models: Sequence[str]) -> list[str]:
        """Return the models that a job is to try: those that are named, else the chat models of a provider or of all.

        Raises:
            ValidationFailed: there is no such provider.
        """
        if models:
            return list(models)
        directory = self._directory
        wanted = None
        if provider is not None:
            found = directory.provider(provider)
            if found is None:
                raise ValidationFailed([{"field": "provider", "message": "is not a provider or node"}])
            wanted = found.id
        return [
            f"{row.prefix}/{model.id}"
            for row, model in directory.options()
            if model.kind is ModelKind.CHAT and (row.id == wanted or (wanted is None and not row.is_implicit))
        ]

    def try_all(self, models: Sequence[str], report: Report) -> Mapping[str, Any]:
        """Try models one after the other, at most 200, and return the result of the job."""
        results: list[dict[str, Any]] = []
        tried = models[:MOST_TESTED]
        for number, model in enumerate(tried):
            if number:
                self._sleep(self._spacing_s)
            try:
                found = self.try_one(model)
            except OmniRouteError as error:
                found = Tried(model, "", is_ok=False, error=error.message, code=error.error_code)
            results.append(
                {
                    "model": model,
                    "connectionId": found.connection_id or None,
                    "ok": found.is_ok,
                    "latencyMs": found.latency_ms,
                    "ttftMs": found.ttft_ms,
                    "error": found.error,
                    "errorCode": found.code,
                }
            )
            report((number + 1) / len(tried))
        working = sum(1 for result in results if result["ok"])
        return {
            "tested": len(results),
            "ok": working,
            "failed": len(results) - working,
            "skipped": len(models) - len(results),
            "results": results,
        }

    def _tried(self, target: Target) -> Tried:
        if not target.endpoints:
            return Tried(
                target.name, target.connection_id, is_ok=False, error="It is served in no format that is known."
            )
        formats = [key for key in PREFERRED if key in target.endpoints]
        endpoint = target.endpoints[formats[0]] if formats else next(iter(target.endpoints.values()))
        whole = self._prober.ask(endpoint, target.model, stream=False)
        streamed = self._prober.ask(endpoint, target.model, stream=True) if whole.is_ok else whole
        failure = streamed.failure
        error = None if failure is None else failure.message or diagnosis_of(failure)
        self._log(target, whole.latency_ms, streamed.status, failure)
        return Tried(
            target.name,
            target.connection_id,
            is_ok=failure is None,
            latency_ms=whole.latency_ms,
            ttft_ms=streamed.latency_ms if failure is None else None,
            error=error,
            code=None if failure is None else failure.kind,
        )

    def _log(self, target: Target, latency_ms: float, status: int | None, failure: Any) -> None:
        error = None
        if failure is not None:
            error = {"code": failure.kind, "class": failure.failure_class.value, "message": failure.message or ""}
        result = Checkup(failure is None, latency_ms, status, target.model, error, None, self._now())
        connection = Connection(target.connection_id, target.provider.id, AuthType.NONE, "", 1, True, None)
        self._checkups.log(target.provider, connection, result)

    @property
    def _directory(self) -> Directory:
        return self._directories.current
