"""How requests were routed: read, explained, decided again, and what another policy would have done with them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NotRequired, TypedDict

from omniroute.errors import NotFound, ValidationFailed
from omniroute.formats.splice import scan
from omniroute.formats.wire import WireFormat
from omniroute.gateway.asks import Asks
from omniroute.gateway.blocks import walked
from omniroute.gateway.resolver import Resolver
from omniroute.gateway.session_keys import SessionKeys
from omniroute.records import Combo
from omniroute.routing.asked import Asked, Chance
from omniroute.routing.assumed import assuming
from omniroute.routing.decision import Record
from omniroute.routing.decision_document import iso_time
from omniroute.routing.options import Features, Need, Option, Step
from omniroute.routing.packing import Reader
from omniroute.routing.plan import Plan
from omniroute.routing.planning import plan
from omniroute.routing.prices import NANO, estimate_nano
from omniroute.routing.replay import Mismatch, is_replayable, verify
from omniroute.routing.view import Figures, View
from omniroute.routing.whatif import Policy, Simulation
from omniroute.services.access import Caller, CallerKind, ModelRules, Snapshots
from omniroute.services.policies import policy_of
from omniroute.storage.database import Database
from omniroute.storage.repositories import decisions
from omniroute.storage.repositories.decisions import Range

__all__ = [
    "ANYBODY",
    "USUAL_PROMPT",
    "Decisions",
    "Hypothesis",
    "PathStepDocument",
    "Range",
    "Replay",
    "SimulationDocument",
]

MOST_RECORDS: Final = 50_000
"""Of one replay."""
USUAL_PROMPT: Final = 1000
"""Tokens of a hypothetical prompt whose length is not said."""
PAGE: Final = 200
PROGRESS_EVERY: Final = 500
MOST_MISMATCHES: Final = 20
_DAMAGED: Final = "unreadable"


HopDocument = TypedDict("HopDocument", {"stage": str, "in": str, "out": str | None})
"""One step from the name that was asked for to what it stands for."""


class ResolvedDocument(TypedDict):
    """What a name stands for."""

    kind: str
    name: str
    strategy: str
    trace: list[HopDocument]


class PathStepDocument(TypedDict):
    """A connection and model that would be tried, in which order, or why it would not."""

    order: int | None
    model: str
    provider: str | None
    connection: str | None
    connectionName: str | None
    eligible: bool
    estCostUsd: float | None
    estLatencyMs: float | None
    reason: NotRequired[str]
    until: NotRequired[str | None]
    detail: NotRequired[str | None]


class _Estimates(TypedDict):
    estCostUsd: float | None
    estLatencyMs: float | None


class SimulationDocument(TypedDict):
    """How a request would be routed now."""

    resolved: ResolvedDocument
    path: list[PathStepDocument]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A request that is not sent."""

    model: str
    prompt_tokens: int = USUAL_PROMPT
    max_output: int | None = None
    has_tools: bool = False
    has_images: bool = False
    api_key_id: str | None = None
    session_id: str | None = None
    failing: tuple[str, ...] = ()
    """Targets, providers or connections that are taken to fail."""


ANYBODY: Final = Caller(CallerKind.SESSION, None, "session", "dashboard", ModelRules())
"""A caller whom no key restricts."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to be decided again, and under which policy; checked and ready to run."""

    wanted: Range
    policy: Policy
    total: int
    is_verifying: bool


class Decisions:
    """Reads decision records."""

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        resolver: Callable[[], Resolver],
        sessions: SessionKeys,
        view: View,
        now: Callable[[], float],
        seed: Callable[[], int] = lambda: random.getrandbits(64),
    ) -> None:
        """`view` is what is true now, `now` the time of day in epoch seconds, `seed` gives 64 random bits."""
        self._database = database
        self._snapshots = snapshots
        self._resolver = resolver
        self._sessions = sessions
        self._view = view
        self._now = now
        self._seed = seed
        self._reader = Reader()

    # --- one record ---------------------------------------------------------------------------------------------

    def get(self, request_id: str, *, api_key_id: str | None = None) -> Record:
        """Return how a request was routed; with a key's id only one of its own.

        Raises:
            NotFound: no record has this id, or it is another key's, which is the same to the caller.
        """
        stored = self._database.read(lambda sql: decisions.get(sql, request_id, api_key_id=api_key_id))
        if stored is None:
            raise NotFound("There is no decision record with this id.")
        try:
            return self._reader.read(stored.packed)
        except ValueError:
            raise NotFound("The decision record of this request cannot be read by this version.") from None

    # --- many ---------------------------------------------------------------------------------------------------

    def prepare(self, wanted: Range, policy: Mapping[str, Any], *, is_verifying: bool = False) -> Replay:
        """Check a replay before it starts.

        Raises:
            ValidationFailed: the policy is not valid, or the range has too many records.
        """
        made = policy_of(policy, self._snapshots.current, self._resolver().block_of)
        total = self._database.read(lambda sql: decisions.count(sql, wanted, at_most=MOST_RECORDS + 1))
        if total > MOST_RECORDS:
            message = f"has more than {MOST_RECORDS} records; choose a shorter time, or one model"
            raise ValidationFailed([{"field": "since", "message": message}])
        return Replay(wanted, made, total, is_verifying)

    def run(self, replay: Replay, pause: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """Yield progress now and then, and last the comparison; `pause` is called between records."""
        simulation = Simulation(replay.policy)
        checking = _Checking()
        damaged = 0
        yield {"type": "progress", "records": 0, "total": replay.total}
        for read, record in enumerate(self._records(replay.wanted), 1):
            if record is None:
                damaged += 1
            else:
                if replay.is_verifying:
                    checking.add(record)
                    pause()
                simulation.add(record)
            pause()
            if read % PROGRESS_EVERY == 0:
                yield {"type": "progress", "records": read, "total": replay.total}
        comparison = {"type": "comparison", **simulation.result.document(), _DAMAGED: damaged}
        if replay.is_verifying:
            comparison["verify"] = checking.document()
        yield comparison

    def _records(self, wanted: Range) -> Iterator[Record | None]:
        """Yield the records of a range, oldest first, in transactions of a page each; None for one that is damaged."""
        reader = Reader()
        after: tuple[float, str] | None = None
        left = MOST_RECORDS
        while left > 0:
            page = self._page(wanted, after, min(PAGE, left))
            for stored in page:
                try:
                    yield reader.read(stored.packed)
                except ValueError:
                    yield None
            if len(page) < PAGE:
                return
            left -= len(page)
            after = (page[-1].time, page[-1].request_id)

    def _page(self, wanted: Range, after: tuple[float, str] | None, limit: int) -> list[decisions.Stored]:
        return self._database.read(lambda sql: decisions.following(sql, wanted, after=after, limit=limit))

    # --- none: a hypothesis -------------------------------------------------------------------------------------

    def simulate(self, asked: Hypothesis) -> SimulationDocument:
        """Plan a request that is not sent: who would be tried, in which order, and why the others would not.

        Raises:
            ValidationFailed: there is no such API key.
            CallerError: the name stands for nothing, or the key may not use it.
        """
        caller = self._caller(asked.api_key_id)
        features = _features(asked, caller, self._session(caller, asked.session_id))
        resolver = self._resolver()
        resolved = resolver.resolve(asked.model, caller=caller)
        options = {option.name: option for option in resolved.options}
        view = assuming(self._view, asked.failing, options.values())
        question = Asked(features, view, self._now(), Chance(self._seed()), resolver.rules, resolved.permits)
        made = plan(resolved.block, question)
        return {
            "resolved": {
                "kind": resolved.kind.value,
                "name": resolved.block.name or asked.model,
                "strategy": made.strategy.value,
                "trace": [{"stage": hop.stage, "in": hop.given, "out": hop.out} for hop in resolved.trace],
            },
            "path": [*self._eligible(made, features), *self._excluded(made, options, features)],
            "warnings": list(made.warnings),
        }

    def path_of(self, combo: Combo, asked: Hypothesis) -> list[PathStepDocument]:
        """Plan a request to a combo that need not be stored: who would be tried, and why the others would not."""
        resolver = self._resolver()
        features = _features(asked, ANYBODY, None)
        block = resolver.block_of(combo)
        options: dict[str, Option] = {}
        walked(block, lambda step: _note(options, step))
        made = plan(block, Asked(features, self._view, self._now(), Chance(self._seed()), resolver.rules))
        return [*self._eligible(made, features), *self._excluded(made, options, features)]

    def _caller(self, api_key_id: str | None) -> Caller:
        if api_key_id is None:
            return ANYBODY
        key = next((key for key in self._snapshots.current.keys if key.id == api_key_id), None)
        if key is None:
            raise ValidationFailed([{"field": "apiKeyId", "message": "there is no API key with this id"}])
        return Caller(CallerKind.KEY, key, key.id, key.name, ModelRules(key.allowed_models, key.blocked_models))

    def _session(self, caller: Caller, value: str | None) -> str | None:
        if value is None:
            return None
        return self._sessions.find(caller.key_id, Asks(session=value), _NO_BODY, WireFormat.OPENAI_CHAT).effective

    def _eligible(self, made: Plan, features: Features) -> Iterator[PathStepDocument]:
        order = 0
        for entry in made.entries:
            estimates = self._estimates(entry.option, features)
            for seat in entry.seats:
                order += 1
                yield {
                    "order": order,
                    "model": entry.option.name,
                    "provider": entry.option.provider,
                    "connection": seat.account.id,
                    "connectionName": self._name_of(seat.account.id),
                    "eligible": True,
                    "estCostUsd": estimates["estCostUsd"],
                    "estLatencyMs": estimates["estLatencyMs"],
                }

    def _excluded(self, made: Plan, options: Mapping[str, Option], features: Features) -> Iterator[PathStepDocument]:
        for exclusion in made.exclusions:
            option = options.get(exclusion.target)
            estimates = _NO_ESTIMATES if option is None else self._estimates(option, features)
            yield {
                "order": None,
                "model": exclusion.target,
                "provider": None if option is None else option.provider,
                "connection": exclusion.connection_id,
                "connectionName": self._name_of(exclusion.connection_id),
                "eligible": False,
                "reason": str(exclusion.reason),
                "until": iso_time(exclusion.until),
                "detail": exclusion.detail,
                "estCostUsd": estimates["estCostUsd"],
                "estLatencyMs": estimates["estLatencyMs"],
            }

    def _estimates(self, option: Option, features: Features) -> _Estimates:
        figures: Figures = self._view.figures(option.name)
        cost = estimate_nano(option, features, figures)
        return {"estCostUsd": None if cost is None else cost / NANO, "estLatencyMs": figures.ttft_p50}

    def _name_of(self, connection_id: str | None) -> str | None:
        rows = self._snapshots.current.connections
        return next((row.name for row in rows if row.id == connection_id), None)


def _features(asked: Hypothesis, caller: Caller, session: str | None) -> Features:
    needs = {Need.TOOLS} if asked.has_tools else set()
    if asked.has_images:
        needs.add(Need.VISION)
    return Features(
        requested=asked.model,
        client_format="openai_chat",
        estimated_input=asked.prompt_tokens,
        max_output=asked.max_output,
        needs=frozenset(needs),
        key_id=caller.key_id,
        session=session,
        is_explicit_session=session is not None,
    )


def _note(found: dict[str, Option], step: Step) -> None:
    if step.option is not None:
        found.setdefault(step.option.name, step.option)


_NO_BODY: Final = scan(b"{}")
_NO_ESTIMATES: Final[_Estimates] = {"estCostUsd": None, "estLatencyMs": None}


class _Checking:
    """Counts records that are decided again as they were, and those that are not."""

    def __init__(self) -> None:
        self._matched = 0
        self._not_replayable = 0
        self._differing = 0
        self._mismatches: list[Mismatch] = []

    def add(self, record: Record) -> None:
        if not is_replayable(record):
            self._not_replayable += 1
            return
        mismatch = verify(record)
        if mismatch is None:
            self._matched += 1
            return
        self._differing += 1
        if len(self._mismatches) < MOST_MISMATCHES:
            self._mismatches.append(mismatch)

    def document(self) -> dict[str, Any]:
        return {
            "matched": self._matched,
            "mismatched": self._differing,
            "notReplayable": self._not_replayable,
            "mismatches": [
                {
                    "requestId": one.request_id,
                    "difference": one.difference,
                    "policyHash": one.policy_hash,
                    "gatewayVersion": one.gateway_version,
                }
                for one in self._mismatches
            ],
        }
