"""CLI Tools by forms alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omniroute.clients.tools import TOOLS
from omniroute.settings import Settings
from tests.blueprints.app import whole_app
from tests.blueprints.dashboard.conftest import ORIGIN, PASSWORD, Pages, field_of, text_of

PAGE = "/dashboard/cli-tools"


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Pages]:
    """A visitor of a server that may write files of tools."""
    environ = {"DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path), "CLI_ALLOW_CONFIG_WRITES": "true"}
    with whole_app(Settings.load(environ, tmp_path)) as app:
        app.own.client_tools._home = lambda: tmp_path
        client = app.client()
        assert client.post("/login", data={"password": PASSWORD}, headers=ORIGIN).status_code == 303
        yield Pages(app, client)


def test_there_is_a_card_for_every_tool(pages: Pages) -> None:
    page = pages.get(PAGE)
    for tool in TOOLS:
        assert f"{PAGE}?tool={tool.id}" in page
        assert tool.name in page
    assert "Look for the tools" in page
    assert 'hx-trigger="load"' in page


def test_tools_are_looked_for_on_this_machine(pages: Pages) -> None:
    block = text_of(pages.block(PAGE, "found"))
    assert "<html" not in block
    assert "Auto-config" in block
    assert "Uses this server" in pages.get(f"{PAGE}?detect=yes")


def test_from_another_machine_it_is_said_why_they_are_not(pages: Pages) -> None:
    pages.client.environ_base["REMOTE_ADDR"] = "192.168.1.20"
    page = text_of(pages.block(PAGE, "found"))
    assert "You look at this page from another machine" in page
    page = text_of(pages.block(f"{PAGE}?tool=claude", "host"))
    assert "Use the commands above" in page


def test_each_tool_says_what_it_needs(pages: Pages) -> None:
    for tool in TOOLS:
        for system in ("linux", "windows"):
            query = f"tool={tool.id}&system={system}&model=sandbox/echo&address=https://ai.example.com"
            page = pages.get(f"{PAGE}?{query}")
            assert f"omniroute setup-{tool.id} --model sandbox/echo" in page
            needs = page.split('id="needs-title"')[1].split("</section>")[0]
            assert "https://ai.example.com" in needs
            assert "sandbox/echo" in needs
            assert "None" not in needs


def test_a_key_is_named_and_never_shown(pages: Pages) -> None:
    made = pages.api("POST", "/api/keys", {"name": "laptop"})
    page = pages.get(f"{PAGE}?tool=codex&key=laptop")
    assert "the key 'laptop'" in page
    assert made["key"] not in page


@pytest.mark.parametrize(
    ("query", "field"),
    [("model=nonsense", "model"), ("address=nowhere", "address"), ("key=nobody", "key"), ("system=beos", "system")],
)
def test_a_wrong_choice_is_marked_and_kept(pages: Pages, query: str, field: str) -> None:
    answer = pages.client.get(f"{PAGE}?tool=claude&{query}")
    assert answer.status_code == 400
    page = text_of(answer)
    assert f'id="f-{field}-fault"' in page
    if field != "system":
        assert field_of(page, field) == query.partition("=")[2]


def test_an_unknown_tool_is_not_there(pages: Pages) -> None:
    assert pages.client.get(f"{PAGE}?tool=nothing").status_code == 404
    assert pages.client.get(f"{PAGE}?tool=nothing&key=nobody").status_code == 404


def test_without_leave_nothing_is_written_and_it_is_said_what_allows_it(pages: Pages, tmp_path: Path) -> None:
    page = pages.get(f"{PAGE}?tool=claude&preview=yes")
    assert "CLI_ALLOW_CONFIG_WRITES=true" in page
    assert "Write it" not in page
    page = pages.after(pages.post(f"{PAGE}/apply", {"tool": "claude"}))
    assert "config_writes_disabled" in page
    assert not (tmp_path / ".claude").exists()
    assert "config_writes_disabled" in pages.after(pages.post(f"{PAGE}/undo", {"tool": "claude"}))


def test_a_tool_is_set_up_after_its_difference_was_shown_and_put_back(writing: Pages, tmp_path: Path) -> None:
    file = tmp_path / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_text('{"theme": "dark"}\n')
    page = writing.get(f"{PAGE}?tool=claude&model=sandbox/echo&preview=yes")
    assert '+    "ANTHROPIC_MODEL": "sandbox/echo"' in page
    assert "Write it" in page
    page = writing.after(writing.post(f"{PAGE}/apply", {"tool": "claude", "model": "sandbox/echo"}))
    assert "1 file is written." in page
    assert '"theme": "dark"' in file.read_text()
    assert "sandbox/echo" in file.read_text()
    page = writing.get(f"{PAGE}?tool=claude&model=sandbox/echo&preview=yes")
    assert "Nothing has to be changed." in page
    assert "Put back what was there" in page
    answer = writing.post(f"{PAGE}/apply", {"tool": "claude", "model": "sandbox/echo"})
    assert "Nothing had to be changed." in writing.after(answer)
    assert "1 file is as it was before." in writing.after(writing.post(f"{PAGE}/undo", {"tool": "claude"}))
    assert file.read_text() == '{"theme": "dark"}\n'
    assert "not_found" in writing.after(writing.post(f"{PAGE}/undo", {"tool": "claude"}))


def test_a_file_that_cannot_be_read_is_said(writing: Pages, tmp_path: Path) -> None:
    file = tmp_path / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_text("{not json")
    page = writing.get(f"{PAGE}?tool=claude&preview=yes")
    assert "Write it" not in page
    assert 'class="bad tool-gap"' in page


def test_a_tool_without_files_is_set_up_by_hand(pages: Pages) -> None:
    page = text_of(pages.block(f"{PAGE}?tool=cursor", "host"))
    assert "Set it up by hand." in page
