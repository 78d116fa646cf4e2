"""How records are stored: what comes back, in this form and in the one before."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec import structs

from omniroute.routing.asked import AccountRules, Asked, Chance
from omniroute.routing.decision import VERSION, Ground, body_of, parts_of, record_from, written_out
from omniroute.routing.decision_document import document
from omniroute.routing.options import Block, Features, Step, Strategy
from omniroute.routing.packing import Packer, Reader
from omniroute.routing.planning import plan
from omniroute.routing.prepared import prepare
from omniroute.routing.recorder import Noted, Recorder
from omniroute.routing.replay import verify
from omniroute.routing.view import Binding
from tests.routing import worlds
from tests.routing.blocks import account, block, option
from tests.routing.test_prepared import Telling

OLD: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "decisions" / "form_1.json").read_text(encoding="utf-8")
)
"""A record as it was stored in the first form, its body, and the document that was shown of it."""


def listed(*, session: str | None = None) -> bytes:
    """The body of a plan that follows the list of its block, but for one account."""
    two = tuple(account(name, provider="p") for name in ("p-1", "p-2"))
    combo = block(Strategy.PRIORITY, [option("p", accounts=two, has_prompt_cache=True), option("q")])
    noted = Noted(Telling(bindings={("s", "p"): Binding("p-2")}))
    asked = Asked(Features(session=session), noted, worlds.NOW, Chance(3))
    made = plan(combo, asked, prepare(combo, asked.rules))
    draft = Recorder(gateway_version="1").begin("req_1", combo, asked, made)
    return draft.finish(worlds.settled(), target="p/m", is_committed=True).body


def test_records_of_the_form_before_are_read_shown_and_decided_again_as_ever() -> None:
    stored = base64.b64decode(OLD["stored"])
    assert stored[0] == 1
    record = Reader().read(stored)
    assert json.loads(json.dumps(document(record))) == OLD["document"]
    assert verify(record) is None
    assert record == record_from(OLD["body"].encode())


def test_bodies_that_an_older_worker_has_spooled_are_stored() -> None:
    body = OLD["body"].encode()
    packer = Packer()
    first, second = packer.pack(body), packer.pack(body)
    assert first == second
    assert Reader().read(first) == record_from(body)


def test_the_same_ground_is_stored_the_same_whether_it_is_known_or_not() -> None:
    known = Packer()
    for number in range(40):
        body = worlds.recorded(worlds.world(Random(number))).body
        assert known.pack(body) == known.pack(body) == Packer().pack(body)
        assert Reader().read(known.pack(body)) == record_from(body)


def test_a_body_with_two_grounds_is_not_taken_for_one_that_ends_like_it() -> None:
    plain = worlds.recorded(worlds.world(Random(3))).body
    other = worlds.recorded(worlds.world(Random(4))).body
    decision, [ground] = parts_of(plain)
    _, [another] = parts_of(other)
    packer = Packer()
    packer.pack(plain)
    both = body_of(decision, [another, ground])
    assert Reader().read(packer.pack(both)) == record_from(both)
    assert len(Reader().read(packer.pack(both)).grounds) == 2


@pytest.mark.parametrize("session", [None, "s"])
def test_what_follows_the_list_is_written_out_when_it_is_read(session: str | None) -> None:
    body = listed(session=session)
    assert b'"is_listed":true' in body
    assert b'"places"' not in body
    [planned] = record_from(body).decision.rounds
    order = ["p-2", "p-1"] if session else ["p-1", "p-2"]
    assert [(place.option, place.accounts) for place in planned.outline.places] == [("p/m", order), ("q/m", ["q"])]
    assert (planned.outline.is_listed, planned.outline.moved) == (False, [])
    assert Reader().read(Packer().pack(body)) == record_from(body)
    assert record_from(body).decision.v == VERSION


def test_a_list_without_its_ground_is_damage() -> None:
    decision, [ground] = parts_of(listed())
    with pytest.raises(ValueError, match="lost its ground"):
        record_from(body_of(decision, []))
    whole = msgspec.json.decode(decision, type=type(record_from(listed()).decision))
    nested = Ground(Block(Strategy.PRIORITY, (Step("s"),)), AccountRules())
    with pytest.raises(ValueError, match="another ground"):
        written_out(whole, (nested,))
    groundless = structs.replace(whole, rounds=[structs.replace(whole.rounds[0], ground=None)])
    with pytest.raises(ValueError, match="lost its ground"):
        written_out(groundless, (nested,))
    assert record_from(body_of(decision, [ground])).decision.rounds[0].outline.places
