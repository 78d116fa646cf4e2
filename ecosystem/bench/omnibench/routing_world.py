"""One worker's routing over a database of its own, and requests that go through all of it but the provider.

Only the process that measures imports this: it brings in the package under test.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from itertools import chain, count, zip_longest
from pathlib import Path
from typing import Final, NoReturn

from omniroute.formats.codec import no_pause
from omniroute.formats.splice import TopLevel, scan
from omniroute.gateway.clocks import Clocks
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.gateway.directory import Directories
from omniroute.gateway.exchange import Inquiry
from omniroute.gateway.handover import Call
from omniroute.gateway.inference import Inference
from omniroute.gateway.resolver import Resolved
from omniroute.gateway.router import Route
from omniroute.gateway.routing import Routing
from omniroute.gateway.session_keys import SessionKeys
from omniroute.providers.catalog import Catalogue
from omniroute.providers.spec import AuthKind, ModelKind, Provider, ProviderStatus
from omniroute.providers.upstream import Deadlines
from omniroute.records import ApiKey, AuthType, Combo, ComboStep, Connection, RequestRecord, Snapshot
from omniroute.routing.attempts import Attempt
from omniroute.routing.events import AttemptFailed
from omniroute.routing.failures import Failure, FailureClass, Success
from omniroute.routing.packing import Packer
from omniroute.routing.recorder import Draft
from omniroute.secret import Secret
from omniroute.services.access import Caller, CallerKind, ModelRules
from omniroute.storage.database import Database
from omniroute.storage.schema import ensure_schema
from omniroute.storage.state import StateStore

_PATH: Final = "/v1/chat/completions"
_DIALECT: Final = DIALECTS[Surface.OPENAI_CHAT]
_KEY: Final = ApiKey("key_bench", "bench", "bench", b"", "sk-", "0000")
_CALLER: Final = Caller(CallerKind.KEY, _KEY, _KEY.id, _KEY.name, ModelRules())
_CONVERSATIONS: Final = 200
"""Requests take turns between so many, so that plans meet sessions that are known."""
_LEFT_S: Final = 600.0
_CONFIG_VERSION: Final = 1
_LIMITED: Final = Failure("rate", FailureClass.RATE_LIMIT, 3600.0, "retry-after", status=429)
_CONTENT: Final = b'"content":"'


class Work:
    """One request: what it is before it is routed, and what routing has made of it so far."""

    __slots__ = ("call", "inquiry", "packed", "record", "resolved", "route", "started")

    resolved: Resolved
    route: Route

    def __init__(self, call: Call, inquiry: Inquiry, record: RequestRecord, started: float) -> None:
        self.call = call
        self.inquiry = inquiry
        self.record = record
        self.started = started
        self.packed = b""


class World:
    """The routing of one worker, and one name that is asked for."""

    def __init__(self, catalogue: Catalogue, data_dir: Path, snapshot: Snapshot, requested: str, body: bytes) -> None:
        self.requested = requested
        directories = Directories(catalogue, snapshot)
        if directories.current.problems:
            raise ValueError(f"these connections cannot be used: {directories.current.problems}")
        self._database = Database(f"sqlite:///{data_dir / 'storage.sqlite'}")
        ensure_schema(self._database, backup=_no_backup, log=logging.getLogger(__name__), data_dir=data_dir)
        self._routing = Routing.build(
            store=StateStore(self._database, time.time),
            directories=directories,
            snapshot=snapshot,
            fixed={},
            gateway_version="bench",
        )
        self._inference = Inference(
            router=self._routing.router,
            sessions=SessionKeys(b"bench"),
            transport=_NOBODY,
            request_log=_NOBODY,
            observer=_NOBODY,
            clocks=Clocks(Deadlines(), Deadlines(), 2.0, 15.0, 60.0),
            now=time.monotonic,
            wall=time.time,
            sleep=time.sleep,
            max_in_flight=1,
        )
        self._packer = Packer()
        self._tops = _conversations(body)
        self._numbers = count(1)
        self._routing.start()

    def close(self) -> None:
        """Store what is not stored yet, and end."""
        self._routing.stop()
        self._database.dispose()

    def rest(self, providers: Iterable[str]) -> None:
        """Let the first connection of each of the providers rest for longer than any measurement takes."""
        for provider in providers:
            account = self._routing.resolvers.current.accounts_of(provider)[0]
            self._routing.board.record(AttemptFailed(account, "", _LIMITED, time.time()))

    def work(self) -> Work:
        """Return a new request, as it is when the model's name has been read from it."""
        number = next(self._numbers)
        top, request_id = self._tops[number % len(self._tops)], f"req_{number:026d}"
        call = Call(request_id, _PATH, Surface.OPENAI_CHAT, top.body, _CALLER)
        inquiry = Inquiry(_DIALECT, top, self.requested, False, request_id, _CALLER.key_id, self._inference, no_pause)
        record = RequestRecord(request_id, time.time(), _PATH, _DIALECT.format.value, self.requested)
        return Work(call, inquiry, record, time.monotonic())

    # --- what the handler and the driver do, in this order -----------------------------------------------------------

    def serve(self, work: Work) -> None:
        """Take a request through all of it."""
        self.route(work)
        self.pack(work)

    def route(self, work: Work) -> None:
        """Take a request through all of it but the compression, which is the log's, behind the answer."""
        self.resolve(work)
        self.plan(work)
        self.attempt(work)
        self.close_route(work)

    def resolve(self, work: Work) -> None:
        """Look up what the name stands for, and what the key permits of it."""
        work.resolved = self._inference.resolve(self.requested, work.call)

    def plan(self, work: Work) -> None:
        """Find the session and what the request is like, order the candidates, and begin the record."""
        begun = self._inference.begin(work.call, work.inquiry, work.resolved, origin=None, started=work.started)
        work.route = begun.route

    def attempt(self, work: Work) -> None:
        """Let the loop name the first candidate, pass the gate, and note that it serves."""
        route, deadline = work.route, work.started + _LEFT_S
        loop = route.steps(lambda: deadline - time.monotonic())
        step = loop.send(None)
        assert isinstance(step, Attempt)  # noqa: S101 - nobody rests, so that there is nothing to wait for
        candidate = step.candidate
        refused = route.enter(candidate, step.patience_s, _LEFT_S)
        if refused is not None:
            raise AssertionError(refused)
        began = time.time()
        _note(route.draft, candidate.option.name, candidate.account.id)
        route.opened(candidate, began)
        try:
            loop.send(Success())
        except StopIteration as stop:
            if not stop.value.is_served:
                raise AssertionError(stop.value) from None

    def close_route(self, work: Work) -> None:
        """Say how it was decided, and leave the decision in the request's record."""
        record, route = work.record, work.route
        route.summary(is_head=True)
        _settle(record)
        route.close(record)

    def pack(self, work: Work) -> None:
        """Compress the decision as the log does."""
        made = work.record.decision
        if made is None:
            raise AssertionError(work.record)
        work.packed = self._packer.pack(made.body)

    # --- recording alone ---------------------------------------------------------------------------------------------

    def record_again(self, work: Work) -> None:
        """Make and compress the decision record of a request that has been served."""
        route, resolved, record = work.route, work.resolved, work.record
        draft = self._routing.router.recorder.begin(
            work.call.request_id,
            resolved.block,
            route.asked,
            route.plan,
            trace=resolved.trace,
            config_version=_CONFIG_VERSION,
            started=work.started,
        )
        head = route.plan.entries[0]
        _note(draft, head.option.name, head.seats[0].account.id)
        made = draft.finish(record, target=head.option.name, is_committed=True)
        work.packed = self._packer.pack(made.body)


def _note(draft: Draft, option: str, connection_id: str) -> None:
    draft.attempt(
        option,
        connection_id,
        started_ms=0.412,
        ended_ms=1873.206,
        headers_ms=391.774,
        status=200,
        tokens=(268, 181),
    )


def _settle(record: RequestRecord) -> None:
    record.status, record.outcome = 200, "success"
    record.tokens_in, record.tokens_out, record.duration_ms = 268, 181, 1874.019


# --- configurations --------------------------------------------------------------------------------------------------


def connected_to(catalogue: Catalogue, providers: int) -> list[Provider]:
    """Return providers that take a key and nothing else, those with the most chat models first."""
    usable = [
        provider
        for provider in catalogue
        if AuthKind.API_KEY in provider.auth and provider.status is ProviderStatus.OK and "{" not in provider.base_url
    ]
    return sorted(usable, key=lambda one: (-len(chat_models(catalogue, one)), one.id))[:providers]


def chat_models(catalogue: Catalogue, provider: Provider) -> list[str]:
    """Return the names of a provider's chat models, in the order of its list."""
    listed = catalogue.models_of(provider.id).items()
    return [f"{provider.prefix}/{model}" for model, facts in listed if facts.kind is ModelKind.CHAT]


def models_in_turn(catalogue: Catalogue, providers: Sequence[Provider]) -> list[str]:
    """Return all their chat models: the first of each provider, then the second of each, and so on."""
    lists = [chat_models(catalogue, provider) for provider in providers]
    return [name for name in chain.from_iterable(zip_longest(*lists)) if name is not None]


def configured(providers: Sequence[Provider], accounts: int, combo: Combo | None) -> Snapshot:
    """Return a configuration with so many connections to each provider, none of which has limits."""
    connections = tuple(
        Connection(
            f"conn_{provider.id}_{place}",
            provider.id,
            AuthType.API_KEY,
            f"{provider.id} {place}",
            place,
            True,
            Secret(f"sk-of-no-one-{provider.id}-{place}"),
            created_at=float(place),
        )
        for provider in providers
        for place in range(1, accounts + 1)
    )
    return Snapshot(_CONFIG_VERSION, connections, combos=() if combo is None else (combo,))


def combo_of(strategy: str, models: Sequence[str]) -> Combo:
    """Return a combo of models in this order, with the settings that combos have of themselves."""
    steps = tuple(ComboStep(f"step_{place}", model=name) for place, name in enumerate(models, 1))
    return Combo("combo_bench", "everything", strategy, steps)


def _conversations(body: bytes) -> list[TopLevel]:
    """Return requests that differ in the beginning of their system text, and so in their session."""
    return [
        scan(body.replace(_CONTENT, _CONTENT + b"%04d " % number, 1), acted_on=_DIALECT.acted_on)
        for number in range(_CONVERSATIONS)
    ]


def _no_backup(reason: str) -> NoReturn:
    raise AssertionError(reason)


class _Nobody:
    """Stands where requests leave the part that is measured: nothing may get there."""

    def send(self, request: object) -> NoReturn:
        raise AssertionError(request)

    def put(self, record: RequestRecord) -> NoReturn:
        raise AssertionError(record)

    def observe(self, record: RequestRecord) -> NoReturn:
        raise AssertionError(record)


_NOBODY: Final = _Nobody()
