from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text

from omniroute.runtime.leadership import Leadership
from omniroute.storage.database import Database

ROOT = Path(__file__).parents[2]


def candidate(url: str, runtime: Path) -> subprocess.Popen[str]:
    code = f"""
        from pathlib import Path
        import time
        from omniroute.runtime.leadership import Leadership
        from omniroute.storage.database import Database
        won = lambda: print("won", flush=True)
        standing = Leadership(Database({url!r}), Path({str(runtime)!r}), on_won=won, interval_s=0.05)
        standing.start()
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_one_of_several_leads_and_hands_over(opened: Callable[[], Database], tmp_path: Path) -> None:
    events: list[str] = []
    first, second = (
        Leadership(
            opened(),
            tmp_path / "runtime",
            on_won=lambda name=name: events.append(f"{name} won"),  # type: ignore[misc]
            on_lost=lambda name=name: events.append(f"{name} lost"),  # type: ignore[misc]
        )
        for name in ("first", "second")
    )
    assert first.try_to_lead()
    assert first.try_to_lead()
    assert not second.try_to_lead()
    assert (first.is_leader, second.is_leader) == (True, False)
    first.stop()
    assert second.try_to_lead()
    second.stop()
    assert events == ["first won", "first lost", "second won", "second lost"]


def test_another_process_takes_over_when_the_leader_is_killed(
    url: str, opened: Callable[[], Database], tmp_path: Path
) -> None:
    leader = candidate(url, tmp_path / "runtime")
    assert leader.stdout is not None
    assert leader.stdout.readline() == "won\n"
    here = Leadership(opened(), tmp_path / "runtime")
    assert not here.try_to_lead()
    os.kill(leader.pid, signal.SIGKILL)
    leader.communicate()
    deadline = time.monotonic() + 5
    while not here.try_to_lead():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    here.stop()


def test_a_leader_whose_lock_file_is_gone_steps_down(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'storage.sqlite'}")
    lost: list[bool] = []
    leader = Leadership(database, tmp_path / "runtime", on_lost=lambda: lost.append(True))
    assert leader.try_to_lead()
    (tmp_path / "runtime" / "scheduler.lock").unlink()
    assert not leader.try_to_lead()
    assert lost == [True]
    assert leader.try_to_lead(), "and may stand again"
    leader.stop()


def test_a_leader_whose_session_was_ended_steps_down(opened: Callable[[], Database], url: str, tmp_path: Path) -> None:
    database = opened()
    leader = Leadership(database, tmp_path / "runtime")
    assert leader.try_to_lead()
    if not database.is_sqlite:
        end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        opened().write(lambda sql: sql.execute(text(end)))
        leader._lock._pinged_at = 0.0  # type: ignore[attr-defined]
        assert not leader.try_to_lead()
        assert leader.try_to_lead()
    leader.stop()
    assert not leader.is_leader


def test_a_started_candidate_leads_until_it_is_stopped(opened: Callable[[], Database], tmp_path: Path) -> None:
    leader = Leadership(opened(), tmp_path / "runtime", interval_s=0.01)
    leader.start()
    deadline = time.monotonic() + 10
    while not leader.is_leader:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    leader.stop()
    assert not leader.is_leader


def test_without_a_database_nobody_leads(tmp_path: Path) -> None:
    leader = Leadership(Database(f"postgresql:///gone?host={tmp_path}"), tmp_path / "runtime")
    assert not leader.try_to_lead()
