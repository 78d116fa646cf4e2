"""`omniroute simulate`, `explain` and `replay`: here, and against a server elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from omniroute.cli import Exit
from omniroute.records import RequestRecord
from omniroute.storage.database import Database
from omniroute.storage.log_writer import LogWriter
from tests.cli.conftest import Both, Remote, Run, connected_server
from tests.e2e.processes import wait_until
from tests.goldens import Golden
from tests.routing.worlds import recorded, settled, world


@pytest.fixture(scope="module")
def _connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A server of this module's own: the requests that it sends would show in the sums of others."""
    with connected_server(tmp_path_factory.mktemp("own")) as made:
        yield made


@pytest.fixture
def served(run: Run, home: Path) -> list[str]:
    """Requests that this installation has served."""
    assert run("keys", "create", "laptop").exit_code == Exit.DONE  # the first command creates the database
    database = Database(f"sqlite:///{home / 'data' / 'storage.sqlite'}")
    writer = LogWriter(database, home / "data" / "spool")
    for number in range(5):
        request: RequestRecord = settled(request_id=f"req_{number}", requested_model=f"model_{number}")
        request.decision = recorded(world(Random(number)), request_id=request.request_id)
        writer.put(request)
    writer.flush()
    writer.stop()
    database.dispose()
    return [f"req_{number}" for number in range(5)]


class TestSimulate:
    def test_a_table(self, run: Run, home: Path) -> None:
        result = run("simulate", "sandbox/echo")
        assert result.exit_code == Exit.DONE
        head, row = result.stdout.splitlines()
        assert head.split()[:5] == ["Order", "Model", "Provider", "Connection", "Eligible"]
        assert row.split()[:5] == ["1", "sandbox/echo", "sandbox", "sandbox", "yes"]
        assert "strategy priority" in result.stderr

    def test_json(self, run: Run, home: Path) -> None:
        (home / "prompt.txt").write_text("Write a story. " * 500, encoding="utf-8")
        result = run("simulate", "auto", "--tools", "--prompt-file", "prompt.txt", "--session", "mine", "--json")
        document = json.loads(result.stdout)
        assert document["resolved"]["kind"] == "channel"
        assert {row["reason"] for row in document["path"] if not row["eligible"]} <= {"capability:tools"}
        assert any(row["eligible"] for row in document["path"])

    def test_elsewhere_as_here(self, both: Both, remote: Remote, golden: Golden, home: Path) -> None:
        remote("combos", "create", "fast", "sandbox/story", "sandbox/echo")
        (home / "prompt.txt").write_text("Write a story. " * 500, encoding="utf-8")

        def unmeasured(text: str) -> str:
            return re.sub(r'"estLatencyMs": [^,\n]+', '"estLatencyMs": null', text)

        found = both("simulate", "fast", "--prompt-file", str(home / "prompt.txt"), "--json", without=unmeasured)
        golden.check_text("cli/simulate.json", unmeasured(found.stdout))
        assert "strategy priority" in remote("simulate", "fast", "--tools", "--vision").stderr
        assert both("simulate", "nobody/nothing").exit_code == Exit.MISUSE

    def test_what_a_key_may_not_use_is_refused(self, run: Run, home: Path) -> None:
        run("keys", "create", "narrow", "--models", "groq/*")
        refused = run("simulate", "sandbox/echo", "--key", "narrow")
        assert refused.exit_code == Exit.NOT_ALLOWED
        assert run("simulate", "sandbox/echo", "--key", "nobody").exit_code == Exit.MISUSE

    def test_nobody_could_serve(self, run: Run, home: Path) -> None:
        assert run("simulate", "nobody/nothing").exit_code == Exit.MISUSE

    def test_misuse(self, run: Run, home: Path) -> None:
        (home / "prompt.txt").write_bytes(b"\xff\xfe")
        assert run("simulate", "sandbox/echo", "--prompt-file", "prompt.txt").exit_code == Exit.MISUSE
        both = run("simulate", "sandbox/echo", "--prompt-file", "prompt.txt", "--tokens", "5")
        assert both.exit_code == Exit.MISUSE


class TestExplain:
    def test_in_words_and_as_a_document(self, run: Run, served: list[str]) -> None:
        result = run("explain", served[2])
        assert result.exit_code == Exit.DONE
        assert result.stdout.startswith(f"Request {served[2]}, ")
        document = json.loads(run("explain", served[2], "--json").stdout)
        assert document["requestId"] == served[2]

    def test_an_unknown_request(self, run: Run, home: Path) -> None:
        result = run("explain", "req_none")
        assert result.exit_code == Exit.MISUSE
        assert "no decision record" in result.stderr
        assert run("explain", "../../keys").exit_code == Exit.MISUSE

    def test_elsewhere_as_here(self, both: Both, remote: Remote) -> None:
        answer = remote.ask("sandbox/echo")
        request_id = answer.headers["X-OmniRoute-Request-Id"]
        wait_until(lambda: remote("explain", request_id).exit_code == Exit.DONE, within_s=15, what="it is recorded")
        assert both("explain", request_id).stdout.startswith(f"Request {request_id}, ")
        assert json.loads(both("explain", request_id, "--json").stdout)["requestId"] == request_id
        assert both("replay", "--since", "1h", "--verify").exit_code == Exit.DONE
        assert json.loads(both("replay", "--since", "1h", "--model", "sandbox/echo", "--json").stdout)["requests"] >= 1
        assert both("explain", "req_none").exit_code == Exit.MISUSE


class TestReplay:
    def test_nothing_differs(self, run: Run, served: list[str]) -> None:
        result = run("replay", "--since", "2020-01-01", "--verify")
        assert result.exit_code == Exit.DONE
        assert result.stdout.startswith("5 requests, 5 decided alike")
        assert "Decided again: 5 alike, 0 not, 0 cannot be." in result.stdout

    def test_another_policy(self, run: Run, served: list[str], home: Path) -> None:
        policy = {"strategy": "random", "combos": [{"name": "name combo_0", "models": ["sandbox/echo"]}]}
        (home / "draft.json").write_text(json.dumps(policy), encoding="utf-8")
        result = run("replay", "--since", "2020-01-01", "--policy", "draft.json", "--json")
        comparison = json.loads(result.stdout)
        assert comparison["requests"] == comparison["changedHead"] == 5
        assert {one["after"]["target"] for one in comparison["samples"] if one["after"]} == {"sandbox/echo"}
        table = run("replay", "--since", "2020-01-01", "--policy", "draft.json")
        assert "sandbox/echo (sandbox)" in table.stdout

    def test_a_range_and_a_model(self, run: Run, served: list[str]) -> None:
        assert run("replay", "--since", "2020-01-01", "--until", "2020-02-01").stdout.startswith("0 requests")
        assert run("replay", "--since", "2020-01-01", "--model", "model_3").stdout.startswith("1 requests")

    @pytest.mark.parametrize(
        ("policy", "word"),
        [("{", "draft.json, line 1"), ("[]", "must be a JSON object"), ('{"strategy": "x"}', "strategy")],
    )
    def test_a_policy_that_is_none(self, remote: Remote, home: Path, policy: str, word: str) -> None:
        (home / "draft.json").write_text(policy, encoding="utf-8")
        result = remote("replay", "--policy", "draft.json")
        assert (result.exit_code, result.stdout) == (Exit.MISUSE, "")
        assert word in result.stderr

    @pytest.mark.parametrize("since", ["yesterday", "24", "h", "9999999999d"])
    def test_a_time_that_is_none(self, remote: Remote, since: str) -> None:
        result = remote("replay", "--since", since)
        assert result.exit_code == Exit.MISUSE
        assert "neither a length such as 24h" in result.stderr
