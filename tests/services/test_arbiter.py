"""Restart and stop reach the process that owns the workers, and no other."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from omniroute.errors import Conflict
from omniroute.services.arbiter import Arbiter
from omniroute.services.keys import SYSTEM
from tests.harness import Gateway


def make(gateway: Gateway, runtime: Path, parent: int = 42) -> tuple[Arbiter, list[tuple[int, int]]]:
    sent: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        assert gateway.audited(), "told before it is done"
        sent.append((pid, number))

    return Arbiter(runtime=runtime, audit=gateway.audit, parent=lambda: parent, kill=kill), sent


def test_signals_go_to_the_parent_that_left_its_id(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(json.dumps({"pid": 42, "address": "x"}))
    arbiter, sent = make(gateway, tmp_path)
    arbiter.restart(SYSTEM)
    arbiter.stop(SYSTEM)
    assert sent == [(42, signal.SIGHUP), (42, signal.SIGTERM)]
    assert [entry.action for entry in gateway.audited()][-2:] == ["server.restarted", "server.stopped"]


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "{}", '{"pid":"42"}', '{"pid":41}', '{"pid":0}', '{"pid":-42}']
)
def test_no_other_process_is_signalled(gateway: Gateway, tmp_path: Path, content: Any) -> None:
    if content is not None:
        (tmp_path / "server.json").write_text(content)
    arbiter, sent = make(gateway, tmp_path)
    for order in (arbiter.restart, arbiter.stop):
        with pytest.raises(Conflict) as refused:
            order(SYSTEM)
        assert refused.value.error_code == "not_supported"
    assert sent == []
    assert gateway.audited() == []
