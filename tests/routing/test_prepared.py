"""A plan made of what was prepared is the plan that is made without it, whatever is true and whoever asks."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import msgspec
import pytest

from omniroute.routing.asked import AccountRules, Asked, Chance
from omniroute.routing.config import ComboConfig
from omniroute.routing.decision import MOST_CANDIDATES, outline_of, record_from
from omniroute.routing.options import Account, AccountStrategy, Block, Features, Option, Strategy
from omniroute.routing.plan import Plan
from omniroute.routing.planning import plan
from omniroute.routing.prepared import EXPANDED, Bounds, Preparations, prepare
from omniroute.routing.recorder import Noted, Recorder
from omniroute.routing.replay import verify
from omniroute.routing.view import Binding, Load, Parties, Rest, Still
from tests.routing import worlds
from tests.routing.blocks import account, block, option

SESSION = "5e55" * 8


class Telling(Still):
    """A view that says of whom nothing is known, as the live one does, and counts what it is asked beside."""

    asked = 0

    def calm(self, parties: Parties) -> frozenset[str]:
        well = frozenset(name for name, accounts in parties.accounts.items() if self._is_calm(name, accounts))
        return parties.providers if well == parties.providers else well

    def _is_calm(self, provider: str, accounts: tuple[Account, ...]) -> bool:
        ids = {one.id for one in accounts}
        rests = ids | {one.rest_scope for one in accounts}
        return (
            provider not in self._breakers
            and not rests & self._rests.keys()
            and not any(account_id in ids for account_id, _ in self._lockouts)
            and not any(load.is_full or load.free_at for name, load in self._loads.items() if name in ids)
        )

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        self.asked += 1
        return super().rest(account_id, rest_scope)


def world(number: int) -> worlds.World:
    """A world, half of them with hardly anything that rests, and with plain blocks."""
    rng = Random(number)
    one = worlds.world(rng)
    everyone = [account for step in one.block.steps if step.option is not None for account in step.option.accounts]
    if number % 2:
        ailing = rng.sample(everyone, min(len(everyone), rng.choice((0, 0, 1))))
        view = Still(
            rests={account.id: worlds.rest(rng) for account in ailing},
            loads={account.id: replaced(worlds.load(rng)) for account in everyone},
            bindings={(SESSION, account.provider): Binding(account.id) for account in everyone if rng.random() < 0.5},
            counters=one.view._counters,
        )
        features = msgspec.structs.replace(one.features, budget_nano=None, connection_id=None, estimated_input=900)
        one = replace(one, view=view, features=features, forbidden=frozenset())
    if number % 4 > 1:
        flat = [step for step in one.block.steps if step.option is not None] or one.block.steps
        steps = tuple(replace(step, connection_id=None, problem=None) for step in flat)
        config = replace(one.block.config, spend_reserve="last-resort", context_requirements={})
        plain = replace(one.block, strategy=Strategy.PRIORITY, steps=steps, config=config, allowed_providers=())
        features = msgspec.structs.replace(one.features, needs=frozenset(), max_output=rng.choice((None, 100)))
        one = replace(one, block=plain, features=features)
    return one


def replaced(load: Load) -> Load:
    return msgspec.structs.replace(load, free_at=0.0, is_full=False)


def telling(view: Still) -> Telling:
    made = Telling()
    made.__dict__.update(view.__dict__)
    return made


def asked(one: worlds.World, view: Still) -> Asked:
    permits = (lambda opt, acc: (opt.name, acc.id) not in one.forbidden) if one.forbidden else None
    noted = Noted(view, permits)
    return Asked(one.features, noted, one.now, Chance(one.seed), one.rules, noted.permits)


def told(made: Plan) -> bytes:
    return msgspec.json.encode(outline_of(made))


def test_the_plan_is_the_same_and_is_recorded_and_decided_again_the_same() -> None:
    listed = shorter = 0
    for number in range(600):
        one = world(number)
        plain = plan(one.block, one.asked())
        question = asked(one, telling(one.view))
        made = plan(one.block, question, prepare(one.block, one.rules))
        assert told(made) == told(plain), number
        assert made.is_over_budget == plain.is_over_budget
        assert [entry.config for entry in made.entries] == [entry.config for entry in plain.entries]
        assert [entry.scope for entry in made.entries] == [entry.scope for entry in plain.entries]
        draft = Recorder(gateway_version="1").begin("req_1", one.block, question, made)
        body = draft.finish(worlds.settled(), target=None, is_committed=False).body
        record = record_from(body)
        assert verify(record) is None, number
        assert record.decision.rounds[0].outline == outline_of(plain)[0], number
        listed += bool(made.listing)
        shorter += b'"is_listed":true' in body
    assert listed > 60, "otherwise nothing was tried here"
    assert shorter > 60


def test_of_those_of_whom_nothing_is_known_nobody_is_asked_about() -> None:
    two = (account("a"), account("b"))
    combo = block(Strategy.PRIORITY, [option("p", accounts=two), option("q")])
    view = Telling()
    question = Asked(Features(), view, worlds.NOW, Chance(1))
    made = plan(combo, question, prepare(combo, question.rules))
    assert [len(entry.seats) for entry in made.entries] == [2, 1]
    assert view.asked == 0
    ailing = Telling(rests={"q": Rest("cooling", worlds.NOW + 9)})
    question = Asked(Features(), ailing, worlds.NOW, Chance(1))
    made = plan(combo, question, prepare(combo, question.rules))
    assert [entry.option.name for entry in made.entries] == ["p/m"]
    assert [one.connection_id for one in made.exclusions] == ["q"]
    assert ailing.asked == 1, "about the one that rests"


def test_steps_of_other_strategies_are_ready_too() -> None:
    combo = block(Strategy.ROUND_ROBIN, [option("p"), option("q"), option("r")])
    view = Telling(counters={(combo.scope, "position"): 1})
    question = Asked(Features(), view, worlds.NOW, Chance(1))
    made = plan(combo, question, prepare(combo, question.rules))
    assert [entry.option.name for entry in made.entries] == ["q/m", "r/m", "p/m"]
    assert view.asked == 0
    assert not made.listing


@pytest.mark.parametrize(
    ("features", "is_listed"),
    [
        (Features(), True),
        (Features(estimated_input=4000), True),
        (Features(estimated_input=4001), False),
        (Features(estimated_input=8000, max_output=96), True),
        (Features(max_output=97), False),
        (Features(needs=frozenset({"tools", "reasoning"})), True),
        (Features(needs=frozenset({"vision"})), False),
        (Features(budget_nano=10**12), False),
        (Features(connection_id="p"), False),
        (Features(needs_price=True), False),
    ],
)
def test_only_what_fits_all_steps_is_planned_as_listed(features: Features, is_listed: bool) -> None:
    small = option("p", window=8096, max_output=96, capabilities=frozenset({"tools"}), is_unmetered=True)
    large = option("q", window=9000, capabilities=frozenset({"tools", "vision"}))
    combo = block(Strategy.PRIORITY, [small, large])
    question = Asked(features, Telling(), worlds.NOW, Chance(1))
    made = plan(combo, question, prepare(combo, question.rules))
    assert bool(made.listing) is is_listed
    assert told(made) == told(plan(combo, question))


def test_who_named_one_model_is_not_told_that_it_cannot_do_that() -> None:
    alone = block(Strategy.PRIORITY, [option("p", window=8000)], scope="")
    question = Asked(Features(estimated_input=9000), Telling(), worlds.NOW, Chance(1))
    assert plan(alone, question, prepare(alone, question.rules)).listing


def test_a_caller_who_may_not_use_all_gets_what_he_may() -> None:
    combo = block(Strategy.PRIORITY, [option("p"), option("q")])
    question = Asked(Features(), Telling(), worlds.NOW, Chance(1), permits=lambda one, _account: one.name == "q/m")
    made = plan(combo, question, prepare(combo, question.rules))
    assert [entry.option.name for entry in made.entries] == ["q/m"]
    assert [(one.target, one.reason) for one in made.exclusions] == [("p/m", "key_policy")]


@pytest.mark.parametrize(
    "combo",
    [
        block(Strategy.PRIORITY, [option("p")], config=ComboConfig(budget_cap=1.0)),
        block(Strategy.PRIORITY, [option("p")], config=ComboConfig(spend_reserve="never")),
        block(Strategy.PRIORITY, [option("p", accounts=())]),
        block(Strategy.PRIORITY, [option("p", accounts=(replace(account("p"), cutoffs=(("5h", 90.0),)),))]),
        replace(block(Strategy.PRIORITY, [option("p"), option("q")]), allowed_providers=("q",)),
        block(Strategy.ROUND_ROBIN, [option("p"), option("q")]),
        Block(Strategy.PRIORITY, ()),
    ],
)
def test_blocks_that_need_more_than_their_list(combo: Block) -> None:
    prepared = prepare(combo, AccountRules())
    assert prepared.listing is None
    question = Asked(Features(), Telling(), worlds.NOW, Chance(1))
    assert told(plan(combo, question, prepared)) == told(plan(combo, question))


def test_a_long_list_is_planned_alike_and_written_down_in_full() -> None:
    many = [
        option(f"p{n}", accounts=tuple(account(f"p{n}-{k}", provider=f"p{n}") for k in range(3))) for n in range(30)
    ]
    combo = block(Strategy.PRIORITY, many)
    question = Asked(Features(), Telling(), worlds.NOW, Chance(1))
    made = plan(combo, question, prepare(combo, question.rules))
    assert [len(entry.seats) for entry in made.entries] == [3] * EXPANDED + [1] * (30 - EXPANDED)
    assert made == plan(combo, question)
    single = block(Strategy.PRIORITY, [option(f"p{n}") for n in range(MOST_CANDIDATES + 1)])
    made = plan(single, question, prepare(single, question.rules))
    assert (len(made.entries), made.listing) == (MOST_CANDIDATES + 1, ())


@pytest.mark.parametrize("strategy", list(AccountStrategy))
@pytest.mark.parametrize("bound", [None, "p-1", "p-2"])
@pytest.mark.parametrize("is_explicit", [True, False])
def test_sessions_find_their_account_at_the_head(
    strategy: AccountStrategy, bound: str | None, is_explicit: bool
) -> None:
    two = tuple(account(name, provider="p") for name in ("p-1", "p-2"))
    combo = block(Strategy.PRIORITY, [option("p", accounts=two, has_prompt_cache=True), option("q")])
    rules = AccountRules(strategy)
    bindings = {} if bound is None else {(SESSION, "p"): Binding(bound)}
    features = Features(session=SESSION, is_explicit_session=is_explicit)
    question = Asked(features, Telling(bindings=bindings), worlds.NOW, Chance(1), rules)
    made = plan(combo, question, prepare(combo, rules))
    assert told(made) == told(plan(combo, msgspec.structs.replace(question, chance=Chance(1))))
    if bound is not None:
        assert (made.entries[0].seats[0].account.id, made.is_sticky) == (bound, True)


def test_bounds() -> None:
    bounds = Bounds(1000, None, 100, None)
    assert bounds.hold(Features(estimated_input=900, needs=frozenset({"anything"})))
    assert not bounds.hold(Features(estimated_input=901))
    assert bounds.hold(Features(estimated_input=1, max_output=999))


def test_what_was_prepared_holds_for_this_block_and_these_rules_only() -> None:
    known, combo, rules = Preparations(most=2), block(Strategy.PRIORITY, [option("p")]), AccountRules()
    first = known.of(combo, rules)
    assert known.of(combo, rules) is first
    other = replace(combo)
    assert known.of(other, rules).block is other
    assert known.of(combo, replace(rules)) is not first
    third: Option = option("r")
    assert known.of(block(Strategy.PRIORITY, [third]), rules).ready[0].entry.option is third
    assert known.of(combo, rules) is not first, "the oldest were let go"
