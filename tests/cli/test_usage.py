"""`omniroute usage` and `omniroute cost`: here, and against a server elsewhere."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniroute.cli import Exit
from omniroute.records import RequestRecord
from omniroute.storage.database import Database
from omniroute.storage.log_writer import LogWriter
from tests.cli.conftest import Both, Remote, Run, connected_server, document
from tests.e2e.processes import wait_until


@pytest.fixture(scope="module")
def _connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A server of this module's own: the requests that it sends would show in the sums of others."""
    with connected_server(tmp_path_factory.mktemp("own")) as made:
        yield made


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
            assert document["totals"]["requests"] == 4
            assert sum(row["requests"] for row in document["usage"]) == (0 if by == "combo" else 4)

    def test_one_key_by_its_name(self, run: Run) -> None:
        document = json.loads(run("usage", "--key", "laptop", "--by", "key", "--json").stdout)
        assert [(row["name"], row["requests"]) for row in document["usage"]] == [("laptop", 3)]
        assert json.loads(run("usage", "--key", "local", "--json").stdout)["totals"]["requests"] == 1

    def test_a_key_that_is_none(self, run: Run) -> None:
        result = run("usage", "--key", "nobody")
        assert result.exit_code == Exit.MISUSE
        assert "no API key with the id or name 'nobody'" in result.stderr

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
            total = document["totals"]
            assert (total["billedUsd"], total["subscriptionUsd"]) == (1.750000001, 2.0)
            assert (document["period"], total["unpricedRequests"]) == (period, 1)
            assert document["monthBilledUsd"] == 1.750000001
            assert document["forecastUsd"] is None or document["forecastUsd"] >= 1.75

    def test_divisions_add_up(self, run: Run) -> None:
        for by in ("model", "provider", "key", "day"):
            document = json.loads(run("cost", "--by", by, "--json").stdout)
            assert sum(row["unpricedRequests"] for row in document["groups"]) == 1
            assert sum(row["subscriptionUsd"] for row in document["groups"]) == 2.0

    def test_a_table(self, run: Run) -> None:
        lines = run("cost", "--by", "provider").stdout.splitlines()
        assert lines[0].split()[:4] == ["Group", "Billed", "Subscription", "value"]
        assert lines[1].split()[:5] == ["claude", "1.750000001", "2.00", "1", "3.750000001"]
        assert lines[2].split()[0] == "total"


def test_nothing_was_used_yet(run: Run) -> None:
    assert run("usage").stdout.splitlines()[-1].split()[:2] == ["total", "0"]
    assert json.loads(run("cost", "--json").stdout)["totals"]["billedUsd"] == 0.0


INVOICE = "request_id,date,model,cost,currency\n"


@pytest.mark.usefixtures("used")
class TestReconcile:
    def invoice(self, home: Path, *lines: str) -> str:
        (home / "bill.csv").write_text(INVOICE + "".join(f"{line}\n" for line in lines))
        return "bill.csv"

    def test_a_bill_that_agrees(self, run: Run, home: Path) -> None:
        today = time.strftime("%Y-%m-%d", time.gmtime())
        bill = self.invoice(home, f"req_0,{today},opus-0,1.50,USD", f"req_1,{today},opus-0,0.25,USD")
        result = run("cost", "reconcile", "--invoice", bill, "--tolerance", "5", "--provider", "claude", "--json")
        found = json.loads(result.stdout)
        assert (found["toleranceUsd"], found["comparedBy"]) == ("5.000000000", "day")
        assert found["totals"]["invoice"]["usd"] == "1.750000000"
        assert (found["isEqual"], result.exit_code) == (True, Exit.DONE), found

    def test_a_bill_that_does_not(self, run: Run, home: Path) -> None:
        today = time.strftime("%Y-%m-%d", time.gmtime())
        result = run("cost", "reconcile", "--invoice", self.invoice(home, f"req_0,{today},opus-0,9.00,USD"))
        assert (result.exit_code, "They do not agree." in result.stderr) == (Exit.FAILED, True)
        assert result.stdout.splitlines()[0].split() == ["Found", "Request", "Invoice", "Log", "Difference", "Why"]
        assert "req_0" in result.stdout

    def test_what_cannot_be_compared(self, run: Run, home: Path) -> None:
        for text in ("a,b\n1,2\n", INVOICE, "request_id,cost,currency\nx,1.00,EUR\n"):
            (home / "bill.csv").write_text(text)
            result = run("cost", "reconcile", "--invoice", "bill.csv")
            assert (result.exit_code, result.stdout) == (Exit.MISUSE, "")
            assert result.stderr.startswith("Error: ")
        bill = self.invoice(home, "req_0,2027-01-15,opus-0,1.50,USD")
        for more in (
            ("--provider", "nobody"),
            ("--since", "sometime"),
            ("--tolerance", "-1"),
            ("--until", "2020-01-01"),
        ):
            assert run("cost", "reconcile", "--invoice", bill, *more).exit_code == Exit.MISUSE


def without_now(text: str) -> str:
    """Leave out what is another in each second: the end of a range, and the forecast."""
    text = re.sub(r'"(end|forecastUsd)": [^,\n]+', r'"\1": 0', text)
    return re.sub(r"(?m)^(total .*?)\S+$", r"\1", text)


def test_elsewhere_as_here(both: Both, remote: Remote, home: Path) -> None:
    remote("pricing", "set", "sandbox/echo", "--input", "1000", "--output", "1000")
    assert remote.ask("sandbox/echo").status_code == 200
    wait_until(
        lambda: document(remote("usage", "--json"))["totals"]["requests"], within_s=15, what="the request is counted"
    )
    for arguments in (("usage",), ("usage", "--json"), ("usage", "--by", "key", "--range", "24h", "-o", "csv")):
        assert "echo" in both(*arguments, without=without_now).stdout or "--by" in arguments
    for more in ((), ("--by", "day", "--json"), ("--by", "provider", "-o", "jsonl")):
        assert both("cost", *more, without=without_now).exit_code == Exit.DONE
    today = time.strftime("%Y-%m-%d", time.gmtime())
    (home / "bill.csv").write_text(f"{INVOICE}none,{today},echo,9.00,USD\n")
    result = both("cost", "reconcile", "--invoice", str(home / "bill.csv"), "--json")
    assert (result.exit_code, json.loads(result.stdout)["isEqual"]) == (Exit.FAILED, False)
    assert both("usage", "--key", "nobody").exit_code == Exit.MISUSE
