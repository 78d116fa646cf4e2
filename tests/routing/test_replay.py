from __future__ import annotations

import dataclasses
import time
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniroute.routing.decision import record_from
from omniroute.routing.options import Strategy
from omniroute.routing.packing import Packer, Reader
from omniroute.routing.planning import plan
from omniroute.routing.recorder import Recorder
from omniroute.routing.replay import is_replayable, redecide, verify
from tests.routing.worlds import finished, recorded, world

RECORDS = 10_000
WITHIN_S = 30.0


@settings(max_examples=300)
@given(st.randoms(use_true_random=False))
def test_every_record_is_decided_again_bit_for_bit(rng: Random) -> None:
    one = world(rng)
    record = Reader().read(Packer().pack(recorded(one).body))
    assert verify(record) is None
    made, again = plan(one.block, one.asked()), redecide(record)
    assert again.entries == made.entries
    assert again.exclusions == made.exclusions


def test_ten_thousand_records_are_decided_again_within_half_a_minute() -> None:
    recorder, packer, reader = Recorder(gateway_version="1"), Packer(), Reader()
    strategies = set()
    spent = 0.0
    for number in range(RECORDS):
        one = world(Random(number))
        strategies.add(one.block.strategy)
        stored = packer.pack(recorded(one, recorder).body)
        began = time.process_time()
        assert verify(reader.read(stored)) is None
        spent += time.process_time() - began
    assert strategies == set(Strategy)
    assert spent < WITHIN_S


def test_the_plan_of_a_chain_is_decided_again_as_well() -> None:
    one, chain = world(Random(1)), world(Random(2))
    asked = one.asked()
    made = plan(one.block, asked)
    draft = Recorder(gateway_version="1").begin("req_1", one.block, asked, made)
    chain = dataclasses.replace(chain, features=one.features, seed=one.seed ^ 5)
    asked = chain.asked()
    draft.chain("spare", chain.block, asked, plan(chain.block, asked))
    record = record_from(finished(draft, made).body)
    assert [planned.ground for planned in record.decision.rounds] == [0, 1]
    assert record.decision.chain == "spare"
    assert verify(record) is None
    assert redecide(record, 1).entries == plan(chain.block, chain.asked()).entries


def test_a_plan_that_differs_is_told() -> None:
    number = next(n for n in range(99) if len(plan((w := world(Random(n))).block, w.asked()).entries) > 1)
    record = record_from(recorded(world(Random(number))).body)
    planned = record.decision.rounds[0]
    turned = msgspec.structs.replace(planned.outline, places=planned.outline.places[::-1])
    changed = msgspec.structs.replace(
        record.decision, rounds=[msgspec.structs.replace(planned, outline=turned)], gateway_version="0.9.0"
    )
    mismatch = verify(dataclasses.replace(record, decision=changed))
    assert mismatch is not None
    assert (mismatch.request_id, mismatch.difference, mismatch.gateway_version) == ("req_1", "order", "0.9.0")
    assert mismatch.recorded.places == mismatch.decided.places[::-1]


def test_another_seed_can_give_another_plan() -> None:
    one = next(
        w
        for n in range(500)
        if (w := world(Random(n))).block.strategy is Strategy.RANDOM and len(plan(w.block, w.asked()).entries) > 2
    )
    record = record_from(recorded(one).body)
    planned = record.decision.rounds[0]
    differing = 0
    for seed in range(20):
        reseeded = msgspec.structs.replace(record.decision, rounds=[msgspec.structs.replace(planned, seed=seed)])
        differing += verify(dataclasses.replace(record, decision=reseeded)) is not None
    assert differing > 5


def test_a_record_without_its_ground_cannot_be_decided_again() -> None:
    record = record_from(recorded(world(Random(4))).body)
    assert is_replayable(record)
    planned = msgspec.structs.replace(record.decision.rounds[0], ground=None)
    record = dataclasses.replace(record, decision=msgspec.structs.replace(record.decision, rounds=[planned]))
    assert not is_replayable(record)
    with pytest.raises(ValueError, match="too large"):
        verify(record)
