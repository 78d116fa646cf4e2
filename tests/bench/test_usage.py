"""The year of usage that the benchmark asks about: its shape, and that every question can be asked."""

from __future__ import annotations

import time
from pathlib import Path

from omnibench import usage_world
from omnibench.parts.usage import questions
from omnibench.usage_world import KEYS, RARE_MODEL, World
from omniroute.settings import Settings
from omniroute.storage.repositories import request_log, usage
from tests.blueprints.app import whole_app

ROWS = 3000


def test_every_question_is_answered(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, instance_name="test", app_log_to_file=False, call_log_max_rows=10**6, scheduler="off"
    )
    with whole_app(settings) as app:
        keys = tuple(app.admin.post("/api/keys", json={"name": f"team {n}"}).get_json()["id"] for n in range(KEYS))
        world = World(ROWS, time.time(), keys)
        usage_world.fill(app.own.database, world)
        found = {}
        for question in questions(world):
            answer = app.admin.get(question.path)
            assert answer.status_code == 200, question
            assert answer.get_data()
            found[question.title] = answer
        assert found["logs: newest page"].get_json()["total"] == ROWS
        assert found["logs: a model of long ago"].get_json()["total"] > 0
        assert found["analytics: all"].get_json()["totals"]["requests"] == ROWS
        year = found["analytics: 365d"].get_json()
        assert sum(point["requests"] for point in year["series"]) == year["totals"]["requests"]


def test_a_world_is_the_same_each_time_and_many_sided() -> None:
    world = World(2000, 1.8e9)
    rows = list(usage_world._rows(world))
    assert rows == list(usage_world._rows(world))
    at = request_log.POSITIONS
    assert len({row[at["request_id"]] for row in rows}) == 2000
    assert len({row[at["api_key_id"]] for row in rows}) == KEYS
    assert {row[at["outcome"]] for row in rows} == {"success", "failed", "cancelled"}
    assert {row[at["cost_kind"]] for row in rows} == {"billed", "subscription", "unpriced"}
    assert RARE_MODEL in {row[at["model"]] for row in rows}
    assert [row[at["time"]] for row in rows] == sorted(row[at["time"]] for row in rows)
    assert usage.DAY_S == usage_world.DAY_S
