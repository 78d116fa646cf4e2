"""A server that is told to begin anew: what new workers serve, and what the old ones are told."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from omniroute.errors import ConfigurationError
from omniroute.runtime import lifecycle


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "runtime").mkdir()
    monkeypatch.setattr(lifecycle, "_data_dir", tmp_path)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    return SimpleNamespace(WORKERS={7: None, 8: None}, num_workers=2, app=SimpleNamespace(callable="the old one"))


def markers(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "runtime").iterdir())


def test_new_workers_serve_a_new_application(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omniroute.create_app", lambda: "the new one")
    lifecycle.rebuild(server)
    assert server.app.callable == "the new one"
    assert markers(tmp_path) == ["replaced-7", "replaced-8"]
    lifecycle.forget_recycled(server, 7)
    assert markers(tmp_path) == ["replaced-8"]
    assert server.num_workers == 2, "it was no extra worker"


def test_what_cannot_be_built_replaces_nothing(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ConfigurationError("OMNIROUTE_PORT must be a number.")

    monkeypatch.setattr("omniroute.create_app", fail)
    lifecycle.rebuild(server)
    assert server.app.callable == "the old one"
    assert markers(tmp_path) == ["replaced-7", "replaced-8"]
    assert "OMNIROUTE_PORT" in caplog.text
