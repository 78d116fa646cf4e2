"""The page of the matrix, and that the page in the documentation is about the clients that are pinned."""

from __future__ import annotations

import json
import re

import pytest

from tests.compat import installed, report
from tests.compat.matrix import NODES, Cell, Client, Scenario, Upstream

VERSIONS = dict.fromkeys(Client, "1.2.3")


def rows(page: str) -> dict[str, list[str]]:
    found = [re.split(r" \| ", line.strip("| ")) for line in page.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in found if cells[0] in set(report.TITLES.values())}


def test_a_cell_shows_what_passed_and_what_failed() -> None:
    record = report.Record()
    cell = Cell(Client.CODEX, Upstream.GEMINI)
    record.note(cell, Scenario.TEXT, is_passed=True)
    record.note(cell, Scenario.TOOLS, is_passed=True)
    record.note(cell, Scenario.TOOLS, is_passed=False)
    record.note(cell, Scenario.TOOLS, is_passed=True)

    assert rows(record.text(VERSIONS))["Codex"] == ["1.2.3", "–", "–", "–", "T (F)", "–"]


def test_the_page_has_a_row_for_each_client_and_a_column_for_each_upstream() -> None:
    page = report.PAGE.read_text(encoding="utf-8")

    assert f"| Client | Version | {' | '.join(node.title for node in NODES.values())} |" in page
    assert set(rows(page)) == {report.TITLES[client] for client in Client}


@pytest.mark.parametrize("client", Client)
def test_each_cell_of_the_page_is_whole(client: Client) -> None:
    _, *cells = rows(report.PAGE.read_text(encoding="utf-8"))[report.TITLES[client]]
    expected = "L" if client in installed.LANGCHAIN else "T S F C"
    excused = {(owner, upstream) for owner, upstream, _ in report.REASONS}

    assert [cell for upstream, cell in zip(Upstream, cells, strict=True) if (client, upstream) not in excused] == [
        expected
    ] * sum((client, upstream) not in excused for upstream in Upstream)


@pytest.mark.parametrize("client", sorted(installed.PACKAGES))
def test_the_page_names_the_pinned_versions(client: Client) -> None:
    manifest = json.loads((installed.SOURCES / "package.json").read_bytes())
    pinned = {**manifest["dependencies"], **manifest["optionalDependencies"]}
    page = rows(report.PAGE.read_text(encoding="utf-8"))

    assert page[report.TITLES[client]][0] == pinned[installed.PACKAGES[client]] == installed.version(client)
