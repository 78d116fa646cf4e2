"""The default bind is loopback; a public bind with a published, empty or short value does not start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omniroute.errors import ConfigurationError
from omniroute.secret import Secret
from omniroute.services.first_start import refuse_unsafe_public_bind, unsafe_values
from omniroute.settings import Settings

UNSAFE = {
    "jwt_secret": ("JWT_SECRET", "omniroute-default-secret-change-me"),
    "api_key_secret": ("API_KEY_SECRET", "endpoint-proxy-api-key-secret"),
    "encryption_key": ("OMNIROUTE_ENCRYPTION_KEY", "CHANGEME"),
    "initial_password": ("INITIAL_PASSWORD", "123456"),
}


def given(field: str, value: str) -> dict[str, Any]:
    return {field: Secret(value)}


def test_the_default_bind_is_loopback(tmp_path: Path) -> None:
    settings = Settings.load({"HOME": str(tmp_path)}, tmp_path)
    assert settings.is_loopback_bind
    assert settings.host == "127.0.0.1"


@pytest.mark.parametrize("field", UNSAFE)
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.10", "::"])
def test_a_public_bind_with_a_published_value_is_refused(tmp_path: Path, field: str, host: str) -> None:
    variable, value = UNSAFE[field]
    settings = replace(Settings(data_dir=tmp_path, host=host), **given(field, value))
    with pytest.raises(ConfigurationError) as refusal:
        refuse_unsafe_public_bind(settings)
    assert variable in refusal.value.message
    assert value not in refusal.value.message


@pytest.mark.parametrize("field", ["jwt_secret", "api_key_secret"])
@pytest.mark.parametrize("value", ["", "short", "x" * 31])
def test_a_public_bind_with_an_empty_or_short_secret_is_refused(tmp_path: Path, field: str, value: str) -> None:
    settings = replace(Settings(data_dir=tmp_path, host="0.0.0.0"), **given(field, value))
    with pytest.raises(ConfigurationError, match="fewer than 32"):
        refuse_unsafe_public_bind(settings)


def test_each_variable_gets_its_line_with_a_remedy(tmp_path: Path) -> None:
    values: dict[str, Any] = {field: Secret(value) for field, (_, value) in UNSAFE.items()}
    settings = replace(Settings(data_dir=tmp_path, host="0.0.0.0"), **values)
    with pytest.raises(ConfigurationError) as refusal:
        refuse_unsafe_public_bind(settings)
    lines = refusal.value.message.splitlines()[1:]
    assert len(lines) == len(UNSAFE)
    for (variable, _), line in zip(UNSAFE.values(), lines, strict=True):
        assert line.strip().startswith(variable)
        assert "omniroute reset-password" in line or "token_urlsafe" in line


@pytest.mark.parametrize("field", UNSAFE)
def test_a_loopback_bind_with_a_published_value_warns(tmp_path: Path, field: str) -> None:
    variable, value = UNSAFE[field]
    settings = replace(Settings(data_dir=tmp_path), **given(field, value))
    warnings = refuse_unsafe_public_bind(settings)
    assert [warning.split()[0] for warning in warnings] == [variable]
    assert value not in warnings[0]


def test_published_values_are_known_in_any_case(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, initial_password=Secret("changeme"))
    assert [value.variable for value in unsafe_values(settings)] == ["INITIAL_PASSWORD"]


def test_a_short_environment_key_is_refused_on_a_public_bind(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="OMNIROUTE_API_KEY"):
        refuse_unsafe_public_bind(Settings(data_dir=tmp_path, host="0.0.0.0", env_api_key=Secret("x" * 23)))
    assert refuse_unsafe_public_bind(Settings(data_dir=tmp_path, host="0.0.0.0", env_api_key=Secret("x" * 24))) == ()


def test_good_values_and_generated_ones_pass_in_silence(tmp_path: Path) -> None:
    assert refuse_unsafe_public_bind(Settings(data_dir=tmp_path, host="0.0.0.0")) == ()
    good = Settings(
        data_dir=tmp_path, host="0.0.0.0", jwt_secret=Secret("q" * 48), initial_password=Secret("a good one")
    )
    assert refuse_unsafe_public_bind(good) == ()
