"""What each tool's files become: from nothing, beside what others have put there, and a second time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tomlkit
from ruamel.yaml import YAML

from omniroute.cli import TOOL_NAMES
from omniroute.clients.merge import CannotMerge, merged
from omniroute.clients.spec import ClientModel, Edit, Format, OwnEntries, Tool, Wanted
from omniroute.clients.tools import BY_ID, LAUNCHED, TOOLS, codex_profile_edits
from tests.goldens import Golden, orphans

ECHO = ClientModel("sandbox/echo", "Sandbox Echo", 128_000, 8192)
PLAIN = ClientModel("groq/llama", "Llama")
VISION = ClientModel("main", "main", 200_000, 64_000, reads_images=True)
WANTED = Wanted("https://omni.example.com", "OMNIROUTE_API_KEY", VISION, (VISION, ECHO, PLAIN))
LATER = Wanted("https://omni.example.com", "OMNIROUTE_API_KEY", ECHO, (ECHO,))
EDITS = [(tool, edit) for tool in TOOLS for edit in tool.edits(WANTED)]


def golden_name(tool: Tool, edit: Edit) -> str:
    return f"clients/{tool.id}/{edit.path.rpartition('/')[2].lstrip('.')}"


def parsed(edit: Edit, text: str) -> Any:
    match edit.format:
        case Format.JSON:
            return json.loads(text)
        case Format.TOML:
            return tomlkit.parse(text).unwrap()
        case Format.YAML:
            return YAML(typ="safe", pure=True).load(text)
        case _:
            return dict(line.split("=", 1) for line in text.splitlines())


@pytest.mark.parametrize(("tool", "edit"), EDITS, ids=lambda one: one.id if isinstance(one, Tool) else one.path)
def test_a_new_file(golden: Golden, tool: Tool, edit: Edit) -> None:
    golden.check_text(golden_name(tool, edit), merged(None, edit))


def test_no_golden_file_is_left_over() -> None:
    assert orphans("clients", [golden_name(tool, edit) for tool, edit in EDITS]) == set()


@pytest.mark.parametrize(("tool", "edit"), EDITS, ids=lambda one: one.id if isinstance(one, Tool) else one.path)
def test_a_second_time_changes_nothing(tool: Tool, edit: Edit) -> None:
    once = merged(None, edit)
    assert merged(once, edit) == once
    assert merged(f"\n{once}\n", edit).strip() == once.strip()


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.id)
def test_another_model_replaces_ours_and_leaves_no_old_one(tool: Tool) -> None:
    for first, second in zip(tool.edits(WANTED), tool.edits(LATER), strict=True):
        text = merged(merged(None, first), second)
        assert parsed(second, text) == parsed(second, merged(None, second))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.id)
def test_the_key_is_named_and_never_written(tool: Tool) -> None:
    texts = [merged(None, edit) for edit in tool.edits(WANTED)]
    assert "sk-" not in "".join(texts)
    named = "".join([*texts, *tool.steps(WANTED), *tool.environment(WANTED).values()])
    assert "OMNIROUTE_API_KEY" in named
    assert "https://omni.example.com" in "".join([*texts, *tool.steps(WANTED)])


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.id)
def test_each_says_where_that_is_written_and_how_to_get_it(tool: Tool) -> None:
    assert tool.source.startswith("https://")
    assert tool.install
    assert tool.steps(WANTED)


def test_the_command_line_names_the_same_tools() -> None:
    assert {tool.id: tool.name for tool in TOOLS} == dict(TOOL_NAMES)
    assert set(LAUNCHED) <= set(BY_ID)


def test_a_profile_of_codex_has_its_choice_in_a_file_of_its_own() -> None:
    base, profile = codex_profile_edits(LATER, "echo")
    assert (base.path, profile.path) == (".codex/config.toml", ".codex/echo.config.toml")
    assert "model" not in base.members
    assert profile.members == {"model": "sandbox/echo", "model_provider": "omniroute", "model_context_window": 128_000}


# --- merging ---------------------------------------------------------------------------------------------------------


def test_toml_keeps_comments_order_and_other_providers() -> None:
    (edit,) = BY_ID["codex"].edits(LATER)
    before = (
        "# my settings\n"
        'model = "gpt-5"  # the good one\n'
        'approval_policy = "on-request"\n\n'
        "[model_providers.azure]\n"
        'name = "Azure"\n\n'
        "[tui]\n"
        "notifications = true\n"
    )
    after = merged(before, edit)
    assert after.startswith('# my settings\nmodel = "sandbox/echo"  # the good one\napproval_policy = "on-request"\n')
    assert '[model_providers.azure]\nname = "Azure"\n' in after
    assert "[tui]\nnotifications = true\n" in after
    assert tomlkit.parse(after)["model_providers"]["omniroute"]["env_key"] == "OMNIROUTE_API_KEY"


def test_yaml_keeps_comments_and_entries_of_others() -> None:
    (edit,) = BY_ID["continue"].edits(LATER)
    before = (
        "name: Mine # kept\n"
        "version: 1.0.0\n"
        "models:\n"
        "  # my own\n"
        "  - name: Local\n"
        "    provider: ollama\n"
        "    model: qwen\n"
        "rules:\n"
        "  - be brief\n"
    )
    after = merged(before, edit)
    assert "# my own\n  - name: Local\n    provider: ollama\n" in after
    found = YAML(typ="safe", pure=True).load(after)
    assert [model["model"] for model in found["models"]] == ["qwen", "sandbox/echo"]
    assert found["rules"] == ["be brief"]


def test_json_keeps_members_order_and_indent() -> None:
    (edit,) = BY_ID["claude"].edits(LATER)
    before = '{\n    "permissions": {"allow": ["Bash"]},\n    "env": {"FOO": "1", "ANTHROPIC_MODEL": "opus"}\n}\n'
    after = merged(before, edit)
    found = json.loads(after)
    assert list(found) == ["permissions", "env", "apiKeyHelper"]
    assert (found["env"]["FOO"], found["env"]["ANTHROPIC_MODEL"]) == ("1", "sandbox/echo")
    assert '\n    "env"' in after


def test_env_files_keep_their_other_lines() -> None:
    edit = Edit("x", Format.ENV, {"A": "1", "B": "2"})
    assert merged("# mine\nexport A=0\nC=3\n", edit) == "# mine\nA=1\nC=3\nB=2\n"


@pytest.mark.parametrize(
    ("format_", "text", "line"),
    [
        (Format.JSON, '{\n  "a": 1,\n  // why\n  "b": 2\n}', 3),
        (Format.JSON, '{"a": }', 1),
        (Format.JSON, '{\n "a": 1,\n}', 3),
        (Format.JSON, "[]", None),
        (Format.JSON, '{"a": 5}', None),
        (Format.TOML, "a = 1\nb = = 2\n", 2),
        (Format.TOML, "a = 5", None),
        (Format.YAML, "a: [1\nb: 2\n", 2),
        (Format.YAML, "- 1\n", None),
        (Format.YAML, "a: 5\n", None),
    ],
)
def test_what_cannot_be_read_is_not_guessed(format_: Format, text: str, line: int | None) -> None:
    with pytest.raises(CannotMerge) as caught:
        merged(text, Edit("x", format_, {"a": {"b": 1}}))
    assert caught.value.line == line


def test_a_list_that_is_none() -> None:
    own = OwnEntries(("models",), ({"name": "x", "at": "here"},), "at", "here")
    with pytest.raises(CannotMerge, match="models is not a list"):
        merged('{"models": {}}', Edit("x", Format.JSON, {}, (own,)))


def test_entries_of_ours_are_replaced_where_others_stay() -> None:
    own = OwnEntries(("a", "models"), ({"name": "new", "at": "here"},), "at", "here")
    before = {"a": {"models": [{"name": "old", "at": "here"}, {"name": "other", "at": "there"}]}}
    after = json.loads(merged(json.dumps(before), Edit("x", Format.JSON, {}, (own,))))
    assert after == {"a": {"models": [{"name": "other", "at": "there"}, {"name": "new", "at": "here"}]}}
