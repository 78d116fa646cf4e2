"""A view in which some are taken to fail answers as before for all others."""

from __future__ import annotations

import pytest

from omniroute.errors import ValidationFailed
from omniroute.routing.assumed import assuming
from omniroute.routing.options import Account, AuthClass, Option
from omniroute.routing.plan import Reason
from omniroute.routing.view import Breaker, BreakerState, Load, Parties, Rest, Still

ONE = Account("con_1", "a", AuthClass.API_KEY)
TWO = Account("con_2", "a", AuthClass.API_KEY)
OTHER = Account("con_3", "b", AuthClass.API_KEY)
OPTIONS = (Option("a/x", "a", "x", (ONE, TWO)), Option("a/y", "a", "y", (ONE,)), Option("b/x", "b", "x", (OTHER,)))
PAIRS = {("con_1", "x"), ("con_2", "x"), ("con_1", "y"), ("con_3", "x")}


class Calm(Still):
    """Of nobody is anything known."""

    def calm(self, parties: Parties) -> frozenset[str]:
        return parties.providers


@pytest.mark.parametrize(
    ("failing", "out"),
    [
        (("a/x",), {("con_1", "x"), ("con_2", "x")}),
        (("a",), {("con_1", "x"), ("con_2", "x"), ("con_1", "y")}),
        (("con_1",), {("con_1", "x"), ("con_1", "y")}),
        (("a/y", "b"), {("con_1", "y"), ("con_3", "x")}),
    ],
)
def test_who_is_out(failing: tuple[str, ...], out: set[tuple[str, str]]) -> None:
    view = assuming(Still(), failing, OPTIONS)
    rests = {pair: view.lockout(*pair) for pair in PAIRS}
    assert {pair for pair, rest in rests.items() if rest is not None} == out
    assert {rest for rest in rests.values() if rest is not None} == {Rest(Reason.LOCKED_OUT, kind="assumed")}


def test_nobody_failing_is_the_view_itself() -> None:
    view = Still()
    assert assuming(view, (), OPTIONS) is view


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValidationFailed) as refused:
        assuming(Still(), ("a/x", "c"), OPTIONS)
    assert refused.value.details[0]["field"] == "assume.failing"


def test_only_those_that_fail_are_no_longer_calm() -> None:
    both = Parties({}, frozenset({"a", "b"}))
    others = Parties({}, frozenset({"b"}))
    view = assuming(Calm(), ("a/x",), OPTIONS)
    assert view.calm(both) == {"b"}
    assert view.calm(others) is others.providers, "the same object says that all are"


def test_all_else_is_answered_as_before() -> None:
    below = Still(
        rests={"con_3": Rest("cooling")},
        lockouts={("con_3", "x"): Rest("locked_out")},
        breakers={"b": Breaker(BreakerState.OPEN)},
        loads={"con_3": Load(in_flight=2)},
        uses={("combo", "step"): 4},
        counters={("combo", "turn"): 1},
        last_good={("combo", "me"): "b/x"},
    )
    view = assuming(below, ("a",), OPTIONS)
    assert view.rest("con_3", "") == Rest("cooling")
    assert view.lockout("con_3", "x") == Rest("locked_out")
    assert view.breaker("b").state is BreakerState.OPEN
    assert view.load("con_3").in_flight == 2
    assert view.figures("b/x").total == 0
    assert view.uses("combo", "step", 60) == 4
    assert view.counter("combo", "turn") == 1
    assert view.binding("me", "b") is None
    assert view.last_good("combo", "me") == "b/x"
