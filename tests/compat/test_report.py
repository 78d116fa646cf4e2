"""The page of the matrix, made from outcomes."""

from __future__ import annotations

from tests.compat import report
from tests.compat.matrix import Cell, Client, Scenario, Upstream

VERSIONS = dict.fromkeys(Client, "1.2.3")


def test_a_cell_shows_what_passed_and_what_failed() -> None:
    record = report.Record()
    cell = Cell(Client.CODEX, Upstream.GEMINI)
    record.note(cell, Scenario.TEXT, is_passed=True)
    record.note(cell, Scenario.TOOLS, is_passed=True)
    record.note(cell, Scenario.TOOLS, is_passed=False)
    record.note(cell, Scenario.TOOLS, is_passed=True)

    rows = report.rows(record.text(VERSIONS))

    assert rows[Client.CODEX] == ["1.2.3", "–", "–", "–", "T (F)", "–"]
    assert rows[Client.OPENCODE] == ["1.2.3", "–", "–", "–", "–", "–"]


def test_the_page_says_why_a_cell_cannot_work() -> None:
    reasons = {(Client.CODEX, Upstream.OLLAMA, Scenario.TOOLS): "it has no hands"}

    assert "| Codex | Ollama | F | it has no hands |" in list(report.reasons(reasons))
    assert list(report.reasons({})) == []
