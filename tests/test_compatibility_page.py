"""The page of the compatibility lab is about the clients that are pinned, and each of its cells is whole or excused."""

from __future__ import annotations

import json
import re

import pytest

from tests.compat import installed, report
from tests.compat.matrix import NODES, Client, Upstream

PAGE = report.PAGE.read_text(encoding="utf-8")


def test_the_page_has_a_row_for_each_client_and_a_column_for_each_upstream() -> None:
    assert f"| Client | Version | {' | '.join(node.title for node in NODES.values())} |" in PAGE
    assert set(report.rows(PAGE)) == set(Client)


@pytest.mark.parametrize("client", Client)
def test_each_cell_of_the_page_is_whole(client: Client) -> None:
    _, *cells = report.rows(PAGE)[client]
    expected = ["L"] if client in installed.LANGCHAIN else ["T", "S", "F", "C"]
    excused = {(upstream, report.LETTERS[scenario]) for who, upstream, scenario in report.REASONS if who is client}

    for upstream, cell in zip(Upstream, cells, strict=True):
        failed = set(re.findall(r"\((.)\)", cell))
        assert [letter.strip("()") for letter in cell.split()] == expected, upstream
        assert {(upstream, letter) for letter in failed} <= excused, upstream


@pytest.mark.parametrize("client", sorted(installed.PACKAGES))
def test_the_page_names_the_pinned_versions(client: Client) -> None:
    manifest = json.loads((installed.SOURCES / "package.json").read_bytes())
    pinned = {**manifest["dependencies"], **manifest["optionalDependencies"]}

    assert report.rows(PAGE)[client][0] == pinned[installed.PACKAGES[client]] == installed.version(client)
