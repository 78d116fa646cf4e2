"""`expiring-first`: classes and their order, the reserve, and that nothing lapses while there is demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from omniroute.routing.config import ComboConfig
from omniroute.routing.expiring import Class, headroom, is_withheld, standing
from omniroute.routing.options import Option, Rates, Strategy
from omniroute.routing.strategies import order_steps
from omniroute.routing.view import Load, QuotaWindow, Still
from tests.routing.blocks import NOW, account, asked, block, names, option, priced

FIVE_HOURS, WEEK = 18_000.0, 604_800.0
SUBSCRIPTION: dict[str, Any] = {"tier": "subscription", "is_unmetered": True}


def plan(name: str) -> Option:
    """Return an option of a subscription."""
    return option(name, **SUBSCRIPTION)


def window(used: float | None, resets_in: float | None = 9000.0, length_s: float | None = FIVE_HOURS) -> QuotaWindow:
    return QuotaWindow("w", used=used, resets_at=None if resets_in is None else NOW + resets_in, length_s=length_s)


def order(leads: list[Option], loads: dict[str, Load], config: ComboConfig | None = None, **features: Any) -> str:
    given_block = block(Strategy.EXPIRING_FIRST, leads, config=config)
    question = asked(Still(loads=loads), **features)
    return names(leads, order_steps(given_block, leads, range(len(leads)), question))


def kind(one: Option, load: Load, **features: Any) -> Class:
    return standing(one, one.accounts[0], asked(Still(loads={one.provider: load}), **features), ComboConfig()).kind


@pytest.mark.parametrize(
    ("resets_in", "length_s", "config", "held"),
    [
        (FIVE_HOURS, FIVE_HOURS, {}, 0.10),
        (1800, FIVE_HOURS, {}, 0.10),
        (900, FIVE_HOURS, {}, 0.05),
        (18, FIVE_HOURS, {}, 0.001),
        (900, FIVE_HOURS, {"reserve_percent": 40.0}, 0.20),
        (900, FIVE_HOURS, {"reserve_percent": 0.0}, 0.0),
        (1800, FIVE_HOURS, {"reserve_release_percent": 20.0}, 0.05),
        (1, FIVE_HOURS, {"reserve_release_percent": 0.0}, 0.10),
        (1, None, {}, 0.10),
        (None, FIVE_HOURS, {}, 0.10),
    ],
)
def test_the_reserve_is_let_go_towards_the_reset(
    resets_in: float | None, length_s: float | None, config: dict[str, float], held: float
) -> None:
    settings = ComboConfig(**config)  # type: ignore[arg-type]
    given_window = window(0.25, resets_in, length_s)
    assert headroom(given_window, asked(), settings) == pytest.approx(0.75 - held)
    assert headroom(given_window, asked(may_use_reserve=True), settings) == 0.75


@pytest.mark.parametrize(
    ("one", "load", "found"),
    [
        (plan("a"), Load(windows=(window(0.5),)), Class.PERISHABLE),
        (plan("a"), Load(windows=(window(0.5), window(0.95))), Class.RESERVE),
        (plan("a"), Load(windows=(window(0.5), window(None))), Class.PERISHABLE),
        (plan("a"), Load(windows=(window(None),)), Class.UNKNOWN),
        (plan("a"), Load(windows=(window(0.99, resets_in=-1),)), Class.UNKNOWN),
        (plan("a"), Load(), Class.UNKNOWN),
        (plan("a"), Load(windows=(window(1.0),)), Class.RESERVE),
        (option("a", tier="free", is_unmetered=True), Load(), Class.FREE),
        (option("a", tier="local", is_unmetered=True), Load(), Class.FREE),
        (option("a", tier="free", is_unmetered=True), Load(windows=(window(0.5),)), Class.PERISHABLE),
        (option("a", rates=Rates(1, 1)), Load(), Class.METERED),
        (option("a"), Load(windows=(window(0.5),)), Class.METERED),
    ],
)
def test_classes(one: Option, load: Load, found: Class) -> None:
    assert kind(one, load) is found


def test_who_may_use_the_reserve_sees_none() -> None:
    assert kind(plan("a"), Load(windows=(window(0.95),)), may_use_reserve=True) is Class.PERISHABLE


def test_classes_come_in_their_order() -> None:
    leads = [
        priced("a", 1),
        plan("b"),
        option("c", tier="local", is_unmetered=True),
        plan("d"),
        plan("e"),
        priced("f", None),
    ]
    loads = {"b": Load(windows=(window(0.97),)), "d": Load(windows=(window(0.2),))}
    assert order(leads, loads, estimated_input=100) == "decafb"


def test_what_lapses_first_comes_first() -> None:
    leads = [plan("a"), plan("b"), plan("c")]
    loads = {
        "a": Load(windows=(window(0.1, 9000), window(0.6, 400_000, WEEK))),
        "b": Load(windows=(window(0.1, 12_000), window(0.9, 1000, WEEK))),
        "c": Load(windows=(window(0.8, 3000),)),
    }
    assert order(leads, loads) == "bca"


def test_nearly_the_same_reset_is_decided_by_what_is_left_then_by_what_runs_then_by_the_list() -> None:
    leads = [plan("a"), plan("b"), plan("c"), plan("d")]
    loads = {
        "a": Load(in_flight=4, windows=(window(0.5, 9000),)),
        "b": Load(in_flight=1, windows=(window(0.5, 9010),)),
        "c": Load(in_flight=1, windows=(window(0.5, 9020),)),
        "d": Load(in_flight=9, windows=(window(0.4, 9030),)),
    }
    assert order(leads, loads) == "dbca"


def test_a_long_window_that_runs_ahead_of_time_is_not_urgent_but_usable() -> None:
    leads = [plan("a"), plan("b"), plan("c"), priced("d", 1)]
    half = WEEK / 2
    loads = {
        "a": Load(windows=(window(0.66, half, WEEK),)),
        "b": Load(windows=(window(0.64, half + 90_000, WEEK),)),
        "c": Load(windows=(window(0.64, half, WEEK),)),
    }
    assert order(leads, loads) == "cbad"


def test_a_short_window_has_no_pace_to_keep() -> None:
    leads = [plan("a"), plan("b")]
    loads = {"a": Load(windows=(window(0.1, 17_000),)), "b": Load(windows=(window(0.85, 16_000),))}
    assert order(leads, loads) == "ba"


def test_without_an_urgent_window_more_room_comes_first() -> None:
    leads = [plan("a"), plan("b"), plan("c")]
    loads = {name: Load(windows=(window(used, None),)) for name, used in (("a", 0.5), ("b", 0.3))}
    loads["c"] = Load(windows=(window(0.8, 9000),))
    assert order(leads, loads) == "cba"


def test_metered_steps_come_by_price_and_reserves_by_what_is_left() -> None:
    leads = [priced("a", 9), priced("b", 3), priced("c", None), plan("d"), plan("e")]
    loads = {"d": Load(windows=(window(0.97),)), "e": Load(windows=(window(0.2), window(0.93)))}
    assert order(leads, loads, estimated_input=10) == "baced"


def test_a_step_stands_where_its_best_account_stands() -> None:
    leads = [
        option("a", accounts=(account("a1"), account("a2")), **SUBSCRIPTION),
        plan("b"),
    ]
    loads = {
        "a1": Load(windows=(window(0.99),)),
        "a2": Load(windows=(window(0.1, 600),)),
        "b": Load(windows=(window(0.1),)),
    }
    assert order(leads, loads) == "ab"
    assert order(leads, {**loads, "a2": Load(windows=(window(0.99),))}) == "ba"


def test_a_reserve_is_withheld_where_it_is_never_to_be_spent() -> None:
    one = plan("a")
    for used, policy, withheld in ((0.95, "never", True), (0.95, "last-resort", False), (0.5, "never", False)):
        question = asked(Still(loads={"a": Load(windows=(window(used),))}))
        assert is_withheld(one, one.accounts[0], question, ComboConfig(spend_reserve=policy)) is withheld


windows = st.builds(
    window,
    used=st.none() | st.floats(0, 1),
    resets_in=st.floats(1, 700_000),
    length_s=st.sampled_from([None, FIVE_HOURS, WEEK]),
)
loads_of_plans = st.lists(
    st.lists(windows, max_size=3).map(lambda some: Load(windows=tuple(some))), min_size=1, max_size=5
)


@given(loads_of_plans, st.integers(0, 4))
def test_no_metered_step_leads_while_something_perishable_has_room(some: list[Load], place: int) -> None:
    leads = [plan(chr(ord("a") + index)) for index in range(len(some))]
    loads = {lead.provider: load for lead, load in zip(leads, some, strict=True)}
    has_room = any(kind(lead, loads[lead.provider]) is Class.PERISHABLE for lead in leads)
    leads.insert(place, priced("z", 0))

    head = order(leads, loads)[0]

    if has_room:
        assert head != "z"
        assert kind(plan(head), loads[head]) is Class.PERISHABLE


@given(loads_of_plans, st.data(), st.floats(0, 1))
def test_an_earlier_reset_never_lowers_a_step(some: list[Load], data: st.DataObject, share: float) -> None:
    leads = [plan(chr(ord("a") + index)) for index in range(len(some))]
    loads = {lead.provider: load for lead, load in zip(leads, some, strict=True)}
    name = data.draw(st.sampled_from(leads)).provider
    if not loads[name].windows:
        return
    which = data.draw(st.integers(0, len(loads[name].windows) - 1))
    old = loads[name].windows[which]
    assert old.resets_at is not None
    earlier = structs.replace(old, resets_at=NOW + max(0.5, (old.resets_at - NOW) * share))
    changed = tuple(earlier if index == which else one for index, one in enumerate(loads[name].windows))

    before, after = order(leads, loads), order(leads, {**loads, name: structs.replace(loads[name], windows=changed)})

    assert after.index(name) <= before.index(name)


@given(st.lists(st.builds(Load, is_full=st.booleans(), in_flight=st.integers(0, 5)), min_size=1, max_size=6))
def test_with_nothing_known_it_is_fill_first(some: list[Load]) -> None:
    leads = [plan(chr(ord("a") + index)) for index in range(len(some))]
    loads = {
        lead.provider: structs.replace(load, windows=(window(None),) if index % 2 else ())
        for index, (lead, load) in enumerate(zip(leads, some, strict=True))
    }
    filled = block(Strategy.FILL_FIRST, leads)
    expected = names(leads, order_steps(filled, leads, range(len(leads)), asked(Still(loads=loads))))
    assert order(leads, loads) == expected


# --- simulation ------------------------------------------------------------------------------------------------------


@dataclass
class Grant:
    """A window of a simulated subscription: how many requests it grants, and when it began."""

    requests: int
    length_s: float
    began_at: float
    spent: int = 0
    unused: list[float] = field(default_factory=list)

    def tick(self, now: float) -> None:
        while now >= self.began_at + self.length_s:
            self.unused.append(1 - self.spent / self.requests)
            self.began_at += self.length_s
            self.spent = 0

    def window(self, number: int) -> QuotaWindow:
        return QuotaWindow(
            str(number),
            used=self.spent / self.requests,
            resets_at=self.began_at + self.length_s,
            length_s=self.length_s,
        )


def simulate(grants: dict[str, list[Grant]], *, gap_s: float, lasts_s: float) -> dict[str, int]:
    """Send a request every so often and count who led; the reserve must hold at each."""
    leads = [priced("z", 5), *(plan(name) for name in grants)]
    given_block = block(Strategy.EXPIRING_FIRST, leads)
    led: dict[str, int] = dict.fromkeys("z" + "".join(grants), 0)
    for number in range(int(lasts_s / gap_s)):
        now = NOW + number * gap_s
        for several in grants.values():
            for grant in several:
                grant.tick(now)
        loads = {
            name: Load(windows=tuple(grant.window(index) for index, grant in enumerate(grants[name])))
            for name in grants
        }
        question = asked(Still(loads=loads), now=now)
        head = leads[order_steps(given_block, leads, range(len(leads)), question).order[0]].provider
        led[head] += 1
        for grant in grants.get(head, []):
            assert grant.spent < grant.requests
            grant.spent += 1
        room = {
            name: min(headroom(one, question, given_block.config) for one in loads[name].windows) for name in grants
        }
        assert (head == "z") == (max(room.values()) <= 0)
        assert head == "z" or room[head] > 0
    return led


@pytest.mark.parametrize("demand", [1.05, 1.5, 4.0])
def test_quota_that_lapses_is_spent_before_its_reset(demand: float) -> None:
    grants = {name: [Grant(300, FIVE_HOURS, NOW - index * 5000)] for index, name in enumerate("abc")}
    gap_s = FIVE_HOURS / (3 * 300 * demand)

    led = simulate(grants, gap_s=gap_s, lasts_s=6 * FIVE_HOURS)

    for name in "abc":
        settled = grants[name][0].unused[1:]  # the first window began before there was any demand
        assert len(settled) >= 4
        assert max(settled) <= 0.02
    assert (led["z"] > 0) == (demand > 1.1)  # what is beyond the supply is paid for, nothing else


def test_a_weekly_quota_above_short_ones_is_spent_before_its_reset() -> None:
    grants = {
        name: [Grant(150, FIVE_HOURS, NOW - index * 7000), Grant(2000, WEEK, NOW - index * WEEK / 3)]
        for index, name in enumerate("ab")
    }

    simulate(grants, gap_s=WEEK / 4600, lasts_s=3 * WEEK)

    for name in "ab":
        settled = grants[name][1].unused[1:]
        assert len(settled) >= 2 - (name == "a")
        assert max(settled) <= 0.02
