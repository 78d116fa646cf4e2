"""What model names mean."""

from __future__ import annotations

import pytest

from omniroute.providers.sandbox.models import LISTED, Behaviour, Kind, parse_model


@pytest.mark.parametrize(
    ("name", "behaviour"),
    [
        ("echo", Behaviour(Kind.ECHO)),
        ("sandbox/echo", Behaviour(Kind.ECHO)),
        ("story", Behaviour(Kind.STORY)),
        ("story-200", Behaviour(Kind.STORY, (200,))),
        ("story-200-5-32", Behaviour(Kind.STORY, (200, 5, 32))),
        ("slow-500", Behaviour(Kind.SLOW, (500,))),
        ("fail-429", Behaviour(Kind.FAIL, (429,))),
        ("fail-429-30", Behaviour(Kind.FAIL, (429, 30))),
        ("cut-0", Behaviour(Kind.CUT, (0,))),
        ("hang-3", Behaviour(Kind.HANG, (3,))),
    ],
)
def test_name_is_read(name: str, behaviour: Behaviour) -> None:
    assert parse_model(name) == behaviour


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpt-5",
        "Echo",
        "echo-1",
        "echo ",
        "story-",
        "story-0",
        "story--5",
        "story-1-2-3-4",
        "slow-x",
        "slow-99999999",
        "fail",
        "fail-200",
        "fail-399",
        "fail-600",
        "garbage-1",
        "../echo",
        "sandbox/sandbox/echo",
    ],
)
def test_name_is_unknown(name: str) -> None:
    assert parse_model(name) is None


def test_every_kind_is_listed_and_every_listed_model_exists() -> None:
    kinds = {behaviour.kind for model in LISTED if (behaviour := parse_model(model.id)) is not None}
    assert kinds == set(Kind)
    assert all(parse_model(model.id) for model in LISTED)
