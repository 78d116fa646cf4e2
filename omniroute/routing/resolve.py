"""From a model name to what it stands for: a combo, an `auto` channel, or options. The first stage that hits wins.

    1 combo       the exact name of an active combo, even where a model has the same id
    2 combo/…     the same, said explicitly; an unknown one ends the search
    3 alias       rows that lead to another name, which starts again at stage 1: five hops, each row once
    4 provider    `prefix/model` at a connected provider
    5 bare        the id of a model that connected providers list
    6 auto        a channel

`auto`, `auto/…` and `combo/…` are reserved: they are no row's business, so no catch-all can take them over. Stages 4
and 5 are the caller's to look up (`find`); combos, aliases and patterns stand in a :class:`Book`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from omniroute.errors import InvalidRequest, ModelNotFound
from omniroute.records import Combo, ComboPattern, ModelAlias
from omniroute.routing.auto import CHANNELS
from omniroute.routing.options import Option
from omniroute.routing.patterns import Rule, Rules

MAX_NAME: Final = 300
MAX_HOPS: Final = 5
AUTO: Final = "auto"
COMBO_PREFIX: Final = "combo/"

_AUTO_PREFIX: Final = "auto/"
_GEMINI_PREFIX: Final = "models/"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SHOWN: Final = 200
_COMPARED: Final = 500

Find = Callable[[str], Sequence[Option]]
"""Return the options of a name by stages 4 and 5; raises ModelNotFound and InvalidRequest."""


class Kind(StrEnum):
    """What a name turned out to be."""

    COMBO = "combo"
    CHANNEL = "channel"
    OPTIONS = "options"


class Hop(NamedTuple):
    """What one stage made of a name; `out` is None where it had nothing to say."""

    stage: str
    given: str
    out: str | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a name stands for.

    Attributes:
        combo, channel, options: the one that `kind` says; empty otherwise.
        alias_ids: the aliases that were followed, in order.
    """

    kind: Kind
    trace: tuple[Hop, ...]
    combo: Combo | None = None
    channel: str = ""
    options: tuple[Option, ...] = ()
    alias_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Detour:
    """Where an alias or a pattern leads."""

    name: str
    alias_id: str | None


class Book:
    """Combos, aliases and patterns, ready to be looked up. Immutable."""

    __slots__ = ("aliases", "combos")

    def __init__(
        self,
        combos: Iterable[Combo] = (),
        aliases: Iterable[ModelAlias] = (),
        patterns: Iterable[ComboPattern] = (),
    ) -> None:
        active = [combo for combo in combos if combo.is_active]
        self.combos = {combo.name: combo for combo in active}
        """The active ones by name."""
        by_id = {combo.id: combo for combo in active}
        self.aliases: Rules[Detour] = Rules(
            [
                *(_rule_of_alias(row) for row in aliases if row.enabled),
                *(
                    _rule_of_pattern(row, by_id[row.combo_id])
                    for row in patterns
                    if row.enabled and row.combo_id in by_id
                ),
            ]
        )

    def without_patterns(self) -> Book:
        """Return a book in which names stand for something only where they are spelt out."""
        book = Book()
        book.combos, book.aliases = self.combos, self.aliases.without_wild()
        return book


def _rule_of_alias(row: ModelAlias) -> Rule[Detour]:
    return Rule(row.id, row.pattern, Detour(row.target, row.id), row.priority, 1, row.created_at)


def _rule_of_pattern(row: ComboPattern, combo: Combo) -> Rule[Detour]:
    detour = Detour(f"{COMBO_PREFIX}{combo.name}", None)
    return Rule(row.id, row.pattern, detour, row.priority, 0, row.created_at)


def resolve(name: str, book: Book, find: Find) -> Resolution:
    """Return what a model name stands for.

    Raises:
        InvalidRequest: it is no name, or `find` refuses it.
        ModelNotFound: nothing has this name; extras `reason` and `suggestions`.
    """
    wanted = current = cleaned(name)
    trace: list[Hop] = []
    followed: list[str] = []
    used: set[str] = set()
    while True:
        combo = _combo(current, book, trace)
        if combo is not None:
            return Resolution(Kind.COMBO, tuple(trace), combo=combo, alias_ids=tuple(followed))
        if is_auto(current):
            _check_channel(current)
            trace.append(Hop("auto", current, current))
            return Resolution(Kind.CHANNEL, tuple(trace), channel=current, alias_ids=tuple(followed))
        rule = _next_rule(current, book, used, trace)
        if rule is None:
            break
        used.add(rule.id)
        if rule.row.alias_id is not None:
            followed.append(rule.row.alias_id)
        current = rule.row.name
    try:
        options = tuple(find(current))
    except ModelNotFound as error:
        raise _led_astray(wanted, current, error) from error
    stage = "bare" if current.startswith(options[0].model) else "provider"
    trace.append(Hop(stage, current, ", ".join(option.name for option in options)))
    return Resolution(Kind.OPTIONS, tuple(trace), options=options, alias_ids=tuple(followed))


def cleaned(name: str) -> str:
    """Return a name as it is looked up: trimmed, without the `models/` of Gemini's clients.

    Raises:
        InvalidRequest: it is empty, too long, or has control characters.
    """
    cut = name.strip().removeprefix(_GEMINI_PREFIX)
    if not 1 <= len(cut) <= MAX_NAME:
        raise InvalidRequest(f"'model' must have 1 to {MAX_NAME} characters.", param="model")
    if _CONTROL.search(cut):
        raise InvalidRequest("'model' must not hold control characters.", param="model")
    return cut


def is_auto(name: str) -> bool:
    """Say whether a name asks for an `auto` channel, known or not."""
    return name == AUTO or name.startswith(_AUTO_PREFIX)


def is_reserved(name: str) -> bool:
    """Say whether a name belongs to the channels or to the explicit form of combos."""
    return is_auto(name) or name.startswith((COMBO_PREFIX, _GEMINI_PREFIX))


def channel_name(name: str) -> str:
    """Return the full name of a channel, which may come without its `auto/`.

    Raises:
        ModelNotFound: there is none.
    """
    full = name if is_auto(name) else f"{_AUTO_PREFIX}{name}"
    if full not in CHANNELS:
        raise unknown_channel(full)
    return full


def unknown_channel(name: str) -> ModelNotFound:
    """Return the error of a channel that does not exist: it names those that do."""
    return ModelNotFound(
        f"There is no channel {name[:_SHOWN]!r}. There are {', '.join(CHANNELS)}.",
        param="model",
        should_retry=False,
        extras={"reason": "unknown", "suggestions": list(CHANNELS)[:3]},
    )


def _combo(current: str, book: Book, trace: list[Hop]) -> Combo | None:
    """Look at stages 1 and 2."""
    combo = book.combos.get(current)
    if combo is not None or not current.startswith(COMBO_PREFIX):
        trace.append(Hop("combo", current, combo.name if combo is not None else None))
        return combo
    named = current.removeprefix(COMBO_PREFIX)
    combo = book.combos.get(named)
    trace.append(Hop("combo/", current, combo.name if combo is not None else None))
    if combo is None:
        raise ModelNotFound(
            f"There is no combo {named[:_SHOWN]!r}.",
            param="model",
            should_retry=False,
            extras={"reason": "unknown", "suggestions": _nearest(named, book.combos)},
        )
    return combo


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    some = list(names)[:_COMPARED]  # the matcher is slow
    return [COMBO_PREFIX + found for found in difflib.get_close_matches(name, some, n=3, cutoff=0.6)]


def _check_channel(name: str) -> None:
    if name not in CHANNELS:
        raise unknown_channel(name)


def _next_rule(current: str, book: Book, used: set[str], trace: list[Hop]) -> Rule[Detour] | None:
    """Return the closest row that was not followed yet; none after the last hop."""
    if len(used) >= MAX_HOPS:
        trace.append(Hop("alias", current, None))
        return None
    rule = next((rule for rule in book.aliases.matching(current) if rule.id not in used), None)
    trace.append(Hop("alias", current, rule.row.name if rule is not None else None))
    return rule


def _led_astray(wanted: str, current: str, error: ModelNotFound) -> ModelNotFound:
    """Say what a name stands for where that is what cannot be found."""
    if wanted == current:
        return error
    return ModelNotFound(
        f"{wanted[:_SHOWN]!r} is another name for {current[:_SHOWN]!r}. {error.message}",
        param="model",
        should_retry=False,
        extras=error.extras,
    )
