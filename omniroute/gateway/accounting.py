"""Settlement: every request that was let in ends in exactly one log record, whatever happens to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from omniroute.formats.estimates import settled
from omniroute.formats.seam import Seam, added
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.gateway.charges import BILLED, NOTHING, Metered, charge_of, priced
from omniroute.gateway.directory import Target
from omniroute.money.tariff import usd_text
from omniroute.records import AttemptRecord, Charge, RequestRecord
from omniroute.routing.failures import Failure

COST: Final = "X-OmniRoute-Response-Cost"
COST_KIND: Final = "X-OmniRoute-Cost-Kind"


class RequestLog(Protocol):
    """Where settled requests go."""

    def put(self, record: RequestRecord) -> None:
        """Keep the record durably before returning; must not block on the database."""
        ...


class Observer(Protocol):
    """Counts settled requests for the metrics page."""

    def observe(self, record: RequestRecord) -> None:
        """Count one settled request."""
        ...


@dataclass(frozen=True, slots=True)
class _Serving:
    """The attempt that serves.

    Attributes:
        prompt_tokens: an estimate, for when the provider does not count.
        spent: what it has used up to the end, where another one goes on.
    """

    target: Target
    kind: str
    prompt_tokens: int
    upstream_id: str | None
    spent: Usage = NOT_REPORTED


class Settlement:
    """The record of one request while it runs; :meth:`settle` writes it once and ignores every later call."""

    __slots__ = (
        "_attempts",
        "_charges",
        "_first",
        "_is_accounted",
        "_is_private",
        "_log",
        "_now",
        "_observer",
        "_seam",
        "_serving",
        "_started",
        "is_settled",
        "record",
    )

    def __init__(
        self,
        record: RequestRecord,
        *,
        log: RequestLog,
        observer: Observer,
        now: Callable[[], float],
        started: float,
        is_private: bool,
    ) -> None:
        """`started`: when the request began on the monotonic clock `now`; `is_private`: the key keeps no details."""
        self.record = record
        self.is_settled = False
        self._log = log
        self._observer = observer
        self._now = now
        self._started = started
        self._is_private = is_private
        self._attempts: list[AttemptRecord] = []
        self._charges: list[Charge] = []
        """Of attempts that did not serve."""
        self._serving: _Serving | None = None
        self._first: _Serving | None = None
        """What began the answer that another one goes on with."""
        self._seam: Seam | None = None
        self._is_accounted = False

    @property
    def attempts(self) -> int:
        """Attempts that have ended so far."""
        return len(self._attempts)

    def elapsed_ms(self) -> float:
        """Milliseconds since the request began."""
        return (self._now() - self._started) * 1000

    def add_attempt(self, attempt: AttemptRecord) -> None:
        """Note one attempt, in order."""
        self._attempts.append(attempt)

    def note_first_content(self) -> None:
        """Note that the first content is on its way to the client."""
        if self.record.ttft_ms is None:
            self.record.ttft_ms = self.elapsed_ms()

    # --- what it costs -----------------------------------------------------------------------------------------------

    def charge(self, target: Target, usage: Usage, kind: str, upstream_id: str | None) -> int | None:
        """Note what an attempt used that did not serve; return its cost, None where that is not known."""
        charge = charge_of(target, usage, kind, is_serving=False, upstream_id=upstream_id)
        self._charges.append(charge)
        return charge.nano_usd

    def serves(self, target: Target, kind: str, *, prompt_tokens: int, upstream_id: str | None) -> None:
        """Note whose answer the client is going to get; `prompt_tokens` are ours, for when nobody else counts."""
        self._serving = _Serving(target, kind, prompt_tokens, upstream_id)

    def breaks_off(self, failure: Failure, spent: Usage) -> int | None:
        """Note that the answer has broken off after so many tokens; return the cost of that part, if it is known."""
        for place, attempt in enumerate(self._attempts):
            if attempt.failure_class is None:
                self._attempts[place] = replace(
                    attempt, failure_class=failure.failure_class.value, kind=failure.kind, ended_ms=self.elapsed_ms()
                )
        if self._serving is None:
            return None
        self._first = replace(self._serving, spent=spent)
        return priced(self._first.target, spent)[0].nano_usd

    def goes_on(self, seam: Seam | None) -> None:
        """Note that another one goes on at a seam; None that nobody does."""
        self._seam = seam
        if seam is None:
            self._first = None

    def quote(self, target: Target, usage: Usage, seam: Seam | None = None) -> dict[str, str]:
        """Return cost and kind of an answer that is about to end, by the names of headers.

        `usage` is as its provider reported it: what is estimated is known only at the end.
        """
        own = usage if seam is None else seam.own_usage
        made, kind = priced(target, own)
        first = 0
        if self._first is not None:
            part, first_kind = priced(self._first.target, self._first.spent)
            first = part.nano_usd or 0 if first_kind == BILLED else 0
        return _told(made.nano_usd, kind, _billed(self._charges) + first)

    def account(self, known: Metered) -> dict[str, str]:
        """Fill in tokens and cost of the answer that serves; return cost and kind by the names of headers."""
        record, serving = self.record, self._serving
        if serving is None:
            return {}
        charges = list(self._charges)
        if self._seam is not None and self._first is not None:
            spent = self._first.spent
            charges.append(
                charge_of(
                    self._first.target,
                    spent,
                    self._first.kind,
                    is_serving=False,
                    upstream_id=self._first.upstream_id,
                )
            )
            own = settled(
                self._seam.own_usage,
                prompt=(spent.input or 0) + (spent.output or 0),
                characters=self._seam.own_characters,
                is_whole=known.is_whole,
            )
            usage = added(spent, own)
        else:
            usage = own = settled(
                known.usage, prompt=serving.prompt_tokens, characters=known.characters, is_whole=known.is_whole
            )
        charge = charge_of(serving.target, own, serving.kind, is_serving=True, upstream_id=serving.upstream_id)
        record.tokens_in, record.tokens_out = usage.input, usage.output
        record.cache_read, record.cache_write, record.reasoning = usage.cache_read, usage.cache_write, usage.reasoning
        record.cost_nano_usd, record.cost_kind, record.price_id = charge.nano_usd, charge.cost_kind, charge.price_id
        record.is_estimated = usage.is_estimated
        self._is_accounted = True
        self._book((charge, *charges))
        return _told(charge.nano_usd, charge.cost_kind, record.extra_nano_usd)

    def _book(self, charges: tuple[Charge, ...]) -> None:
        record = self.record
        record.charges = charges
        record.extra_nano_usd = _billed(charge for charge in charges if not charge.is_serving)
        if any(part.is_estimated for charge in charges for part in charge.parts):
            record.is_estimated = True

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(
        self,
        outcome: str,
        *,
        status: int,
        known: Metered | None = None,
        error_code: str | None = None,
        bytes_out: int = 0,
    ) -> None:
        """Fill in what became of the request: outcome `success`, `failed`, `cancelled` or `truncated`.

        `known` is how long the answer is that the client got, or began to get.
        """
        record = self.record
        record.outcome = outcome
        record.status = status
        record.error_code = error_code
        record.bytes_out = bytes_out
        record.duration_ms = self.elapsed_ms()
        record.attempts = tuple(self._attempts)
        if known is not None and self._serving is not None:
            if not self._is_accounted:
                self.account(known)
        else:
            record.cost_nano_usd, record.cost_kind = 0, NOTHING
            self._book(tuple(self._charges))
        self._seam = None

    def write(self) -> None:
        """Write the record, once."""
        if self.is_settled:
            return
        self.is_settled = True
        record = self.record
        if self._is_private:
            record.requested_model = ""
            record.tag = None
            record.session_hash = None
            record.attempts = ()
            record.charges = ()
            record.decision = None
        self._log.put(record)
        self._observer.observe(record)


def _billed(charges: Iterable[Charge]) -> int:
    return sum(charge.nano_usd or 0 for charge in charges if charge.cost_kind == BILLED)


def _told(nano_usd: int | None, kind: str, extra_nano_usd: int) -> dict[str, str]:
    """Return cost and kind by the names of headers: what was billed beside a billed answer is part of its cost."""
    told = {} if nano_usd is None else {COST: f"{usd_text(nano_usd + (extra_nano_usd if kind == BILLED else 0))}0"}
    return {**told, COST_KIND: kind}
