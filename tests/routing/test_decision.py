from __future__ import annotations

import dataclasses
import json
import zlib
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from omniroute.routing.asked import AccountRules, Asked, Chance
from omniroute.routing.config import DEFAULTS
from omniroute.routing.decision import (
    MOST_CANDIDATES,
    MOST_EXCLUSIONS,
    Encoded,
    ground_from,
    outline_of,
    record_from,
)
from omniroute.routing.options import Account, AuthClass, Block, Features, Option, Step, Strategy
from omniroute.routing.packing import MOST_BYTES, Packer, Reader
from omniroute.routing.plan import Exclusion, Plan
from omniroute.routing.planning import plan
from omniroute.routing.recorder import Noted, Recorder
from omniroute.routing.view import Still
from tests.routing.worlds import NOW, RATE, finished, recorded, settled, world


@settings(max_examples=200)
@given(st.randoms(use_true_random=False))
def test_a_ground_comes_back_as_it_was(rng: Random) -> None:
    one = world(rng)
    encoded = Encoded().ground(one.block, one.rules)
    ground = ground_from(encoded)
    assert (ground.block, ground.rules) == (one.block, one.rules)
    assert b"object at" not in encoded


@settings(max_examples=200)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_a_record_survives_being_stored(rng: Random, failures: int) -> None:
    made = recorded(world(rng), failures=failures)
    assert b"\n" not in made.body
    record = record_from(made.body)
    stored = Packer().pack(made.body)
    assert Reader().read(stored) == record
    assert len(stored) <= MOST_BYTES
    assert (record.decision.request_id, record.decision.rounds[0].seed) == ("req_1", made.seed)
    assert len(record.decision.attempts) <= failures + 1


def test_what_is_known_already_is_not_encoded_again() -> None:
    one = world(Random(3))
    recorder = Recorder(gateway_version="1")
    first = recorder.known(one.block, one.rules)
    assert recorder.known(one.block, one.rules) is first
    assert recorder.known(one.block, AccountRules(sticky_limit=9)) is not first
    same = dataclasses.replace(one.block)
    assert recorder.known(same, one.rules).policy_hash == first.policy_hash
    assert recorder.known(same, one.rules) is not first


def test_a_new_configuration_lets_go_of_the_old_one() -> None:
    one = world(Random(3))
    recorder = Recorder(gateway_version="1", most_blocks=2)
    asked = one.asked()
    made = plan(one.block, asked)
    known = recorder.known(one.block, one.rules)
    recorder.begin("req_1", one.block, asked, made, config_version=2)
    assert recorder.known(one.block, one.rules) is not known


def test_few_blocks_are_remembered() -> None:
    recorder = Recorder(gateway_version="1", most_blocks=2)
    worlds = [world(Random(number)) for number in range(5)]
    grounds = [recorder.known(one.block, one.rules) for one in worlds]
    assert recorder.known(worlds[-1].block, worlds[-1].rules) is grounds[-1]
    assert recorder.known(worlds[0].block, worlds[0].rules) is not grounds[0]


def test_the_policy_of_a_block_is_named_by_the_block_or_by_its_content() -> None:
    one = world(Random(5))
    named = dataclasses.replace(one.block, policy_hash="abc")
    recorder = Recorder(gateway_version="1")
    assert recorder.known(named, one.rules).policy_hash == "abc"
    other = dataclasses.replace(one.block, name="other")
    assert recorder.known(other, one.rules).policy_hash != recorder.known(one.block, one.rules).policy_hash


def account(number: int) -> Account:
    return Account(f"conn_{number:03}", "p", AuthClass.API_KEY, rest_scope=f"connection:conn_{number:03}")


def wide(options: int, accounts: int) -> Block:
    own = tuple(account(number) for number in range(accounts))
    steps = tuple(
        Step(f"s{number:03}", Option(f"p/m{number:03}", "p", f"m{number:03}", own)) for number in range(options)
    )
    return Block(Strategy.PRIORITY, steps, scope="combo_1", name="wide")


def question(forbids: bool = False) -> Asked:
    noted = Noted(Still(), (lambda _option, account: account.id < "conn_001") if forbids else None)
    return Asked(Features(requested="wide"), noted, NOW, Chance(1), permits=noted.permits)


def test_long_lists_are_cut_and_counted() -> None:
    block, asked = wide(100, 20), question()
    made = plan(block, asked)
    candidates = sum(len(entry.seats) for entry in made.entries)
    assert candidates > MOST_CANDIDATES
    draft = Recorder(gateway_version="1").begin("req_1", block, asked, made)
    last = made.entries[-1]
    draft.attempt(last.option.name, last.seats[0].account.id, started_ms=1, ended_ms=2, status=200)
    record = record_from(draft.finish(settled(), target=last.option.name, is_committed=True).body)
    planned = record.decision.rounds[0]
    assert sum(len(place.accounts) for place in planned.outline.places) == MOST_CANDIDATES
    assert planned.outline.places[0].option == made.entries[0].option.name
    assert planned.cut == (candidates - MOST_CANDIDATES, 0)
    assert planned.digest is not None
    assert record.decision.attempts[0].option == last.option.name

    asked = question(forbids=True)
    made = plan(block, asked)
    outline, cut, digest = outline_of(made)
    assert len(outline.exclusions) == MOST_EXCLUSIONS
    assert cut[1] == len(made.exclusions) - MOST_EXCLUSIONS
    assert digest != planned.digest


def test_the_digest_is_of_everything_that_was_cut() -> None:
    exclusions = tuple(Exclusion(f"p/m{number}", "cooling") for number in range(MOST_EXCLUSIONS + 2))
    _, cut, digest = outline_of(Plan((), exclusions))
    other = (*exclusions[:-1], Exclusion("p/other", "cooling"))
    assert cut == (0, 2)
    assert outline_of(Plan((), other))[2] != digest
    assert outline_of(Plan((), exclusions[:MOST_EXCLUSIONS]))[1:] == ((0, 0), None)


def test_a_record_that_is_too_large_can_still_be_read() -> None:
    rng = Random(1)
    name = "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(250))
    own = tuple(account(number) for number in range(3))
    steps = tuple(
        Step(f"s{n}", Option(f"p/{n}{''.join(rng.sample(name, 200))}", "p", "m", own), name=name) for n in range(190)
    )
    block = Block(Strategy.PRIORITY, steps, scope="combo_1", name="wide")
    asked = question()
    made = plan(block, asked)
    body = finished(Recorder(gateway_version="1").begin("req_1", block, asked, made), made).body
    stored = Packer().pack(body)
    record = Reader().read(stored)
    assert len(stored) <= MOST_BYTES < len(zlib.compress(body))
    assert record.decision.is_reduced
    assert record.ground is None
    assert record.decision.rounds[0].outline == record_from(body).decision.rounds[0].outline


def test_no_text_of_a_provider_and_no_secret_is_kept() -> None:
    one = world(Random(11))
    body = recorded(one, failures=1).body.decode()
    assert RATE.message not in body
    assert "rate_limit_exceeded" in body
    assert "handles" not in body


def test_texts_that_are_not_unicode_and_absurd_numbers_are_made_fit() -> None:
    one = world(Random(11))
    odd = dataclasses.replace(one, features=structs.replace(one.features, requested="half \ud800"))
    asked = odd.asked()
    made = plan(odd.block, asked)
    draft = Recorder(gateway_version="1").begin("req_1", odd.block, asked, made, trace=[("combo", "\udfff", None)])
    failure = dataclasses.replace(RATE, provider_code="\ud900")
    draft.attempt("p/m", "conn", started_ms=0, ended_ms=1, failure=failure, tokens=(10**30, None))
    record = record_from(draft.finish(settled(tokens_in=-(10**30)), target=None, is_committed=False).body)
    assert record.decision.rounds[0].features.requested == "half ?"
    assert record.decision.attempts[0].tokens_in == 10**15
    assert record.decision.trace[0].given == "?"


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: b"",
        lambda stored: b"\x03" + stored[1:],
        lambda stored: stored[:-3],
        lambda stored: stored + b"x",
        lambda stored: stored[:40] + bytes(20) + stored[60:],
        lambda stored: bytes((stored[0], 0)),
    ],
)
def test_damage_is_seen(damage: object) -> None:
    stored = Packer().pack(recorded(world(Random(2))).body)
    with pytest.raises(ValueError, match=r"."):
        Reader().read(damage(stored))  # type: ignore[operator]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"[1]"])
def test_what_is_no_record_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        record_from(body)


def test_records_of_this_form_stay_readable() -> None:
    """What is stored is read for as long as it is kept: another layout, or another dictionary, needs another form."""
    record = Reader().read(bytes.fromhex("01010000001fc3590658021d8a590818e899e8190065e02501284140dbb5c505a0e8aa0500"))
    assert (record.decision.request_id, record.decision.gateway_version, record.decision.chain) == (
        "req_9",
        "0.4.0",
        "spare",
    )


def test_defaults_are_not_written() -> None:
    plain = Block(Strategy.PRIORITY, (Step("p/m", Option("p/m", "p", "m", (account(1),))),))
    document = json.loads(Encoded().ground(plain, AccountRules()))
    assert document["block"][0] == {"strategy": "priority", "steps": []}
    assert document["options"] == [[{"name": "p/m", "provider": "p", "model": "m"}, 0]]
    assert document["accounts"] == [
        {"id": "conn_001", "provider": "p", "auth": "apikey", "rest_scope": "connection:conn_001"}
    ]
    assert "rules" not in document
    assert ground_from(msgspec.json.encode(document)).block.config == DEFAULTS
