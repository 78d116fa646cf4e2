"""What an answer's headers say of the account's quota: one place for every vendor's spelling.

Read here, with where the spelling was seen:

* `anthropic-ratelimit-unified-<window>-{utilization,reset,status}` on answers to subscription logins: windows `5h`,
  `7d` and those of families (`7d_opus`, `7d-sonnet`); utilisation is a fraction, the reset is epoch seconds.
  `overage` and `fallback` are no windows. (Undocumented; as published by several readers of real answers.)
* `x-codex-{primary,secondary}-{used-percent,window-minutes,reset-at,reset-after-seconds}`, and the same behind
  `x-codex-<limit>-` for single models; percentages. `reset-at` outweighs the older `reset-after-seconds`.
  (openai/codex, `codex-rs`, rate limit snapshot.)
* `x-ratelimit-{limit,remaining,reset}-{requests,tokens}-{day,month}`: Cerebras and SambaNova, per model; the reset is
  in seconds or a duration. (inference-docs.cerebras.ai, "Rate limits".)
* Groq's `x-ratelimit-{limit,remaining,reset}-requests`, which are per day and model although the name does not say so.
  (console.groq.com/docs/rate-limits.)
* OpenRouter's `x-ratelimit-{limit,remaining,reset}` of free models, where the reset (epoch milliseconds) is more than
  an hour away. (openrouter.ai/docs/limits.)

Limits per minute and second come back too soon to be a quota: pacing looks after them.

What is no number, negative, not finite, beyond reason or reset in the past says nothing: it is left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from omniroute.providers.quota_values import DAY_S, HOUR_S, MONTH_S, WEEK_S, fraction_of, moment_of, number_of
from omniroute.providers.spent import UNIFIED
from omniroute.records import GrantWindow
from omniroute.routing.families import names_family

_MAX_NAME: Final = 100
_MOST_WINDOWS: Final = 24
_CODEX: Final = "x-codex-"
_RATE: Final = "x-ratelimit-"
_UNIFIED_NAME: Final = re.compile(rf"{UNIFIED}([a-z0-9][a-z0-9_-]{{0,60}})-utilization", re.ASCII)
_CODEX_NAME: Final = re.compile(rf"{_CODEX}((?:[a-z0-9_-]{{1,60}}-)?(?:primary|secondary))-used-percent", re.ASCII)
_SPAN: Final = re.compile(r"(\d{1,3})([mhdw])(?![a-z0-9])", re.ASCII)
_SPANS: Final = {"m": 60.0, "h": HOUR_S, "d": DAY_S, "w": WEEK_S}
_NO_WINDOWS: Final = frozenset({"overage", "fallback"})
_PERIODS: Final = (("day", DAY_S), ("month", MONTH_S))
_UNITS: Final = ("requests", "tokens")


@dataclass(frozen=True, slots=True)
class HeaderQuota:
    """What headers say: windows, and how many values among them were left out because they cannot be true."""

    windows: tuple[GrantWindow, ...] = ()
    ignored: int = 0


@dataclass(slots=True)
class _Reader:
    headers: Mapping[str, str]
    now: float
    ignored: int = 0
    seen: dict[str, GrantWindow] = field(default_factory=dict)

    def number(self, name: str) -> float | None:
        """Return a number; None where there is none, or one that cannot be."""
        return self._checked(name, number_of(self.headers.get(name)))

    def fraction(self, name: str, whole: float = 1.0) -> float | None:
        """Return a used fraction; `whole` is what all of it is written as."""
        return self._checked(name, fraction_of(self.headers.get(name), whole))

    def moment(self, name: str) -> float | None:
        """Return a moment in the future."""
        return self._checked(name, moment_of(self.headers.get(name), self.now))

    def _checked(self, name: str, value: float | None) -> float | None:
        if value is None and name in self.headers:
            self.ignored += 1
        return value

    def add(self, window: GrantWindow) -> None:
        """Take a window over."""
        if len(self.seen) < _MOST_WINDOWS:
            self.seen[window.name] = window


def has_quota(headers: Mapping[str, str], provider: str) -> bool:
    """Say whether headers may say something of a quota; asked of every answer, and nearly none does."""
    if provider in _OF_PROVIDER:
        return True
    return any(name.startswith((UNIFIED, _CODEX)) or name.endswith(("-day", "-month")) for name in headers)


def read_quota(headers: Mapping[str, str], *, provider: str, model: str, now: float) -> HeaderQuota:
    """Return the windows that headers (names in lower case) speak of.

    `provider` is the id of the catalogue's row, `model` the provider's own id of the model that was asked.
    """
    reader = _Reader(headers, now)
    _read_unified(reader)
    _read_codex(reader)
    _read_periods(reader, model)
    match provider:
        case "groq":
            _read_counts(reader, "-requests", "requests", DAY_S, model)
        case "openrouter":
            _read_free_models(reader)
    return HeaderQuota(tuple(reader.seen.values()), reader.ignored)


_OF_PROVIDER: Final = frozenset({"groq", "openrouter"})


# --- subscriptions ---------------------------------------------------------------------------------------------------


def _read_unified(reader: _Reader) -> None:
    for name in _named(reader.headers, _UNIFIED_NAME):
        if name in _NO_WINDOWS:
            continue
        prefix = UNIFIED + name
        used, resets_at = reader.fraction(prefix + "-utilization"), reader.moment(prefix + "-reset")
        status = reader.headers.get(prefix + "-status", "")
        if used is None and status != "rejected":
            continue
        if status == "rejected":
            used = max(used or 0.0, 1.0)
        reader.add(
            GrantWindow(
                name,
                used=used,
                length_s=_span_of(name),
                resets_at=resets_at,
                family=_family_of(name),
                is_open=status.startswith("allowed"),
            )
        )


def _family_of(name: str) -> str | None:
    """Return the family in a window's name: the word behind its span; None for what is about all models."""
    if not names_family(name):
        return None
    return re.sub(r"^\d+[a-z][_-]", "", name)


def _span_of(name: str) -> float | None:
    found = _SPAN.match(name)
    return None if found is None else int(found[1]) * _SPANS[found[2]]


def _read_codex(reader: _Reader) -> None:
    has_more = reader.headers.get("x-codex-credits-unlimited", "").lower() == "true" or (
        reader.headers.get("x-codex-credits-has-credits", "").lower() == "true"
    )
    for name in _named(reader.headers, _CODEX_NAME):
        prefix = _CODEX + name
        used = reader.fraction(prefix + "-used-percent", 100.0)
        if used is None:
            continue
        minutes = reader.number(prefix + "-window-minutes")
        at = prefix + "-reset-at"
        limit, _, _ = name.rpartition("-")
        reader.add(
            GrantWindow(
                name,
                used=used,
                length_s=minutes * 60 if minutes else None,
                resets_at=reader.moment(at if at in reader.headers else prefix + "-reset-after-seconds"),
                family=limit or None,
                is_open=has_more,
            )
        )


def _named(headers: Mapping[str, str], pattern: re.Pattern[str]) -> Iterator[str]:
    for name in headers:
        found = pattern.fullmatch(name)
        if found is not None:
            yield found[1][:_MAX_NAME]


# --- limits per day and month ----------------------------------------------------------------------------------------


def _read_periods(reader: _Reader, model: str) -> None:
    for unit in _UNITS:
        for period, length_s in _PERIODS:
            _read_counts(reader, f"-{unit}-{period}", unit, length_s, model)


def _read_counts(reader: _Reader, tail: str, unit: str, length_s: float, model: str | None) -> None:
    """Read `x-ratelimit-{limit,remaining,reset}<tail>`; limits of these vendors are per model."""
    limit = reader.number(f"{_RATE}limit{tail}")
    remaining = reader.number(f"{_RATE}remaining{tail}")
    if limit is None or remaining is None or limit <= 0:
        return
    if remaining > limit:  # a report that cannot be: more is left than there was
        reader.ignored += 1
        return
    period = "month" if length_s > DAY_S else "day"
    name = f"{unit}/{period}" if model is None else f"{unit}/{period}:{model}"
    reader.add(
        GrantWindow(
            name[:_MAX_NAME],
            used=1 - remaining / limit,
            limit=limit,
            remaining=remaining,
            unit=unit,
            length_s=length_s,
            resets_at=reader.moment(f"{_RATE}reset{tail}"),
            family=model,
        )
    )


def _read_free_models(reader: _Reader) -> None:
    """Read the daily limit of free models: one for all of them together."""
    resets_at = reader.moment(f"{_RATE}reset") if f"{_RATE}reset" in reader.headers else None
    if resets_at is None or resets_at - reader.now <= HOUR_S:
        return
    limit, remaining = reader.number(f"{_RATE}limit"), reader.number(f"{_RATE}remaining")
    if limit is None or remaining is None or not 0 <= remaining <= limit or limit <= 0:
        return
    reader.add(
        GrantWindow(
            "free/day",
            used=1 - remaining / limit,
            limit=limit,
            remaining=remaining,
            unit="requests",
            length_s=DAY_S,
            resets_at=resets_at,
            family="free",
        )
    )
