"""What the documentation says is what the program has: settings, commands, options, files, links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from omniroute.cli import COMMANDS, Exit, group
from omniroute.settings import Section, shown_default, variables

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "ecosystem" / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])


def configuration_rows() -> dict[str, list[str]]:
    """Return the rows of all tables of the configuration page by main name: spellings, default, values, meaning."""
    rows = {}
    for line in (DOCS / "configuration.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == 4:
            names = re.findall(r"`(\w+)`", cells[0])
            rows[names[0]] = [",".join(names), cells[1].strip("`"), cells[2], cells[3]]
    return rows


def test_each_setting_is_documented_as_it_is() -> None:
    expected = {
        variable.name: [",".join(variable.names), shown_default(name), variable.kind.accepts, variable.doc]
        for name, variable in variables().items()
    }

    assert configuration_rows() == expected


def test_each_section_of_settings_has_its_heading() -> None:
    headings = re.findall(r"^## (.+)$", (DOCS / "configuration.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert [heading for heading in headings if heading in set(Section)] == list(Section)


def test_the_sample_file_has_each_setting_once_and_sets_none() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert re.findall(r"^# ([A-Z0-9_]+)=", text, re.MULTILINE) == [v.name for v in variables().values()]
    assert re.findall(r"^[^#\n]", text, re.MULTILINE) == []


def test_the_sample_file_shows_the_defaults_and_no_secret() -> None:
    shown = dict(
        re.findall(r"^# ([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    )

    for name, variable in variables().items():
        default = shown_default(name)
        assert shown[variable.name] in (default, ""), variable.name
        if variable.kind.is_secret and variable.name != "DATABASE_URL":
            assert shown[variable.name] == ""


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


COMMAND_LINES = dict(commands(group, ("omniroute",)))


def section_of(path: tuple[str, ...]) -> str:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    heading = "## `" + " ".join(path)
    found = re.search(rf"^{re.escape(heading)}[`\s].*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"cli.md has no section {heading}"
    return found[0]


@pytest.mark.parametrize("path", list(COMMAND_LINES))
def test_each_command_and_option_is_documented(path: tuple[str, ...]) -> None:
    section = section_of(path)
    own = [p for p in COMMAND_LINES[path].params if isinstance(p, click.Option) and p.expose_value]
    everywhere = [p for p in COMMAND_LINES[path].params if isinstance(p, click.Option) and not p.expose_value]
    text = (DOCS / "cli.md").read_text(encoding="utf-8")

    assert [o.opts for o in own if len(path) > 1 and f"`{max(o.opts, key=len)}`" not in section] == []
    assert [o.opts for o in everywhere if f"`{max(o.opts, key=len)}`" not in text] == []


def test_pages_made_from_the_code_are_up_to_date(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATA_DIR": str(tmp_path / "data")},
        cwd=tmp_path,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_each_alias_is_documented() -> None:
    for name, entry in COMMANDS.items():
        section = section_of(("omniroute", name)) if ("omniroute", name) in COMMAND_LINES and entry.aliases else ""
        assert all(f"`{alias}`" in section for alias in entry.aliases)


@pytest.mark.parametrize(("path", "command"), COMMAND_LINES.items())
def test_each_command_and_option_explains_itself(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == []


def test_the_help_shows_what_the_commands_say_about_themselves() -> None:
    for name, entry in COMMANDS.items():
        command = COMMAND_LINES[("omniroute", name)]
        assert (command.help or "").startswith(entry.help.rstrip("."))


def test_each_exit_code_is_documented() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")

    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == {int(code) for code in Exit}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_decisions_are_numbered_and_have_their_parts() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))

    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(page.name[:4])}. ")
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences"))


def test_each_target_of_the_makefile_explains_itself() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    documented = set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))

    assert {"run", "test", "check", "bench", "lock", "clean"} <= documented


def test_nothing_names_where_it_was_made() -> None:
    """Locks and scripts must work wherever the clone is, with whatever index the machine uses."""
    suspicious = re.compile(r"--(extra-)?index-url|--find-links|--trusted-host|/(root|work)/")
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("requirements*.lock"), *PAGES]
    files += [
        p for p in (ROOT / "ecosystem").rglob("*") if p.is_file() and p.suffix in (".sh", ".conf", ".py", ".yaml")
    ]

    assert [file.name for file in files if suspicious.search(file.read_text(encoding="utf-8"))] == []


def test_locks_hash_everything() -> None:
    for lock in ROOT.glob("requirements*.lock"):
        entries = re.split(r"\n(?=[a-z0-9])", lock.read_text(encoding="utf-8").strip())
        assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
