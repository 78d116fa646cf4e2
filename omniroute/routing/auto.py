"""`auto` and its channels: which of many options suits a request best, by weighted factors between 0 and 1.

Each factor is on an absolute scale, so that one more candidate never changes the order of the others. A channel is a
row of weights with a few demands; operators tune it, and a request may ask for another row by its mode.

While more than half of the pool's providers are open, only health counts: breaker, success and recent failures alone
make the order, nothing is explored, and nobody is left out for a bad score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from types import MappingProxyType
from typing import Final, NamedTuple

from omniroute.records import ChannelTuning
from omniroute.routing.affinity import binding_session, kept_target
from omniroute.routing.asked import Asked
from omniroute.routing.config import DEFAULTS, FACTORS, ComboConfig
from omniroute.routing.eligibility import is_of_family
from omniroute.routing.expiring import known_windows
from omniroute.routing.figures import BACK_FROM
from omniroute.routing.fitness import COLUMNS, adjusted
from omniroute.routing.fitness import UNKNOWN as UNKNOWN_FITNESS
from omniroute.routing.options import Account, Block, Features, Need, Option, Step, Strategy, Task
from omniroute.routing.plan import Exclusion, Reason, Scored
from omniroute.routing.prices import estimate_nano
from omniroute.routing.strategies import Ordering
from omniroute.routing.view import Breaker, BreakerState, Figures

MOST_EXPLAINED: Final = 64
"""Options whose score is explained factor by factor; behind them the score alone is told."""
OFFLINE: Final = "offline"

_EXPLORATION: Final = 0.05
_EXPLORED: Final = 4
_EXPLORED_WITHIN: Final = 0.25
_CODING_WINDOW: Final = 64_000

_TTFT_SCALE_MS: Final = 1500.0
_TOTAL_SCALE_MS: Final = 8000.0
_COST_SCALE_NANO: Final = 10_000_000.0
_RECENT_HALF_LIFE_S: Final = 120.0
_RECENT_S: Final = 600.0
_ENOUGH_QUOTA: Final = 0.3
_DEGRADED: Final = 0.6
_HALF_OPEN: Final = 0.3
# What counts where nothing is known.
_NO_LATENCY: Final = 0.5
_NO_PRICE: Final = 0.3
_NO_WINDOW: Final = 0.5
_NO_QUOTA: Final = 0.7

Weights = tuple[float, ...]
"""One for each of `FACTORS`, in their order; together 1."""


def _named(*weights: float) -> Mapping[str, float]:
    return MappingProxyType(dict(zip(FACTORS, weights, strict=True)))


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to choose among everything that is connected.

    Attributes:
        task: what it is for; None goes by the request.
        needs: what its options must be able to do.
        min_window: tokens that an option's window must have, unless none has.
        is_local_only: nothing leaves the machine or its network.
        is_unknown_price_last: an option without a known price comes behind all others.
        keeps_last_good: what last served the session, else the key, leads.
    """

    name: str
    weights: Mapping[str, float]
    exploration: float = _EXPLORATION
    task: Task | None = None
    needs: frozenset[str] = frozenset()
    min_window: int = 0
    is_local_only: bool = False
    is_unknown_price_last: bool = False
    keeps_last_good: bool = False


_BALANCED: Final = _named(0.20, 0.20, 0.20, 0.08, 0.10, 0.07, 0.10, 0.05)
_AUTO: Final = Channel("auto", _BALANCED)

CHANNELS: Final[Mapping[str, Channel]] = MappingProxyType(
    {
        channel.name: channel
        for channel in (
            _AUTO,
            Channel(
                "auto/coding",
                _named(0.10, 0.08, 0.15, 0.12, 0.40, 0.05, 0.07, 0.03),
                task=Task.CODING,
                needs=frozenset({Need.TOOLS}),
                min_window=_CODING_WINDOW,
            ),
            Channel(
                "auto/cheap",
                _named(0.03, 0.60, 0.12, 0.05, 0.05, 0.05, 0.07, 0.03),
                is_unknown_price_last=True,
            ),
            Channel("auto/fast", _named(0.60, 0.0, 0.15, 0.05, 0.05, 0.08, 0.04, 0.03), exploration=0.0),
            Channel("auto/offline", _named(0.30, 0.0, 0.20, 0.15, 0.25, 0.05, 0.0, 0.05), is_local_only=True),
            Channel(
                "auto/smart",
                _named(0.03, 0.03, 0.12, 0.12, 0.55, 0.05, 0.06, 0.04),
                exploration=0.10,
                task=Task.REASONING,
            ),
            Channel("auto/lkgp", _BALANCED, exploration=0.0, keeps_last_good=True),
        )
    }
)

_MODE_WEIGHTS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "fast": CHANNELS["auto/fast"].weights,
        "cheap": CHANNELS["auto/cheap"].weights,
        "quality": CHANNELS["auto/smart"].weights,
        "balanced": _BALANCED,
        "default": _BALANCED,
        "reliable": _named(0.10, 0.0, 0.40, 0.05, 0.05, 0.20, 0.10, 0.10),
        OFFLINE: CHANNELS["auto/offline"].weights,
    }
)
_UNEXPLAINED: Final[Mapping[str, tuple[float, float, bool]]] = {}
_INCIDENT: Final[Weights] = tuple(1 / 3 if name in ("breaker", "success", "recent") else 0.0 for name in FACTORS)


# --- what is set -----------------------------------------------------------------------------------------------------


def channel_weights(
    channel: str, tunings: Iterable[ChannelTuning] = (), mode: str | None = None
) -> Mapping[str, float]:
    """Return the weights in force: those of a mode, else the channel's with what operators changed, scaled to 1.

    Args:
        channel: its name; what is no channel has the weights of `auto`.
        tunings: the general one first; a factor that none names keeps the channel's weight. All zero changes nothing.
        mode: a mode that takes the place of all that; None or "" for none.
    """
    if mode:
        return _MODE_WEIGHTS[mode]
    base = CHANNELS.get(channel, _AUTO).weights
    changed = dict(base)
    for tuning in tunings:
        changed.update((name, weight) for name, weight in tuning.weights.items() if name in changed)
    return base if changed == base else _scaled(changed, base)


def _scaled(weights: Mapping[str, float], otherwise: Mapping[str, float]) -> Mapping[str, float]:
    positive = {name: max(0.0, weights.get(name, 0.0)) for name in FACTORS}
    total = sum(positive.values())
    return {name: weight / total for name, weight in positive.items()} if total > 0 else otherwise


def weights_of(block: Block, features: Features) -> Weights:
    """Return the weights for a request: its mode's, else those set for the block, its mode pack's, or its channel's."""
    if features.mode:
        chosen = _MODE_WEIGHTS[features.mode]
    else:
        chosen = channel_weights(block.channel, mode=block.config.mode_pack)
        if block.config.weights:
            chosen = _scaled({**chosen, **block.config.weights}, chosen)
    return tuple(chosen[name] for name in FACTORS)


def tunings_for(channel: str, key_id: str, tunings: Iterable[ChannelTuning]) -> tuple[ChannelTuning, ...]:
    """Return what operators set for a channel: for everybody, and behind it for one API key."""
    fitting = [one for one in tunings if one.channel == channel and one.api_key_id in ("", key_id)]
    return tuple(sorted(fitting, key=lambda one: one.api_key_id != ""))


def channel_block(
    name: str, options: Iterable[Option], tunings: Sequence[ChannelTuning] = (), config: ComboConfig = DEFAULTS
) -> Block:
    """Return a channel as a block: its pool, with what `tunings_for` gave on top of the settings of all channels."""
    rate = CHANNELS[name].exploration if config.exploration_rate is None else config.exploration_rate
    for tuning in tunings:
        rate = rate if tuning.exploration is None else tuning.exploration
    if tunings:
        config = replace(config, weights=channel_weights(name, tunings))
    return Block(
        Strategy.AUTO,
        tuple(
            Step(
                option.name,
                option,
                name=option.name,
                problem=Reason.CHANNEL_EXCLUDED if is_excluded(option, tunings) else None,
            )
            for option in options
        ),
        scope=name,
        name=name,
        channel=name,
        config=replace(config, exploration_rate=rate),
    )


def is_excluded(option: Option, tunings: Iterable[ChannelTuning]) -> bool:
    """Say whether operators took an option out of a channel: its provider, model or family."""
    prefix = option.name.partition("/")[0]
    return any(
        option.provider in tuning.excluded_providers
        or prefix in tuning.excluded_providers
        or option.name in tuning.excluded_models
        or option.model in tuning.excluded_models
        or (tuning.excluded_families and is_of_family(option.model, tuning.excluded_families))
        for tuning in tunings
    )


# --- who may be chosen -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admitted:
    """Whom a channel lets in.

    Attributes:
        kept: indexes of the options that may be ordered, ascending.
        on_trial: those of them that are back from a bad score: one request has to try before all may.
    """

    kept: tuple[int, ...]
    exclusions: tuple[Exclusion, ...] = ()
    on_trial: frozenset[int] = frozenset()


def admit(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Admitted:
    """Leave out what does not meet the channel's demands, and what is out for a bad score.

    Scores leave nobody out where nobody else is left, nor in an incident.
    """
    channel = CHANNELS.get(block.channel, _AUTO)
    mode = asked.features.mode or block.config.mode_pack
    exclusions: list[Exclusion] = []
    kept: list[int] = []
    for index in eligible:
        unfit = _misfit(leads[index], channel, is_local_only=channel.is_local_only or mode == OFFLINE)
        if unfit is None:
            kept.append(index)
        else:
            exclusions.append(unfit)
    large = [index for index in kept if leads[index].planned_window >= channel.min_window]
    if large and len(large) < len(kept):
        exclusions += [
            Exclusion(leads[index].name, Reason.CONTEXT_TOO_SMALL, detail=channel.name)
            for index in kept
            if leads[index].planned_window < channel.min_window
        ]
        kept = large
    if is_incident(leads, asked):
        return Admitted(tuple(kept), tuple(exclusions))
    return _judged_by_score(block, leads, kept, exclusions, asked)


def _misfit(option: Option, channel: Channel, *, is_local_only: bool) -> Exclusion | None:
    if is_local_only and not is_local(option):
        return Exclusion(option.name, Reason.NOT_LOCAL)
    if channel.needs and option.capabilities is not None:
        lacking = channel.needs - option.capabilities
        if lacking:
            return Exclusion(option.name, f"{Reason.CAPABILITY}:{min(lacking)}", detail=channel.name)
    return None


def is_local(option: Option) -> bool:
    """Say whether nothing that is asked there leaves the machine or its network."""
    return option.tier == "local" and option.is_loopback


def _judged_by_score(
    block: Block, leads: Sequence[Option], kept: Sequence[int], exclusions: list[Exclusion], asked: Asked
) -> Admitted:
    out: dict[int, Exclusion] = {}
    on_trial = set()
    for index in kept:
        figures = asked.view.figures(leads[index].name)
        if figures.low_score_until > asked.now:
            out[index] = Exclusion(leads[index].name, Reason.LOW_SCORE, until=figures.low_score_until)
        elif figures.needs_probe:
            if score(leads[index], block, asked).score < BACK_FROM:
                out[index] = Exclusion(leads[index].name, Reason.LOW_SCORE)
            else:
                on_trial.add(index)
    if len(out) == len(kept):
        return Admitted(tuple(kept), tuple(exclusions))
    return Admitted(
        tuple(index for index in kept if index not in out), (*exclusions, *out.values()), frozenset(on_trial)
    )


def is_incident(options: Iterable[Option], asked: Asked) -> bool:
    """Say whether more than half of the providers of a pool are open."""
    providers = {option.provider for option in options if option.provider}
    return 2 * sum(_is_open(asked.view.breaker(provider), asked.now) for provider in providers) > len(providers)


def _is_open(breaker: Breaker, now: float) -> bool:
    return breaker.state is BreakerState.OPEN and (breaker.until is None or breaker.until > now)


# --- scores ----------------------------------------------------------------------------------------------------------


def score(option: Option, block: Block, asked: Asked) -> Scored:
    """Return an option's score in a block, and what it is made of."""
    rater = _rater(block, asked, weights_of(block, asked.features))
    return rater.explained(rater.rated([option], [0])[0])


def _rater(block: Block, asked: Asked, weights: Weights) -> _Rater:
    channel = CHANNELS.get(block.channel, _AUTO)
    return _Rater(
        asked,
        weights,
        channel.task or asked.features.task,
        is_unknown_price_last=channel.is_unknown_price_last,
    )


class _Rated(NamedTuple):
    """An option with what its place depends on, in the order in which it counts, and behind that what explains it."""

    is_last: bool
    negated_score: float
    cost_nano: float
    provider: str
    model: str
    name: str
    place: int
    values: tuple[float, ...]
    option: Option
    figures: Figures
    quota: float | None


@dataclass(slots=True)
class _Rater:
    """Rates options for one request; looks at each provider and at each set of accounts once."""

    asked: Asked
    weights: Weights
    task: Task
    is_unknown_price_last: bool
    _breakers: dict[str, float] = field(default_factory=dict)
    _quotas: dict[int, float | None] = field(default_factory=dict)

    def rated(self, options: Sequence[Option], places: Iterable[int]) -> list[_Rated]:
        """Return the options at these places with their factors and the weighted sum of these.

        Pools have hundreds of options and this is done for each request: the loop calls no more than it must.
        """
        asked, task = self.asked, self.task
        features, view_of = asked.features, asked.view.figures
        estimated, wanted, effort = features.estimated_input, features.max_output, features.effort
        scale_ms = _TTFT_SCALE_MS if features.is_stream else _TOTAL_SCALE_MS
        column = COLUMNS[task]
        w_latency, w_cost, w_success, w_context, w_fitness, w_recent, w_quota, w_breaker = self.weights
        found: list[_Rated] = []
        made = _Rated._make
        for place in places:
            option = options[place]
            provider, window, scores = option.provider, option.window, option.fitness
            figures = view_of(option.name)
            typical_ms = figures.ttft_p50 if features.is_stream else figures.total_p50
            latency = _NO_LATENCY if typical_ms is None else 1.0 / (1.0 + typical_ms / scale_ms)
            cost = 0 if option.is_unmetered else estimate_nano(option, features, figures)
            cheapness = _NO_PRICE if cost is None else 1.0 / (1.0 + cost / _COST_SCALE_NANO)
            success = figures.success
            if window is None:
                context = _NO_WINDOW
            else:
                output = features.reserved_output(option) if wanted is None else wanted
                context = 2.0 * (1.0 - (estimated + output) / window)
                context = 1.0 if context > 1.0 else max(context, 0.0)
            if scores is None:
                fitness = UNKNOWN_FITNESS
            elif effort is None and option.effort is None:
                fitness = scores[column]
            else:
                fitness = adjusted(scores, task, option.effort or effort)
            recent = _recent_factor(figures.failed_at, asked.now) if figures.failed_at else 1.0
            quota = self._quota(option) if option.is_unmetered else 1.0
            left = _NO_QUOTA if quota is None else quota
            breaker = self._breakers.get(provider)
            if breaker is None:
                breaker = self._breakers[provider] = _breaker_factor(asked.view.breaker(provider))
            total = (
                w_latency * latency
                + w_cost * cheapness
                + w_success * success
                + w_context * context
                + w_fitness * fitness
                + w_recent * recent
                + w_quota * left
                + w_breaker * breaker
            )
            found.append(
                made(
                    (
                        cost is None and self.is_unknown_price_last,
                        -1.0 if total > 1.0 else -total,
                        inf if cost is None else cost,
                        provider,
                        option.model,
                        option.name,
                        place,
                        (latency, cheapness, success, context, fitness, recent, left, breaker),
                        option,
                        figures,
                        quota,
                    )
                )
            )
        return found

    def explained(self, rated: _Rated) -> Scored:
        """Return the score with what it is made of."""
        option, figures, values = rated.option, rated.figures, rated.values
        w_latency, w_cost, w_success, w_context, w_fitness, w_recent, w_quota, w_breaker = self.weights
        typical_ms = figures.ttft_p50 if self.asked.features.is_stream else figures.total_p50
        factors = {
            "latency": (values[0], w_latency, typical_ms is not None),
            "cost": (values[1], w_cost, rated.cost_nano != inf),
            "success": (values[2], w_success, figures.total > 0),
            "context": (values[3], w_context, option.window is not None),
            "fitness": (values[4], w_fitness, option.fitness is not None),
            "recent": (values[5], w_recent, True),
            "quota": (values[6], w_quota, rated.quota is not None),
            "breaker": (values[7], w_breaker, True),
        }
        return Scored(rated.name, -rated.negated_score, factors)

    def _quota(self, option: Option) -> float | None:
        """Return what is left at the option's best account, as a factor; None where nobody says."""
        if option.tier == "local":
            return 1.0
        accounts = option.accounts
        key = id(accounts)  # options of one provider share them, and they may be many
        if key not in self._quotas:
            if any(window.family for one in accounts for window in self.asked.view.load(one.id).windows):
                return self._best_quota(accounts, option.model)  # its models differ in what is left for them
            self._quotas[key] = self._best_quota(accounts, option.model)
        return self._quotas[key]

    def _best_quota(self, accounts: Sequence[Account], model: str) -> float | None:
        best: float | None = None
        is_any_unknown = False
        for account in accounts:
            windows = self.asked.view.load(account.id).windows
            used = [window.used or 0.0 for window in known_windows(windows, self.asked.now, model)]
            if not used:
                is_any_unknown = True
                continue
            left = max(0.0, 1.0 - max(used))
            if left >= _ENOUGH_QUOTA:
                return 1.0
            best = max(best or 0.0, left / _ENOUGH_QUOTA)
        if best is None or (is_any_unknown and best < _NO_QUOTA):
            return None
        return best


def _recent_factor(failed_at: Sequence[float], now: float) -> float:
    weight = 0.0
    for at in failed_at:
        age = max(0.0, now - at)  # clocks of workers may differ
        if age <= _RECENT_S:
            weight += 0.5 ** (age / _RECENT_HALF_LIFE_S)
    return 1.0 / (1.0 + weight)


def _breaker_factor(breaker: Breaker) -> float:
    match breaker.state:
        case BreakerState.CLOSED:
            return _DEGRADED if breaker.is_degraded else 1.0
        case BreakerState.OPEN | BreakerState.HALF_OPEN:  # what is open and may be asked stands before its probe
            return _HALF_OPEN


# --- the order -------------------------------------------------------------------------------------------------------


def order_auto(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Order the eligible options by their scores, the best first; ties by lower cost, provider and model id.

    A session stays where it is until another option leads by more than the switch margin. Now and then the head gives
    its place to one that is nearly as good, so that its figures do not grow old.
    """
    is_in_incident = is_incident(leads, asked)
    weights = _INCIDENT if is_in_incident else weights_of(block, asked.features)
    rater = _rater(block, asked, weights)
    rated = sorted(rater.rated(leads, eligible))
    held = _held(block, rated, asked)
    if held is not None:
        if held.place is not None:
            rated.insert(0, rated.pop(held.place))
    elif not is_in_incident:
        _explore(block, rated, asked)
    scores = [rater.explained(one) for one in rated[:MOST_EXPLAINED]]
    scores += [Scored(one.name, -one.negated_score, _UNEXPLAINED) for one in rated[MOST_EXPLAINED:]]
    return Ordering(
        tuple(one.place for one in rated),
        scores=tuple(scores),
        is_sticky=held is not None and held.place is not None,
    )


class _Held(NamedTuple):
    """Where the option stands that a session keeps; None where it cannot or need not be kept."""

    place: int | None


def _held(block: Block, rated: Sequence[_Rated], asked: Asked) -> _Held | None:
    """Return what the session is bound to; None where it is not bound."""
    if CHANNELS.get(block.channel, _AUTO).keeps_last_good:
        place = _place_of(_last_good(block, asked), rated)
        return None if place is None else _Held(place)
    name = _bound(block, asked)
    if name is None:
        return None
    place = _place_of(name, rated)
    if place is None:
        return _Held(None)
    held, best = rated[place], rated[0]
    if binding_session(held.option, asked) is None:
        return None
    is_close = held.negated_score - best.negated_score <= asked.rules.switch_margin and held.is_last == best.is_last
    return _Held(place if is_close else None)


def _last_good(block: Block, asked: Asked) -> str | None:
    session, view = asked.features.session, asked.view
    of_session = None
    if session is not None and not block.config.disable_session_stickiness:
        of_session = view.last_good(block.channel, session)
    return of_session or view.last_good(block.channel, f"key:{asked.features.key_id}")


def _bound(block: Block, asked: Asked) -> str | None:
    session = asked.features.session
    if session is None or block.config.disable_session_stickiness:
        return None
    binding = asked.view.binding(session, "")
    return (binding.target if binding is not None else None) or kept_target(block, asked)


def _place_of(name: str | None, rated: Sequence[_Rated]) -> int | None:
    return next((place for place, one in enumerate(rated) if one.name == name), None)


def _explore(block: Block, rated: list[_Rated], asked: Asked) -> None:
    """Swap the head, by chance, with one of the next few that is nearly as good."""
    rate = block.config.exploration_rate
    if rate is None:
        rate = CHANNELS.get(block.channel, _AUTO).exploration
    if rate <= 0 or len(rated) < 2 or asked.chance.rng.random() >= rate:
        return
    head = rated[0]
    places = [
        place
        for place, one in enumerate(rated[1 : 1 + _EXPLORED], start=1)
        if one.negated_score - head.negated_score <= _EXPLORED_WITHIN
        and (asked.features.budget_nano is None or one.cost_nano <= head.cost_nano)
    ]
    if places:
        place = asked.chance.rng.choice(places)
        rated[0], rated[place] = rated[place], head
