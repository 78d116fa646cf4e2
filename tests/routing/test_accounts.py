"""The strategies of accounts, and where sessions are put among them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.accounts import AccountOrdering, order_accounts
from omniroute.routing.affinity import favourite
from omniroute.routing.asked import AccountRules
from omniroute.routing.config import ComboConfig
from omniroute.routing.options import Account, AccountStrategy, Option
from omniroute.routing.view import Binding, Load, QuotaWindow, Still
from tests.routing.blocks import NOW, account, apply_intents, asked, option

ACCOUNTS = tuple(account(name, created_at=number) for number, name in enumerate("abcd"))


def rules(strategy: AccountStrategy, sticky_limit: int = 3, **more: Any) -> AccountRules:
    return AccountRules(strategy=strategy, sticky_limit=sticky_limit, **more)


def provider(accounts: tuple[Account, ...] = ACCOUNTS, **facts: Any) -> Option:
    return option("p", accounts=accounts, **facts)


def order(
    strategy: AccountStrategy,
    view: Still | None = None,
    accounts: tuple[Account, ...] = ACCOUNTS,
    *,
    facts: dict[str, Any] | None = None,
    config: ComboConfig | None = None,
    **question: Any,
) -> AccountOrdering:
    return order_accounts(
        provider(accounts, **(facts or {})),
        accounts,
        asked(view, rules=rules(strategy), **question),
        config=config or ComboConfig(),
    )


def ids(ordering: AccountOrdering) -> str:
    return "".join(one.id for one in ordering.accounts)


def used(fraction: float | None, *, resets_in: float = 9000.0) -> Load:
    return Load(windows=(QuotaWindow("5h", used=fraction, resets_at=NOW + resets_in, length_s=18_000),))


@pytest.mark.parametrize("strategy", list(AccountStrategy))
def test_one_account_is_taken_as_it_is(strategy: AccountStrategy) -> None:
    one = (ACCOUNTS[0],)
    assert order(strategy, accounts=one, session="me", is_explicit_session=True) == AccountOrdering(one)
    assert order(strategy, accounts=()) == AccountOrdering(())


@given(
    strategy=st.sampled_from(AccountStrategy),
    chosen=st.sets(st.sampled_from("abcd")),
    seed=st.integers(0, 2**64 - 1),
    session=st.sampled_from([None, "me", "you"]),
    bound=st.none() | st.sampled_from("abcdx"),
    is_full=st.sets(st.sampled_from("abcd")),
    fractions=st.dictionaries(st.sampled_from("abcd"), st.none() | st.floats(0, 1)),
    is_unmetered=st.booleans(),
)
def test_the_order_is_a_permutation_and_the_same_each_time(
    strategy: AccountStrategy,
    chosen: set[str],
    seed: int,
    session: str | None,
    bound: str | None,
    is_full: set[str],
    fractions: dict[str, float | None],
    is_unmetered: bool,
) -> None:
    loads = {name: used(fraction) for name, fraction in fractions.items()} | {
        name: Load(is_full=True) for name in is_full
    }
    view = Still(loads=loads, bindings={("me", "p"): Binding(bound)} if bound else {})
    accounts = tuple(one for one in ACCOUNTS if one.id in chosen)
    question: dict[str, Any] = {
        "seed": seed,
        "session": session,
        "is_explicit_session": True,
        "facts": {"is_unmetered": is_unmetered},
    }

    ordering = order(strategy, view, accounts, **question)

    assert sorted(one.id for one in ordering.accounts) == sorted(chosen)
    assert order(strategy, view, accounts, **question) == ordering


def test_fill_first_takes_the_first_that_has_a_place_free() -> None:
    assert ids(order(AccountStrategy.FILL_FIRST)) == "abcd"
    view = Still(loads={"a": Load(is_full=True), "b": Load(free_at=NOW + 1), "c": Load(in_flight=40)})
    assert ids(order(AccountStrategy.FILL_FIRST, view)) == "cdab"


def test_least_used_takes_who_has_waited_longest() -> None:
    view = Still(loads={"a": Load(last_used_at=NOW), "b": Load(last_used_at=NOW - 9), "d": Load(last_used_at=NOW - 5)})
    assert ids(order(AccountStrategy.LEAST_USED, view)) == "cbda"


def test_cost_optimized_shares_a_price_class_by_who_has_waited_longest() -> None:
    accounts = (account("a", priority=1), account("b", priority=1), account("c", priority=2), account("d", priority=2))
    view = Still(loads={"a": Load(last_used_at=NOW), "c": Load(last_used_at=NOW - 1)})
    assert ids(order(AccountStrategy.COST_OPTIMIZED, view, accounts)) == "badc"


def test_random_is_uniform_enough() -> None:
    counts = Counter(ids(order(AccountStrategy.RANDOM, seed=seed)) for seed in range(12_000))
    assert len(counts) == 24
    assert max(counts.values()) < 620
    assert min(counts.values()) > 390


def test_p2c_never_takes_the_most_loaded() -> None:
    view = Still(loads={name: Load(in_flight=3) for name in "abc"} | {"d": Load(in_flight=4)})
    heads = Counter(ids(order(AccountStrategy.P2C, view, seed=seed))[0] for seed in range(3000))
    assert set(heads) == set("abc")
    assert min(heads.values()) > 880


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (Load(in_flight=1), Load(in_flight=2)),
        (used(0.2), used(0.4)),
        (used(0.25), Load()),
        (Load(), used(0.35)),
        (Load(in_flight=1), used(0.99)),
    ],
    ids=["in flight", "remaining", "unknown counts as 0.7", "the same the other way", "nearly spent"],
)
def test_p2c_weighs_load_by_what_is_left(better: Load, worse: Load) -> None:
    two = ACCOUNTS[:2]
    for seed in range(10):
        assert ids(order(AccountStrategy.P2C, Still(loads={"a": worse, "b": better}), two, seed=seed)) == "ba"


# --- round-robin -----------------------------------------------------------------------------------------------------


class Rotation:
    """Accounts that are asked again and again."""

    def __init__(self, sticky_limit: int = 3) -> None:
        self.sticky_limit = sticky_limit
        self.counters: dict[tuple[str, str], Any] = {}

    def heads(self, count: int, *, without: str = "") -> str:
        return "".join(self.ask(without) for _ in range(count))

    def ask(self, without: str) -> str:
        accounts = tuple(one for one in ACCOUNTS if one.id not in without)
        question = asked(Still(counters=self.counters), rules=rules(AccountStrategy.ROUND_ROBIN, self.sticky_limit))
        ordering = order_accounts(provider(), accounts, question)
        apply_intents(self.counters, ordering.intents)
        return ids(ordering)[0]


def test_each_leads_some_requests_in_a_row() -> None:
    assert Rotation().heads(14) == "aaabbbcccdddaa"
    assert Rotation(1).heads(6) == "abcdab"


def test_one_that_is_left_out_is_passed_over_without_a_turn() -> None:
    rotation = Rotation()
    assert rotation.heads(4) == "aaab"
    assert rotation.heads(5, without="b") == "cccdd"
    assert rotation.heads(5) == "daaab"


def test_one_that_falls_out_in_its_turn_makes_way_for_the_next() -> None:
    rotation = Rotation()
    assert rotation.heads(1) == "a"
    assert rotation.heads(3, without="a") == "bbb"
    assert rotation.heads(4) == "cccd"


def test_the_last_that_is_left_out_goes_back_to_the_first() -> None:
    rotation = Rotation(1)
    assert rotation.heads(3) == "abc"
    assert rotation.heads(2, without="d") == "ab"


def test_a_removed_account_leaves_its_place_to_the_next() -> None:
    rotation = Rotation(1)
    rotation.counters["accounts:p", "rotation"] = {"after": [1, 1.5, "gone"], "count": 1}
    assert rotation.heads(2) == "cd"


@pytest.mark.parametrize("kept", [5, {"after": "a"}, {"after": [1, None, "a"], "count": 1}, {"after": [1, 0, "a"]}])
def test_a_rotation_that_cannot_be_read_starts_anew(kept: Any) -> None:
    rotation = Rotation(2)
    rotation.counters["accounts:p", "rotation"] = kept
    assert rotation.heads(3) == "aab"


def test_behind_the_head_comes_the_rest_of_the_rotation() -> None:
    view = Still(counters={("accounts:p", "rotation"): {"after": [1, 1.0, "b"], "count": 3}})
    assert ids(order(AccountStrategy.ROUND_ROBIN, view)) == "cdab"


def test_a_provider_may_have_its_own_rule() -> None:
    own = AccountRules(by_provider={"p": (AccountStrategy.LEAST_USED, 3)})
    question = asked(Still(loads={"a": Load(last_used_at=1)}), rules=own)
    assert ids(order_accounts(provider(), ACCOUNTS, question)) == "bcda"


# --- sessions --------------------------------------------------------------------------------------------------------

SPREADING = [
    AccountStrategy.FILL_FIRST,
    AccountStrategy.ROUND_ROBIN,
    AccountStrategy.P2C,
    AccountStrategy.RANDOM,
    AccountStrategy.LEAST_USED,
    AccountStrategy.COST_OPTIMIZED,
    AccountStrategy.EXPIRING_FIRST,
]


@pytest.mark.parametrize("strategy", SPREADING)
def test_a_bound_session_finds_its_connection_at_the_head(strategy: AccountStrategy) -> None:
    view = Still(bindings={("me", "p"): Binding("c")})
    ordering = order(strategy, view, session="me", is_explicit_session=True)
    assert ids(ordering)[0] == "c"
    assert ordering.is_sticky
    assert ordering.intents == ()


@pytest.mark.parametrize("strategy", SPREADING)
def test_a_new_session_is_drawn_to_the_same_connection_everywhere(strategy: AccountStrategy) -> None:
    for number in range(40):
        session = f"s{number}"
        ordering = order(strategy, seed=number, session=session, is_explicit_session=True)
        assert ids(ordering)[0] == favourite(session, "abcd")
        assert not ordering.is_sticky


@pytest.mark.parametrize("strategy", [AccountStrategy.FILL_FIRST, AccountStrategy.COST_OPTIMIZED])
def test_sessions_share_only_the_best_place(strategy: AccountStrategy) -> None:
    accounts = (account("a", priority=1), account("b", priority=1), account("c", priority=2))
    heads = Counter(
        ids(order(strategy, accounts=accounts, session=f"s{number}", is_explicit_session=True))[0]
        for number in range(400)
    )
    assert set(heads) == {"a", "b"}
    assert min(heads.values()) > 150


def test_a_session_is_not_drawn_to_who_has_no_place_free() -> None:
    view = Still(loads={"a": Load(is_full=True), "c": Load(is_full=True)})
    heads = {
        ids(order(AccountStrategy.FILL_FIRST, view, session=f"s{number}", is_explicit_session=True))[0]
        for number in range(60)
    }
    assert heads == {"b", "d"}


def test_a_session_whose_connection_is_left_out_is_drawn_to_another() -> None:
    view = Still(bindings={("me", "p"): Binding("x")})
    ordering = order(AccountStrategy.FILL_FIRST, view, session="me", is_explicit_session=True)
    assert ids(ordering)[0] == favourite("me", "abcd")
    assert not ordering.is_sticky


def test_a_derived_session_is_bound_only_where_prompts_are_cached() -> None:
    view = Still(bindings={("me", "p"): Binding("c")})
    assert ids(order(AccountStrategy.FILL_FIRST, view, session="me")) == "abcd"
    assert ids(order(AccountStrategy.FILL_FIRST, view, session="me", facts={"has_prompt_cache": True})) == "cabd"


def test_sessions_are_left_alone_where_that_is_switched_off() -> None:
    view = Still(bindings={("me", "p"): Binding("c")})
    question = asked(view, session="me", is_explicit_session=True)
    assert ids(order_accounts(provider(), ACCOUNTS, question, is_sticky_allowed=False)) == "abcd"
    unbound = asked(view, session="me", is_explicit_session=True, rules=AccountRules(affinity_ttl_ms=0))
    assert ids(order_accounts(provider(), ACCOUNTS, unbound)) == "abcd"


def test_a_session_of_another_provider_is_not_meant() -> None:
    view = Still(bindings={("me", "q"): Binding("c")})
    assert not order(AccountStrategy.FILL_FIRST, view, session="me", is_explicit_session=True).is_sticky


# --- expiring-first --------------------------------------------------------------------------------------------------

SUBSCRIPTION = {"tier": "subscription", "is_unmetered": True}


def test_expiring_first_takes_what_lapses_soonest() -> None:
    view = Still(
        loads={"a": used(0.2, resets_in=9000), "b": used(0.5, resets_in=600), "c": used(None), "d": used(0.99)}
    )
    assert ids(order(AccountStrategy.EXPIRING_FIRST, view, facts=SUBSCRIPTION)) == "bacd"


def test_a_session_does_not_keep_to_a_mere_reserve_while_there_is_something_else() -> None:
    view = Still(loads={"a": used(0.2), "b": used(0.95)}, bindings={("me", "p"): Binding("b")})
    two = ACCOUNTS[:2]
    question: dict[str, Any] = {"session": "me", "is_explicit_session": True, "facts": SUBSCRIPTION}
    assert ids(order(AccountStrategy.EXPIRING_FIRST, view, two, **question)) == "ab"
    alone = Still(loads={"a": used(0.93), "b": used(0.95)}, bindings={("me", "p"): Binding("b")})
    assert ids(order(AccountStrategy.EXPIRING_FIRST, alone, two, **question)) == "ba"
    urgent = order(AccountStrategy.EXPIRING_FIRST, view, two, may_use_reserve=True, **question)
    assert ids(urgent) == "ba"
    generous = order(AccountStrategy.EXPIRING_FIRST, view, two, config=ComboConfig(reserve_percent=0), **question)
    assert ids(generous) == "ba"


def test_new_sessions_are_drawn_only_to_what_lapses_at_about_the_same_time() -> None:
    view = Still(loads={"a": used(0.2, resets_in=600), "b": used(0.3, resets_in=601), "c": used(0.1), "d": used(None)})
    heads = {
        ids(
            order(
                AccountStrategy.EXPIRING_FIRST, view, session=f"s{number}", is_explicit_session=True, facts=SUBSCRIPTION
            )
        )[0]
        for number in range(60)
    }
    assert heads == {"a", "b"}


def test_with_nothing_known_expiring_first_is_fill_first() -> None:
    accounts = (account("a", priority=1), account("b", priority=1), account("c", priority=2))
    view = Still(loads={"a": Load(is_full=True)})
    for session in (None, "s1", "s2", "s3"):
        question: dict[str, Any] = {"session": session, "is_explicit_session": True, "facts": SUBSCRIPTION}
        filled = order(AccountStrategy.FILL_FIRST, view, accounts, **question)
        assert ids(order(AccountStrategy.EXPIRING_FIRST, view, accounts, **question)) == ids(filled)
