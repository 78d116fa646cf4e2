"""The file of contexts and the commands that change it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omniroute.cli import Exit, Failure, contexts
from omniroute.cli.contexts import LOCAL
from tests.cli.conftest import Run

SECRET = "oma_live_" + "s" * 43


@pytest.fixture
def file(home: Path) -> Path:
    return home / ".omniroute" / "config.json"


def write(file: Path, document: Any) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    file.chmod(0o600)


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def saved(**more: Any) -> dict[str, Any]:
    vps = {"baseUrl": "https://omni.example.com", "accessToken": SECRET, "scope": "write", "tokenId": "tok_1"}
    return {"version": 1, "currentContext": "vps", "contexts": {"vps": vps | more}}


class TestAddresses:
    @pytest.mark.parametrize(
        ("given", "port", "url"),
        [
            ("vps", None, "http://vps:20128"),
            ("vps.example.com:8443", None, "http://vps.example.com:8443"),
            ("vps", 443, "http://vps:443"),
            ("10.0.0.7", None, "http://10.0.0.7:20128"),
            ("::1", None, "http://[::1]:20128"),
            ("[fd00::1]:99", None, "http://[fd00::1]:99"),
            ("https://omni.example.com", None, "https://omni.example.com"),
            ("https://omni.example.com/gateway/", None, "https://omni.example.com/gateway"),
            ("https://omni.example.com", 8443, "https://omni.example.com:8443"),
        ],
    )
    def test_what_is_meant(self, given: str, port: int | None, url: str) -> None:
        assert contexts.url_of_host(given, port) == url

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "ftp://x",
            "https://",
            "http://user:secret@x",
            "a b",
            "x/path",
            "x:99999",
            "http://x:port",
            "https://x?q=1",
            "user@x",
        ],
    )
    def test_what_is_none(self, given: str) -> None:
        with pytest.raises(Failure) as caught:
            contexts.url_of_host(given)
        assert caught.value.exit_code == Exit.MISUSE


class TestFile:
    def test_without_one_this_machine_is_meant(self, home: Path, file: Path) -> None:
        found = contexts.load()
        assert (found.current, list(found.by_name)) == (LOCAL, [LOCAL])
        assert not file.exists()

    def test_it_is_for_its_owner_alone(self, home: Path, file: Path) -> None:
        contexts.save("vps", {"baseUrl": "https://x", "accessToken": SECRET})
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def test_one_that_others_can_read_is_closed(
        self, home: Path, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(file, saved())
        file.chmod(0o644)
        contexts.load()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "other users could read" in capsys.readouterr().err

    def test_members_of_other_versions_are_kept(self, home: Path, file: Path) -> None:
        write(file, saved(colour="green") | {"theme": "dark"})
        contexts.save("vps", {"description": "the server"})
        document = read(file)
        assert document["theme"] == "dark"
        assert document["contexts"]["vps"]["colour"] == "green"
        assert document["contexts"]["vps"]["accessToken"] == SECRET

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            '{"version": 1, "contexts": {"vps": {"baseUrl": "https',
            "[]",
            '{"contexts": []}',
            '{"contexts": {"a": 1}}',
        ],
    )
    def test_a_half_written_one_is_left_as_it_is(self, run: Run, file: Path, content: str) -> None:
        write(file, content)
        for command in (["contexts", "list"], ["contexts", "use", "default"], ["keys", "list"]):
            result = run(*command)
            assert result.exit_code == Exit.MISUSE
            assert "It was left as it is" in result.stderr
        assert file.read_text() == content

    def test_a_syntax_error_is_shown_with_its_line(self, run: Run, file: Path) -> None:
        write(file, '{\n  "version": 1,\n  "contexts": {,}\n}')
        assert "(line 3, column 16)" in run("contexts", "list").stderr

    def test_one_of_a_newer_version_is_not_touched(self, run: Run, file: Path) -> None:
        write(file, saved() | {"version": 2})
        result = run("contexts", "use", "default")
        assert (result.exit_code, read(file)["version"]) == (Exit.MISUSE, 2)
        assert "newer version" in result.stderr

    def test_a_place_that_cannot_be_written(self, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (home / "file").touch()
        monkeypatch.setenv("OMNIROUTE_CONFIG", str(home / "file" / "config.json"))
        result = run("contexts", "add", "vps", "--url", "vps")
        assert result.exit_code != Exit.DONE
        assert "cannot be" in result.stderr

    def test_many_writers_lose_nothing(self, home: Path, file: Path) -> None:
        program = (
            "import sys\nfrom omniroute.cli import contexts\n"
            "for n in range(10): contexts.save(f'{sys.argv[1]}-{n}', {'baseUrl': 'https://x'})"
        )
        writers = [
            subprocess.Popen([sys.executable, "-c", program, name], env={**os.environ, "PYTHONPATH": ROOT})
            for name in ("a", "b", "c")
        ]
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
        assert len(contexts.load().by_name) == 31
        assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []


ROOT = str(Path(__file__).resolve().parents[2])


class TestCommands:
    def test_the_list_shows_no_secret(self, run: Run, file: Path) -> None:
        write(file, saved(apiKey="sk-secret"))
        result = run("contexts", "list")
        assert result.exit_code == Exit.DONE
        assert result.stdout.splitlines() == [
            "   Name     Base URL                  Auth   Scope  Description",
            "   default  http://127.0.0.1:20128    local  admin  -",
            "*  vps      https://omni.example.com  token  write  -",
        ]
        for form in ("json", "jsonl", "csv"):
            text = run("contexts", "list", "-o", form).stdout
            assert "omni.example.com" in text
            assert SECRET not in text
            assert "sk-secret" not in text

    def test_using_another(self, run: Run, file: Path) -> None:
        write(file, saved())
        assert run("context", "use", "default").exit_code == Exit.DONE
        assert read(file)["currentContext"] == "default"
        assert run("contexts", "current", "--name-only").stdout == "default\n"
        assert run("--context", "vps", "contexts", "current", "--name-only").stdout == "vps\n"
        assert run("contexts", "current", "--name-only", "--context", "vps").stdout == "vps\n"

    def test_one_that_does_not_exist(self, run: Run, file: Path) -> None:
        write(file, saved())
        for command in (["contexts", "use", "x"], ["contexts", "show", "x"], ["contexts", "remove", "x"]):
            result = run(*command)
            assert (result.exit_code, "There are: default, vps." in result.stderr) == (Exit.MISUSE, True)

    def test_adding_asks_nobody(self, run: Run, file: Path) -> None:
        result = run("contexts", "add", "home", "--url", "10.1.1.1", "--token-stdin", "--api-key-stdin", stdin="t\nk\n")
        assert result.exit_code == Exit.DONE
        assert read(file)["contexts"]["home"] == {"baseUrl": "http://10.1.1.1:20128", "accessToken": "t", "apiKey": "k"}

    @pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "../x", "default"])
    def test_names_that_are_none(self, run: Run, file: Path, name: str) -> None:
        result = run("contexts", "add", "--url", "https://x", "--", name)
        assert result.exit_code == Exit.MISUSE
        assert not file.exists()

    def test_plain_http_to_a_public_address_is_asked_for(self, run: Run, file: Path) -> None:
        arguments = ("contexts", "add", "far", "--url", "http://203.0.113.9", "--token-stdin")
        refused = run(*arguments, stdin="t\n")
        assert (refused.exit_code, file.exists()) == (Exit.MISUSE, False)
        assert "is not encrypted" in refused.stderr
        assert run(*arguments, "--yes", stdin="t\n").exit_code == Exit.DONE

    def test_renaming_keeps_what_is_current(self, run: Run, file: Path) -> None:
        write(file, saved())
        assert run("contexts", "rename", "vps", "cloud").exit_code == Exit.DONE
        document = read(file)
        assert (document["currentContext"], list(document["contexts"])) == ("cloud", ["default", "cloud"])
        assert run("contexts", "rename", "default", "x").exit_code == Exit.MISUSE
        assert run("contexts", "rename", "cloud", "default").exit_code == Exit.MISUSE

    def test_removing_goes_back_to_this_machine(self, run: Run, file: Path) -> None:
        write(file, saved())
        assert run("contexts", "remove", "vps").exit_code == Exit.MISUSE  # nobody to ask
        assert run("contexts", "remove", "vps", "--keep-token", "--yes").exit_code == Exit.DONE
        document = read(file)
        assert (document["currentContext"], list(document["contexts"])) == ("default", ["default"])
        assert run("contexts", "remove", "default", "--yes").exit_code == Exit.MISUSE

    def test_export_and_import(self, run: Run, file: Path, home: Path) -> None:
        write(file, saved())
        exported = run("contexts", "export").stdout
        assert SECRET not in exported
        assert SECRET in run("contexts", "export", "--with-secrets", "--yes").stdout
        (home / "c.json").write_text(exported.replace('"vps"', '"other"'))
        assert run("contexts", "import", "c.json").exit_code == Exit.MISUSE  # vps would be forgotten
        assert run("contexts", "import", "c.json", "--merge").exit_code == Exit.DONE
        assert set(read(file)["contexts"]) == {"default", "vps", "other"}
        assert run("contexts", "import", "c.json", "--yes").exit_code == Exit.DONE
        assert set(read(file)["contexts"]) == {"default", "other"}

    @pytest.mark.parametrize(
        "content", ["{", "[]", "{}", '{"contexts": {"a": {}}}', '{"contexts": {"a b": {"baseUrl": "x"}}}']
    )
    def test_importing_what_is_none_changes_nothing(self, run: Run, file: Path, home: Path, content: str) -> None:
        write(file, saved())
        (home / "c.json").write_text(content)
        assert run("contexts", "import", "c.json", "--yes").exit_code == Exit.MISUSE
        assert read(file) == saved()


class TestWhoIsMeant:
    """Option, then environment, then the current context; a token goes to the server of its context alone."""

    @pytest.mark.parametrize(
        ("options", "environment", "expected"),
        [
            ((), {}, "vps"),
            (("--context", "default"), {}, "default"),
            ((), {"OMNIROUTE_CONTEXT": "default"}, "default"),
            (("--context", "vps"), {"OMNIROUTE_CONTEXT": "default"}, "vps"),
            ((), {"OMNIROUTE_BASE_URL": "http://10.9.9.9"}, "http://10.9.9.9"),
            (("--context", "vps"), {"OMNIROUTE_BASE_URL": "http://10.9.9.9"}, "vps"),
            (("--base-url", "10.8.8.8"), {"OMNIROUTE_BASE_URL": "http://10.9.9.9"}, "http://10.8.8.8:20128"),
        ],
    )
    def test_precedence(
        self,
        run: Run,
        file: Path,
        monkeypatch: pytest.MonkeyPatch,
        options: tuple[str, ...],
        environment: dict[str, str],
        expected: str,
    ) -> None:
        write(file, saved())
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert run(*options, "contexts", "current", "--name-only").stdout == f"{expected}\n"

    def test_a_token_is_not_sent_elsewhere(self, run: Run, file: Path) -> None:
        write(file, saved())
        result = run("keys", "list", "--base-url", "http://127.0.0.1:1")
        assert result.exit_code == Exit.NOT_ALLOWED
        assert "There is no token for http://127.0.0.1:1" in result.stderr

    def test_a_server_that_is_down(self, run: Run, file: Path) -> None:
        write(file, saved(baseUrl="http://127.0.0.1:1"))
        result = run("keys", "list")
        assert result.exit_code == Exit.NOT_RUNNING
        assert "is not reachable" in result.stderr
        assert SECRET not in result.output
