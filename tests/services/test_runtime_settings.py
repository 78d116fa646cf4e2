"""The table of settings: what it takes, what is in force, and where that comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.records import Snapshot
from omniroute.services.setting_definitions import (
    BY_NAME,
    DEFINITIONS,
    FLAGS,
    Definition,
    Kind,
    Tab,
    in_section,
    is_cron,
)
from omniroute.services.settings import SettingsInForce
from omniroute.settings import Settings, shown_default, variables


def stored(**values: Any) -> Snapshot:
    """A configuration with settings given as section__name."""
    return Snapshot(version=1, settings=MappingProxyType({tuple(k.split("__")): v for k, v in values.items()}))  # type: ignore[misc]


def in_force(snapshot: Snapshot, **changes: Any) -> SettingsInForce:
    sources = dict.fromkeys(changes, "the environment")
    return SettingsInForce(replace(Settings(data_dir=Path("/x")), sources=sources, **changes), snapshot)


def test_each_row_takes_its_own_default_and_says_what_it_takes() -> None:
    force = in_force(stored())
    for row in DEFINITIONS.values():
        state = force.state(row)
        assert row.description.endswith("."), row.path
        assert len(row.takes) > 5
        assert state.source == "default"
        assert state.value == state.default
        is_unset = row.default is None and row.field is not None and state.value is None
        assert is_unset or state.value is None or row.fits(state.value) or row.field == "instance_name", row.path


def test_a_name_stands_in_one_section_only() -> None:
    rows = [row for row in DEFINITIONS.values() if row.section != FLAGS]
    assert len(BY_NAME) == len(rows)
    assert {row.section for row in rows} == {tab.value for tab in Tab}


def test_what_a_variable_takes_its_setting_takes_too() -> None:
    for row in DEFINITIONS.values():
        if row.kind is not Kind.WHOLE or row.field is None:
            continue
        read = variables()[row.field].kind.read
        assert read(str(row.minimum), Path()) == row.minimum
        assert read(str(row.maximum), Path()) == row.maximum
        with pytest.raises(ValueError):  # noqa: PT011 -- the reader says no more
            read(str(row.minimum - 1), Path())


@pytest.mark.parametrize(
    ("section", "name", "value", "fits"),
    [
        ("general", "timeZone", "Europe/Berlin", True),
        ("general", "timeZone", "Europe/Nowhere", False),
        ("general", "timeZone", "../etc/passwd", False),
        ("general", "instanceName", "north", True),
        ("general", "instanceName", "a\x1b[31m", False),
        ("general", "instanceName", "x" * 101, False),
        ("general", "callLogMaxRows", 1, True),
        ("general", "callLogMaxRows", 0, False),
        ("general", "callLogMaxRows", True, False),
        ("general", "callLogMaxRows", 1.0, False),
        ("appearance", "theme", "dark", True),
        ("appearance", "theme", "Dark", False),
        ("ai", "systemPromptText", "two\nlines\tand a tab", True),
        ("ai", "systemPromptText", "a\x00b", False),
        ("ai", "systemPromptModels", ["gpt-*", "claude-*"], True),
        ("ai", "systemPromptModels", ["gpt-*", "gpt-*"], False),
        ("ai", "systemPromptModels", [""], False),
        ("ai", "systemPromptModels", "gpt-*", False),
        ("security", "requireApiKey", True, True),
        ("security", "requireApiKey", "true", False),
    ],
)
def test_values(section: str, name: str, value: Any, fits: bool) -> None:
    assert DEFINITIONS[section, name].fits(value) is fits


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("0 3 * * *", True),
        ("*/5 * * * mon-fri", True),
        ("off", True),
        ("0 3 * *", False),
        ("61 3 * * *", False),
        ("", False),
        ("@daily", False),
    ],
)
def test_schedules(text: str, fits: bool) -> None:
    assert is_cron(text) is fits


def test_what_is_stored_counts_where_the_environment_says_nothing() -> None:
    force = in_force(stored(advanced__logLevel="debug", flags__sseComments=False))
    assert force.current.app_log_level == "debug"
    assert force.current.sse_comments is False
    assert force.state(DEFINITIONS["advanced", "logLevel"]).source == "db"


def test_a_variable_fixes_its_setting() -> None:
    force = in_force(stored(advanced__logLevel="debug"), app_log_level="error")
    state = force.state(DEFINITIONS["advanced", "logLevel"])
    assert (state.value, state.default, state.source, state.fixed_by) == ("error", "info", "env", "APP_LOG_LEVEL")
    assert force.current.app_log_level == "error"


def test_a_variable_that_only_tightens_leaves_the_rest_open() -> None:
    row = DEFINITIONS["security", "requireApiKey"]
    loose = in_force(stored(security__requireApiKey=True), require_api_key=False)
    assert (loose.state(row).value, loose.fixed_by(row)) == (True, None)
    tight = in_force(stored(security__requireApiKey=False), require_api_key=True)
    assert (tight.state(row).value, tight.fixed_by(row)) == (True, "REQUIRE_API_KEY")
    built = SettingsInForce(Settings(data_dir=Path("/x"), require_api_key=True), stored(security__requireApiKey=False))
    assert built.state(row).value is True


@pytest.mark.parametrize("wrong", ["loud", 5, None, {"a": 1}, ["x"]])
def test_a_stored_value_that_is_none_counts_as_not_chosen(wrong: Any) -> None:
    force = in_force(stored(advanced__logLevel=wrong))
    assert force.state(DEFINITIONS["advanced", "logLevel"]).source == "default"
    assert force.current.app_log_level == "info"


@given(
    st.sampled_from(list(DEFINITIONS.values())),
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=3),
)
def test_whatever_is_stored_something_holds(row: Any, value: Any) -> None:
    force = in_force(stored(**{f"{row.section}__{row.name}": value}))
    state = force.state(row)
    assert state.value == (value if value is not None and row.fits(value) else state.default)
    assert force.value(row.section, row.name) == state.value


def test_a_new_configuration_without_other_settings_keeps_the_object() -> None:
    force = in_force(stored(advanced__logLevel="debug"))
    before = force.current
    force.rebuild(stored(advanced__logLevel="debug"))
    assert force.current is before
    force.rebuild(stored(routing__stickyLimit=9))
    assert force.current.app_log_level == "info"
    assert force.section("appearance") == {
        row.name: list(row.default) if isinstance(row.default, tuple) else row.default
        for row in in_section("appearance")
    }


def shown(row: Definition) -> str:
    """Return a default as the documentation writes it."""
    if row.field is not None:
        words = {"on": "true", "off": "false"} if row.kind is Kind.FLAG else {}
        return words.get(shown_default(row.field), shown_default(row.field))
    match row.default:
        case None:
            return "unset"
        case "" | ():
            return "empty"
        case bool() as flag:
            return "true" if flag else "false"
        case other:
            return str(other)


def test_each_setting_is_documented_as_it_is() -> None:
    page = Path(__file__).resolve().parents[2] / "ecosystem" / "docs" / "settings.md"
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    cells = [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in lines]
    assert [row for row in cells if len(row) == 5] == [
        [row.name, shown(row), row.takes, row.variable.name if row.variable else "", row.description]
        for row in DEFINITIONS.values()
    ]
