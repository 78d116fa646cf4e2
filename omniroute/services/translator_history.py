"""The last translations of real traffic, while the operator watches.

Off until switched on; what is off costs a request one comparison. The workers of this host share a file of lines in
which only the last 200 count; it goes when the monitor is switched off. Keys that leave no details are not watched.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from omniroute.errors import ValidationFailed
from omniroute.gateway.exchange import Inquiry
from omniroute.gateway.handover import Call
from omniroute.gateway.inference import Inference
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.tap import Send
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import RequestRecord, Snapshot
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.storage.database import Database
from omniroute.storage.repositories import settings as stored_settings

MOST: Final = 200
LARGEST_BODY: Final = 8 << 10
"""Bytes of a request up to which it is kept, so that it can be opened in the playground."""
_MOST_BYTES: Final = 8 << 20
"""Size of the file from which on only what counts is kept of it."""
_SECTION, _NAME = "translator", "history"

log = logging.getLogger(__name__)


class Seen(msgspec.Struct, rename="camel"):
    """A translation that was seen. Times are epoch seconds; ids grow with time."""

    id: int
    time: float
    request_id: str
    endpoint: str
    model: str
    provider: str | None
    target_model: str | None
    source: str
    target: str
    is_stream: bool
    status: int
    outcome: str
    duration_ms: float
    client_request_bytes: int
    upstream_request_bytes: int
    client_response_bytes: int
    losses: tuple[str, ...]
    client_request: str | None
    upstream_request: str | None


class History:
    """Watches translations and tells of the last."""

    def __init__(
        self,
        directory: Path,
        *,
        inference: Inference,
        database: Database,
        snapshots: Snapshots,
        audit: Recorder,
        now: Callable[[], float],
    ) -> None:
        """`directory` is shared by the workers of this host."""
        self._file = directory / "translations.ndjson"
        self._lock = directory / "translations.lock"
        self._inference = inference
        self._database = database
        self._snapshots = snapshots
        self._audit = audit
        self._now = now
        self.rebuild(snapshots.current)

    @property
    def is_enabled(self) -> bool:
        """Whether this worker watches."""
        return self._inference.monitor is not None

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot."""
        is_wanted = snapshot.settings.get((_SECTION, _NAME)) is True
        if is_wanted == self.is_enabled:
            return
        self._inference.monitor = self._watched if is_wanted else None
        if not is_wanted:
            self._file.unlink(missing_ok=True)

    def switch(self, *, is_on: bool, origin: Origin) -> None:
        """Switch watching on or off for all workers; what was seen is forgotten when it is switched off."""
        was_on = self._snapshots.current.settings.get((_SECTION, _NAME)) is True
        now = self._now()
        self._database.write(
            lambda sql: stored_settings.put(
                sql, _SECTION, _NAME, is_on, changed_by=origin.facts().get("actor"), now=now
            ),
            bump=True,
        )
        details = {"section": _SECTION, "changed": {_NAME: [was_on, is_on]}}
        self._audit.record("settings.changed", target_kind="settings", details=details, **origin.facts())
        if not is_on:
            self._file.unlink(missing_ok=True)

    def newest(self, after: str | None = None) -> list[Seen]:
        """Return what was seen since the one with the id `after`, the newest first; at most 200.

        Raises:
            ValidationFailed: `after` is no id.
        """
        since = 0
        if after:
            if not (after.isascii() and after.isdecimal() and len(after) <= 20):
                raise ValidationFailed([{"field": "after", "message": "is not an id of this list"}])
            since = int(after)
        found = [seen for seen in map(_read, self._lines()[-MOST:]) if seen is not None and seen.id > since]
        found.sort(key=lambda seen: -seen.id)
        return found

    # --- watching ------------------------------------------------------------------------------------------------

    def _watched(self, call: Call) -> Call:
        key = call.caller.key
        if call.tap is not None or (key is not None and key.no_log):
            return call
        return replace(call, tap=_Watch(self, call.body))

    def note(self, record: RequestRecord, watch: _Watch) -> None:
        """Keep a translation that has ended."""
        try:
            with self._locked():
                moment = self._now()
                line = msgspec.json.encode(_seen(record, watch, moment)) + b"\n"
                self._file.touch(mode=0o600)
                with self._file.open("ab") as file:
                    file.write(line)
                    size = file.tell()
                if size > _MOST_BYTES:
                    self._shorten()
        except OSError:
            log.warning("a translation that was seen cannot be kept", exc_info=True)

    def _shorten(self) -> None:
        shorter = self._file.with_suffix(".new")
        shorter.touch(mode=0o600)
        with shorter.open("wb") as file:
            file.writelines(line + b"\n" for line in self._lines()[-MOST:])
        shorter.replace(self._file)

    def _lines(self) -> list[bytes]:
        try:
            return self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return []

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.touch(mode=0o600)
        with self._lock.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _Watch:
    """Sees one request; a :class:`omniroute.gateway.tap.Tap`."""

    __slots__ = ("_history", "client_request", "losses", "upstream_request", "upstream_request_bytes")

    def __init__(self, history: History, body: bytes) -> None:
        self._history = history
        self.client_request = _small(body)
        self.upstream_request: str | None = None
        self.upstream_request_bytes = 0
        self.losses: tuple[str, ...] = ()

    def around(self, send: Send, inquiry: Inquiry, record: RequestRecord) -> Send:
        """See :class:`omniroute.gateway.tap.Tap`."""
        del record

        def tapped(request: UpstreamRequest) -> UpstreamResponse:
            self.losses = inquiry.losses
            self.upstream_request = _small(request.body)
            self.upstream_request_bytes = len(request.body)
            return send(request)

        return tapped

    def settled(self, record: RequestRecord) -> None:
        """See :class:`omniroute.gateway.tap.Tap`."""
        if record.upstream_format is not None and record.upstream_format != record.client_format:
            self._history.note(record, self)


def _seen(record: RequestRecord, watch: _Watch, moment: float) -> Seen:
    return Seen(
        id=int(moment * 1_000_000),
        time=record.time,
        request_id=record.request_id,
        endpoint=record.endpoint,
        model=record.requested_model,
        provider=record.provider,
        target_model=record.model,
        source=record.client_format,
        target=record.upstream_format or "",
        is_stream=record.stream,
        status=record.status,
        outcome=record.outcome,
        duration_ms=round(record.duration_ms, 1),
        client_request_bytes=record.bytes_in,
        upstream_request_bytes=watch.upstream_request_bytes,
        client_response_bytes=record.bytes_out,
        losses=watch.losses,
        client_request=watch.client_request,
        upstream_request=watch.upstream_request,
    )


def _small(body: bytes) -> str | None:
    return body.decode("utf-8", "replace") if len(body) <= LARGEST_BODY else None


_decode: Final = msgspec.json.Decoder(Seen).decode


def _read(line: bytes) -> Seen | None:
    try:
        return _decode(line)
    except msgspec.DecodeError:  # its writer is in the middle of it
        return None
