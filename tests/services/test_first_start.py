"""The first password and the local CLI token."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from omniroute.secret import Secret
from omniroute.services.first_start import (
    ensure_password,
    generate_password,
    read_cli_token,
    write_cli_token,
)
from tests.harness import Gateway


def start(gateway: Gateway, initial: str | None = None) -> list[str]:
    said: list[str] = []
    ensure_password(
        passwords=gateway.passwords,
        audit=gateway.audit,
        initial_password=Secret(initial) if initial is not None else None,
        login_url="http://localhost:20128/login",
        announce=said.append,
    )
    return said


def test_the_first_start_says_the_password_once_between_two_lines(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(password=None)
    assert not gateway.passwords.exists()
    (text,) = start(gateway)
    lines = text.strip().splitlines()
    assert lines[0].startswith("====")
    assert lines[-1].startswith("====")
    assert "http://localhost:20128/login" in text
    password = next(line.split()[-1] for line in lines if line.strip().startswith("Password"))
    assert gateway.passwords.verify(password)
    assert start(gateway) == []
    assert gateway.passwords.verify(password)


def test_a_generated_password_is_long_and_easy_to_read() -> None:
    made = {generate_password() for _ in range(50)}
    assert len(made) == 50
    assert all(len(password) == 20 for password in made)
    assert not set("".join(made)) & set("0O1lIio")


def test_the_given_first_password_is_used_and_not_repeated(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(password=None)
    assert start(gateway, "given by the operator") == []
    assert gateway.passwords.verify("given by the operator")


def test_the_given_password_counts_only_while_there_is_none(gateway: Gateway) -> None:
    before = gateway.passwords._stored()
    assert start(gateway, "another one") == []
    assert gateway.passwords._stored() == before


def test_of_two_starts_at_once_one_announces(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(password=None)
    other = gateway.other_worker()
    said: list[str] = []

    class Slow:
        """Pretends that no password exists until it is too late."""

        exists = staticmethod(lambda: False)
        create_first = other.passwords.create_first

    for passwords in (gateway.passwords, Slow()):
        ensure_password(
            passwords=passwords,  # type: ignore[arg-type]
            audit=gateway.audit,
            initial_password=None,
            login_url="x",
            announce=said.append,
        )
    assert len(said) == 1


def test_without_a_password_login_asks_for_setup(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(password=None)
    answer = gateway.client().post("/api/auth/login", json={"password": "anything"})
    assert answer.status_code == 403
    assert answer.get_json()["error"]["code"] == "setup_required"
    assert gateway.client().get("/api/init").get_json()["setupComplete"] is False
    assert gateway.client().get("/api/settings/require-login").get_json() == {
        "requireLogin": True,
        "hasPassword": False,
        "setupComplete": False,
    }


def test_the_cli_token_is_private_and_new_at_each_start(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    assert read_cli_token(runtime) is None
    write_cli_token(runtime)
    first = read_cli_token(runtime)
    assert first is not None
    assert len(first) == 64
    assert stat.S_IMODE((runtime / "cli-token").stat().st_mode) == 0o600
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    write_cli_token(runtime)
    assert read_cli_token(runtime) != first
    assert [file.name for file in runtime.iterdir()] == ["cli-token"]


def test_a_token_that_others_can_read_is_not_trusted(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    write_cli_token(runtime)
    (runtime / "cli-token").chmod(0o640)
    assert read_cli_token(runtime) is None


def test_a_damaged_token_opens_nothing(gateway: Gateway) -> None:
    runtime = gateway.settings.data_dir / "runtime"
    write_cli_token(runtime)
    for content in ("", "\n", "short", "x" * 63):
        (runtime / "cli-token").write_text(content)
        for given in ("", content.strip(), "x"):
            answer = gateway.client().get("/api/keys", headers={"X-OmniRoute-CLI-Token": given})
            assert answer.status_code == 401


def test_the_cli_token_opens_management_on_this_host_only(gateway: Gateway) -> None:
    runtime = gateway.settings.data_dir / "runtime"
    write_cli_token(runtime)
    headers = {"X-OmniRoute-CLI-Token": read_cli_token(runtime) or ""}
    assert gateway.client().get("/api/keys", headers=headers).status_code == 200
    assert gateway.client().post("/api/keys", json={"name": "by hand"}, headers=headers).status_code == 201
    assert gateway.client(address="192.0.2.7").get("/api/keys", headers=headers).status_code == 401
    forwarded = {**headers, "X-Forwarded-For": "192.0.2.7"}
    assert gateway.client().get("/api/keys", headers=forwarded).status_code == 401
    assert gateway.audited("key.created")[0].actor == "cli"
