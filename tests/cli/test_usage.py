"""`omniroute usage` and `omniroute cost` on a real installation."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

import pytest

from omniroute.cli import Exit
from omniroute.records import RequestRecord
from omniroute.storage.database import Database
from omniroute.storage.log_writer import LogWriter
from tests.cli.conftest import Run


@pytest.fixture
def used(run: Run, home: Path) -> None:
    """An installation that has served some requests, all within this hour."""
    assert run("keys", "create", "laptop").exit_code == Exit.DONE
    key_id = json.loads(run("keys", "list", "--json").stdout)["keys"][0]["id"]
    database = Database(f"sqlite:///{home / 'data' / 'storage.sqlite'}")
    writer = LogWriter(database, home / "data" / "spool")
    for number, (kind, cost) in enumerate(
        [("billed", 1_500_000_000), ("billed", 250_000_001), ("subscription", 2_000_000_000), ("unpriced", None)]
    ):
        writer.put(
            RequestRecord(
                f"req_{number}",
                time.time(),
                "/v1/messages",
                "anthropic_messages",
                "opus",
                status=200,
                outcome="failed" if number == 1 else "success",
                provider="claude",
                model=f"opus-{number // 2}",
                api_key_id=key_id if number else "local",
                tokens_in=1000,
                tokens_out=100,
                cache_read=600,
                cost_nano_usd=cost,
                cost_kind=kind,
            )
        )
    writer.flush()
    writer.stop()
    database.dispose()


@pytest.mark.usefixtures("used")
class TestUsage:
    def test_a_table_by_model(self, run: Run) -> None:
        lines = run("usage").stdout.splitlines()
        assert lines[0].split() == ["Group", "Requests", "Success", "In", "Out", "Cache", "Cost"]
        assert lines[1].split() == ["claude/opus-0", "2", "50.0", "%", "2000", "200", "1200", "1.750000001"]
        assert lines[-1].split()[:2] == ["total", "4"]

    def test_each_division_adds_up(self, run: Run) -> None:
        for by in ("model", "provider", "key", "combo", "day"):
            document = json.loads(run("usage", "--by", by, "--range", "30d", "--json").stdout)
            assert document["total"]["requests"] == 4
            assert sum(row["requests"] for row in document["usage"]) == (0 if by == "combo" else 4)

    def test_one_key_by_its_name(self, run: Run) -> None:
        document = json.loads(run("usage", "--key", "laptop", "--by", "key", "--json").stdout)
        assert [(row["group"], row["requests"]) for row in document["usage"]] == [("laptop", 3)]
        assert json.loads(run("usage", "--key", "local", "--json").stdout)["total"]["requests"] == 1

    def test_a_key_that_is_none(self, run: Run) -> None:
        result = run("usage", "--key", "nobody")
        assert result.exit_code == Exit.MISUSE
        assert "no API key 'nobody'" in result.stderr

    def test_csv(self, run: Run) -> None:
        rows = list(csv.DictReader(io.StringIO(run("usage", "--range", "24h", "-o", "csv").stdout)))
        assert [row["requests"] for row in rows] == ["2", "2", "4"]

    def test_an_unknown_range(self, run: Run) -> None:
        assert run("usage", "--range", "2d").exit_code == Exit.MISUSE


@pytest.mark.usefixtures("used")
class TestCost:
    def test_what_is_billed_stands_apart(self, run: Run) -> None:
        for period in ("today", "7d", "30d", "month"):
            document = json.loads(run("cost", "--period", period, "--json").stdout)
            total = document["total"]
            assert (total["billedUsd"], total["subscriptionUsd"], total["totalUsd"]) == (1.750000001, 2.0, 3.750000001)
            assert total["unpricedRequests"] == 1
            assert document["monthBilledUsd"] == 1.750000001
            assert total["forecastUsd"] is None or total["forecastUsd"] >= 1.75

    def test_divisions_add_up(self, run: Run) -> None:
        for by in ("model", "provider", "key", "day"):
            document = json.loads(run("cost", "--by", by, "--json").stdout)
            assert sum(row["unpricedRequests"] for row in document["groups"]) == 1
            assert sum(row["subscriptionUsd"] for row in document["groups"]) == 2.0

    def test_a_table(self, run: Run) -> None:
        lines = run("cost", "--by", "provider").stdout.splitlines()
        assert lines[0].split()[:4] == ["Group", "Billed", "Subscription", "value"]
        assert lines[1].split()[:5] == ["claude", "1.750000001", "2.0", "1", "3.750000001"]
        assert lines[2].split()[0] == "total"


def test_nothing_was_used_yet(run: Run) -> None:
    assert run("usage").stdout.splitlines()[-1].split()[:2] == ["total", "0"]
    assert json.loads(run("cost", "--json").stdout)["total"]["billedUsd"] == 0.0
