"""When a worker counts as busy, which of the server's reports are kept, and whose files are taken back."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest

from omniroute.runtime import lifecycle


def life(*, runs: int = 0, in_progress: int | None = None) -> lifecycle.WorkerLife:
    inference = SimpleNamespace(runs=dict.fromkeys(range(runs)))
    worker = None if in_progress is None else SimpleNamespace(in_progress=in_progress)
    return lifecycle.WorkerLife(cast("Any", SimpleNamespace(inference=inference)), worker)


@pytest.mark.parametrize(
    ("made", "is_busy"),
    [
        (life(), False),
        (life(runs=1), True),
        (life(in_progress=0), False),
        (life(in_progress=1), True),
        (lifecycle.WorkerLife(life().container, SimpleNamespace()), False),
    ],
)
def test_a_worker_is_busy_while_any_request_is_in_progress(made: lifecycle.WorkerLife, is_busy: bool) -> None:
    assert lifecycle._is_busy(made) is is_busy


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [(gevent.GreenletExit(), False), (TimeoutError("timed out"), False), (ValueError(), True), (None, True)],
)
def test_reports_of_handlers_that_are_not_in_error_are_left_out(error: BaseException | None, is_kept: bool) -> None:
    trace: Any = None
    if error is not None:
        try:
            raise error
        except BaseException:  # noqa: BLE001 -- a GreenletExit is one
            trace = sys.exc_info()
    record = logging.LogRecord("gunicorn.error", logging.ERROR, "f", 1, "Socket error", (), trace)
    assert lifecycle._is_no_drained_handler(record) is is_kept


@pytest.mark.parametrize("is_ours", [True, False])
def test_farewell_takes_back_only_what_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ours: bool) -> None:
    pid = os.getpid() if is_ours else 1
    facts = tmp_path / "server.json"
    facts.write_text(json.dumps({"pid": pid}))
    (tmp_path / "server.pid").write_text("1\n")
    monkeypatch.setattr(lifecycle, "_announced", facts)
    lifecycle.farewell()
    assert facts.exists() is not is_ours
    assert (tmp_path / "server.pid").exists() is not is_ours


def test_a_recycled_workers_place_is_taken_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "recycled-5").touch()
    monkeypatch.setattr(lifecycle, "_data_dir", tmp_path)
    server = SimpleNamespace(num_workers=3)
    for pid in (4, 5, 5):
        lifecycle.forget_recycled(server, pid)
    assert server.num_workers == 2
