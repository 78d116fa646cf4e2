from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omniroute.errors import ConfigurationError, Conflict
from omniroute.secret import Secret
from omniroute.services.secrets_at_start import ServerSecrets, load_or_create, parse_encryption_key
from omniroute.settings import Settings
from omniroute.storage.secrets import Cipher, key_id

KEY = bytes(range(32))
LOG = logging.getLogger("test")


def load(settings: Settings, stored: Collection[str] = (), **changes: Any) -> ServerSecrets:
    return load_or_create(replace(settings, **changes), stored_key_ids=lambda: stored, log=LOG)


def modes(settings: Settings) -> dict[str, int]:
    directory = settings.data_dir / "secrets"
    paths = [settings.data_dir, directory, *directory.iterdir()]
    return {path.name: path.stat().st_mode & 0o777 for path in paths}


def test_secrets_are_generated_once_and_private(settings: Settings) -> None:
    before = os.umask(0)
    try:
        first = load(settings)
    finally:
        os.umask(before)
    assert load(settings) == first
    assert len(first.jwt_secret) >= 48
    assert len(first.api_key_secret) >= 48
    assert first.encryption_key is not None
    assert len(first.encryption_key) == 32
    assert len({first.jwt_secret, first.api_key_secret, first.encryption_key}) == 3
    assert not first.encryption_key_missing
    assert {name: mode for name, mode in modes(settings).items() if mode not in {0o600, 0o700}} == {}
    assert {"jwt_secret", "api_key_secret", "encryption_key"} <= set(modes(settings))


def test_values_of_the_environment_win_and_are_never_written(settings: Settings) -> None:
    given: dict[str, Any] = {
        name: Secret(f"{name}-from-the-environment-0123456789") for name in ("jwt_secret", "api_key_secret")
    }
    secrets = load(settings, encryption_key=Secret(KEY.hex()), **given)
    assert secrets.jwt_secret == given["jwt_secret"].reveal().encode()
    assert secrets.encryption_key == KEY
    written = [path for path in (settings.data_dir / "secrets").iterdir() if path.stat().st_size]
    assert written == []


def test_loose_modes_are_tightened_and_reported(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    load(settings)
    file = settings.data_dir / "secrets" / "jwt_secret"
    file.chmod(0o644)
    settings.data_dir.chmod(0o755)
    secrets = load(settings)
    assert set(secrets.tightened) == {settings.data_dir.name, "jwt_secret"}
    assert "jwt_secret could be read by other users" in caplog.text
    assert file.stat().st_mode & 0o777 == 0o600
    assert settings.data_dir.stat().st_mode & 0o777 == 0o700
    assert load(settings).tightened == ()


def test_secrets_are_not_shown_by_accident(settings: Settings) -> None:
    secrets = load(settings)
    assert secrets.jwt_secret.decode() not in repr(secrets)
    assert repr(secrets.encryption_key) not in repr(secrets)


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        KEY.hex().upper(),
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY).decode().rstrip("="),
        f"  {KEY.hex()}\n",
    ],
)
def test_a_key_is_read_in_its_spellings(text: str) -> None:
    assert parse_encryption_key(text, source="X") == KEY


def test_a_passphrase_gives_the_same_key_everywhere() -> None:
    passphrase = "correct horse battery staple, and more"
    key = parse_encryption_key(passphrase, source="X")
    assert key == parse_encryption_key(passphrase, source="Y")
    assert len(key) == 32
    assert key != parse_encryption_key(passphrase + "!", source="X")


@pytest.mark.parametrize("text", ["", "short", "x" * 31, KEY[:30].hex()[:31]])
def test_a_weak_key_stops_the_start_without_being_shown(settings: Settings, text: str) -> None:
    with pytest.raises(ConfigurationError, match="OMNIROUTE_ENCRYPTION_KEY must be") as caught:
        load(settings, encryption_key=Secret(text or " "))
    assert not text or text not in str(caught.value)


def test_a_missing_key_stays_missing_while_there_is_ciphertext(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = load(settings, stored={key_id(KEY)})
    assert secrets.encryption_key is None
    assert secrets.encryption_key_missing
    assert not (settings.data_dir / "secrets" / "encryption_key").exists()
    assert "restore DATA_DIR/secrets/encryption_key" in caplog.text
    with pytest.raises(Conflict) as caught:
        secrets.cipher().encrypt(Secret("x"), table="t", column="c", row_id="r")
    assert caught.value.error_code == "encryption_key_missing"


def test_a_wrong_key_takes_nothing_new(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    secrets = load(settings, stored={key_id(KEY)}, encryption_key=Secret(bytes(32).hex()))
    assert secrets.encryption_key_missing
    assert secrets.cipher().is_sealed
    assert "OMNIROUTE_ENCRYPTION_KEY does not open" in caplog.text


def test_the_right_key_opens(settings: Settings) -> None:
    secrets = load(settings, stored={key_id(KEY), "0000dead"}, encryption_key=Secret(KEY.hex()))
    assert not secrets.encryption_key_missing
    sealed = Cipher(KEY).encrypt(Secret("x"), table="t", column="c", row_id="r")
    assert secrets.cipher().decrypt(sealed, table="t", column="c", row_id="r").reveal() == "x"


@pytest.mark.parametrize("name", ["jwt_secret", "api_key_secret", "encryption_key"])
@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_an_unusable_file_stops_the_start(settings: Settings, name: str, content: bytes) -> None:
    load(settings)
    (settings.data_dir / "secrets" / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=name):
        load(settings)


def test_processes_that_start_together_agree(settings: Settings) -> None:
    code = f"""
        import logging, sys
        from pathlib import Path
        from omniroute.services.secrets_at_start import load_or_create
        from omniroute.settings import Settings
        settings = Settings(data_dir=Path({str(settings.data_dir)!r}))
        sys.stdin.readline()
        secrets = load_or_create(settings, stored_key_ids=lambda: (), log=logging.getLogger())
        print(secrets.jwt_secret, secrets.api_key_secret, secrets.encryption_key)
    """
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", textwrap.dedent(code)]
    starters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("\n")
        starter.stdin.flush()
    answers = {starter.communicate(timeout=60)[0] for starter in starters}
    assert len(answers) == 1
    assert len(answers.pop()) > 150
