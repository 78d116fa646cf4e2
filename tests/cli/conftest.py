"""A way to run commands the way a terminal does, without a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omniroute.cli import group

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and working directory with nothing in them; data goes to `data` below it."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("DATA_DIR", str(path / "data"))
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def run(home: Path) -> Run:
    """Run `omniroute` with arguments; `stdin` is what is piped in."""

    def call(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(group, list(arguments), input=stdin, catch_exceptions=False)

    return call
