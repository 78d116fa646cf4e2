"""Settings: where values come from, what they may be, and what is said about those that are not."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import ConfigurationError
from omniroute.secret import Secret
from omniroute.settings import Level, Settings, Variable, is_loopback_host, shown_default, variables

LONG = "k" * 40


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    directory = tmp_path / "cwd"
    directory.mkdir()
    return directory


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


def load(environ: Mapping[str, str], cwd: Path | None = None, **options: Any) -> Settings:
    return Settings.load({"HOME": "/nonexistent", **environ}, cwd, **options)


def warnings(settings: Settings) -> list[str]:
    return [str(notice) for notice in settings.notices if notice.level is Level.WARNING]


def refusal(environ: Mapping[str, str], cwd: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(environ, cwd)
    return caught.value.message


class TestSources:
    def test_without_anything_the_defaults_hold(self) -> None:
        settings = load({})

        assert settings.data_dir == Path("/nonexistent/.omniroute")
        assert (settings.host, settings.port, settings.scheduler) == ("127.0.0.1", 20128, "auto")
        assert settings.base_url == "http://localhost:20128"
        assert settings.storage_url == "sqlite:////nonexistent/.omniroute/storage.sqlite"
        assert settings.log_file == Path("/nonexistent/.omniroute/logs/omniroute.log")
        assert warnings(settings) == []
        assert settings.sources == {}

    def test_a_freshly_built_object_has_the_same_defaults(self) -> None:
        loaded = load({})

        built = Settings(data_dir=loaded.data_dir, instance_name=loaded.instance_name)

        assert built == loaded

    def test_the_environment_beats_the_data_directory_which_beats_the_working_directory(
        self, cwd: Path, data_dir: Path
    ) -> None:
        (cwd / ".env").write_text(
            f"DATA_DIR={data_dir}\nSSE_HEARTBEAT_MS=1001\nSTREAM_COMMIT_AFTER_MS=1\nFETCH_TIMEOUT_MS=1\n"
        )
        (data_dir / ".env").write_text("SSE_HEARTBEAT_MS=1002\nSTREAM_COMMIT_AFTER_MS=2\n")

        settings = load({"SSE_HEARTBEAT_MS": "1003"}, cwd)

        assert settings.data_dir == data_dir
        assert (settings.sse_heartbeat_ms, settings.stream_commit_after_ms, settings.fetch_timeout_ms) == (1003, 2, 1)
        assert settings.sources == {
            "data_dir": "DATA_DIR in ./.env",
            "sse_heartbeat_ms": "SSE_HEARTBEAT_MS in the environment",
            "stream_commit_after_ms": "STREAM_COMMIT_AFTER_MS in DATA_DIR/.env",
            "fetch_timeout_ms": "FETCH_TIMEOUT_MS in ./.env",
        }
        assert str(settings.notices[-1]) == "Settings were read from the environment and DATA_DIR/.env and ./.env."

    def test_the_command_line_beats_the_environment(self) -> None:
        settings = load({"OMNIROUTE_PORT": "1"}, options={"OMNIROUTE_PORT": "2"})

        assert settings.port == 2

    def test_an_empty_value_is_no_value(self, cwd: Path) -> None:
        (cwd / ".env").write_text("SSE_HEARTBEAT_MS=2000\n")

        settings = load({"SSE_HEARTBEAT_MS": "", "JWT_SECRET": ""}, cwd)

        assert settings.sse_heartbeat_ms == 2000
        assert settings.jwt_secret is None

    def test_a_command_that_reads_no_working_directory_does_not(self, cwd: Path, monkeypatch: Any) -> None:
        (cwd / ".env").write_text("OMNIROUTE_PORT=1\n")
        monkeypatch.chdir(cwd)

        assert load({}, None).port == 20128

    def test_one_file_that_is_both_is_read_once(self, data_dir: Path) -> None:
        (data_dir / ".env").write_text("OMNIROUTE_PORT=7\n")

        settings = load({"DATA_DIR": str(data_dir)}, data_dir)

        assert settings.port == 7
        assert str(settings.notices[-1]) == "Settings were read from the environment and DATA_DIR/.env."

    def test_the_data_directory_is_relative_to_the_working_directory(self, cwd: Path) -> None:
        assert load({"DATA_DIR": "instance"}, cwd).data_dir == cwd / "instance"

    def test_a_data_directory_named_inside_itself_is_reported(self, data_dir: Path, cwd: Path) -> None:
        (data_dir / ".env").write_text("DATA_DIR=/elsewhere\n")

        settings = load({"DATA_DIR": str(data_dir)}, cwd)

        assert settings.data_dir == data_dir
        assert "DATA_DIR in DATA_DIR/.env has no effect" in warnings(settings)[0]

    def test_values_of_a_file_are_not_expanded(self, cwd: Path) -> None:
        (cwd / ".env").write_text("JWT_SECRET='a${HOME}$x'\nexport OMNIROUTE_INSTANCE_NAME=\"north one\" # here\n")

        settings = load({}, cwd)

        assert settings.jwt_secret == Secret("a${HOME}$x")
        assert settings.instance_name == "north one"

    def test_a_line_that_cannot_be_read_is_reported_with_its_number(self, cwd: Path) -> None:
        (cwd / ".env").write_text("OMNIROUTE_PORT=7\n'oops\n")

        settings = load({}, cwd)

        assert settings.port == 7
        assert warnings(settings) == ["./.env, line 2: this is not NAME=value and is ignored."]

    def test_a_file_that_is_not_text_stops_the_start(self, cwd: Path) -> None:
        (cwd / ".env").write_bytes(b"\xff\xfe\x00")

        assert refusal({}, cwd) == "./.env cannot be read: it is not UTF-8 text."

    def test_shared_names_of_a_foreign_file_are_left_alone(self, cwd: Path) -> None:
        (cwd / ".env").write_text("DATABASE_URL=postgresql://else/where\nHOST=0.0.0.0\nSSE_HEARTBEAT_MS=2000\n")

        settings = load({}, cwd)

        assert settings.database_url is None
        assert settings.host == "127.0.0.1"
        assert settings.sse_heartbeat_ms == 2000
        assert "DATABASE_URL, HOST in ./.env is ignored" in warnings(settings)[0]

    def test_shared_names_of_our_own_file_count(self, cwd: Path) -> None:
        (cwd / ".env").write_text("DATABASE_URL=postgresql://db/omni\nOMNIROUTE_METRICS=on\n")

        settings = load({}, cwd)

        assert settings.database_url == "postgresql://db/omni"
        assert warnings(settings) == []

    def test_shared_names_of_the_data_directory_count(self, data_dir: Path) -> None:
        (data_dir / ".env").write_text("DATABASE_URL=postgresql://db/omni\n")

        assert load({"DATA_DIR": str(data_dir)}).database_url == "postgresql://db/omni"


class TestSpellings:
    @pytest.mark.parametrize(
        ("environ", "field", "value"),
        [
            ({"OMNIROUTE_DATA_DIR": "/srv/omni"}, "data_dir", Path("/srv/omni")),
            ({"PORT": "81"}, "port", 81),
            ({"PORT": "81", "OMNIROUTE_PORT": "82"}, "port", 82),
            ({"HOST": "0.0.0.0"}, "host", "0.0.0.0"),
            ({"HOSTNAME": "192.0.2.7"}, "host", "192.0.2.7"),
            ({"HOSTNAME": "localhost"}, "host", "localhost"),
            ({"HOSTNAME": "my-laptop"}, "host", "127.0.0.1"),
            ({"HOST": "::1", "HOSTNAME": "192.0.2.7"}, "host", "::1"),
            ({"OMNIROUTE_HOST": "[::1]"}, "host", "::1"),
            ({"OMNIROUTE_PUBLIC_BASE_URL": "https://o.example/"}, "base_url", "https://o.example"),
            ({"STORAGE_ENCRYPTION_KEY": LONG}, "encryption_key", Secret(LONG)),
            ({"OMNIROUTE_CRYPT_KEY": LONG}, "encryption_key", Secret(LONG)),
            ({"ROUTER_API_KEY": LONG}, "env_api_key", Secret(LONG)),
            ({"CORS_ORIGIN": "https://a.example"}, "cors_allowed_origins", ("https://a.example",)),
            ({"OMNIROUTE_DATABASE_URL": "sqlite:////x.db"}, "database_url", "sqlite:////x.db"),
            ({"OMNIROUTE_DISABLE_BACKGROUND_SERVICES": "true"}, "scheduler", "off"),
        ],
    )
    def test_other_names(self, environ: dict[str, str], field: str, value: object) -> None:
        settings = load(environ)

        assert getattr(settings, field) == value
        assert warnings(settings) == []

    def test_the_port_decides_the_default_base_url(self) -> None:
        assert load({"PORT": "8080"}).base_url == "http://localhost:8080"

    def test_the_main_name_wins_and_a_warning_says_so(self) -> None:
        settings = load({"OMNIROUTE_HOST": "127.0.0.2", "HOST": "127.0.0.3"})

        assert settings.host == "127.0.0.2"
        assert warnings(settings) == [
            "OMNIROUTE_HOST in the environment and HOST in the environment differ; OMNIROUTE_HOST is used."
        ]

    def test_equal_values_need_no_warning(self) -> None:
        assert warnings(load({"BASE_URL": "https://o.example", "NEXT_PUBLIC_BASE_URL": "https://o.example"})) == []

    def test_an_old_spelling_names_the_new_one(self) -> None:
        texts = [str(notice) for notice in load({"NEXT_PUBLIC_BASE_URL": "https://o.example"}).notices]

        assert "NEXT_PUBLIC_BASE_URL is now spelt BASE_URL." in texts

    def test_two_different_secrets_under_two_names_stop_the_start(self) -> None:
        text = refusal({"OMNIROUTE_ENCRYPTION_KEY": "first" * 9, "STORAGE_ENCRYPTION_KEY": "second" * 9})

        assert (
            "OMNIROUTE_ENCRYPTION_KEY in the environment and STORAGE_ENCRYPTION_KEY in the environment differ" in text
        )
        assert "first" not in text
        assert "second" not in text

    def test_an_unknown_name_of_ours_gets_a_hint(self) -> None:
        assert warnings(load({"OMNIROUTE_WORKER_CONNECTION": "5", "OMNIROUTE_XYZZY": "1", "OTHER": "1"})) == [
            (
                "OMNIROUTE_WORKER_CONNECTION in the environment is not a setting of this version. "
                "Is OMNIROUTE_WORKER_CONNECTIONS meant?"
            ),
            "OMNIROUTE_XYZZY in the environment is not a setting of this version.",
        ]


class TestSecretFiles:
    def test_a_secret_can_come_from_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "jwt"
        file.write_text(f"{LONG}\n")

        settings = load({"JWT_SECRET_FILE": str(file)})

        assert settings.jwt_secret == Secret(LONG)
        assert settings.sources["jwt_secret"] == "JWT_SECRET_FILE in the environment"

    def test_a_database_url_too(self, tmp_path: Path) -> None:
        (tmp_path / "url").write_text("postgresql://u:p@db/o")

        assert load({"DATABASE_URL_FILE": str(tmp_path / "url")}).database_url == "postgresql://u:p@db/o"

    def test_other_settings_have_no_such_form(self, tmp_path: Path) -> None:
        (tmp_path / "port").write_text("99")

        assert load({"OMNIROUTE_PORT_FILE": str(tmp_path / "port")}).port == 20128

    @pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xff"])
    def test_an_unusable_file_stops_the_start(self, tmp_path: Path, content: bytes | None) -> None:
        file = tmp_path / "secret"
        if content is not None:
            file.write_bytes(content)

        assert refusal({"API_KEY_SECRET_FILE": str(file)}).startswith("API_KEY_SECRET_FILE (the environment): the file")

    def test_value_and_file_that_differ_stop_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "s").write_text("one")

        text = refusal({"JWT_SECRET": "another", "JWT_SECRET_FILE": str(tmp_path / "s")})

        assert text == "JWT_SECRET and JWT_SECRET_FILE are both set in the environment and differ: keep one."


class TestValues:
    @pytest.mark.parametrize(
        ("name", "text", "field", "value"),
        [
            *[("REQUIRE_API_KEY", text, "require_api_key", True) for text in ("true", "1", "YES", "On")],
            ("REQUIRE_API_KEY", "off", "require_api_key", False),
            ("OMNIROUTE_METRICS", "on", "metrics", True),
            ("OMNIROUTE_SSE_COMMENTS", "off", "sse_comments", False),
            ("MAX_BODY_SIZE_BYTES", "5M", "max_body_size_bytes", 5 << 20),
            ("MAX_BODY_SIZE_BYTES", "2k", "max_body_size_bytes", 2048),
            ("MAX_BODY_SIZE_BYTES", "1G", "max_body_size_bytes", 1 << 30),
            ("MAX_BODY_SIZE_BYTES", "77", "max_body_size_bytes", 77),
            ("NO_LOG_API_KEY_IDS", " key_a, key_b ,,key_a", "no_log_api_key_ids", ("key_a", "key_b")),
            ("OMNIROUTE_BASE_PATH", "/gate/way/", "base_path", "/gate/way"),
            ("OMNIROUTE_BASE_PATH", "/", "base_path", ""),
            ("OMNIROUTE_TRUST_PROXY", "2", "trust_proxy", "2"),
            ("OMNIROUTE_TRUST_PROXY", "10.1.2.3/8, ::1", "trust_proxy", "10.0.0.0/8,::1/128"),
            (
                "OMNIROUTE_ALLOWED_ORIGINS",
                "https://A.example/,http://b:8080",
                "allowed_origins",
                ("https://a.example", "http://b:8080"),
            ),
            ("REQUEST_TIMEOUT_MS", "5000", "request_timeout_ms", 5000),
            ("APP_LOG_LEVEL", "WARNING", "app_log_level", "warning"),
        ],
    )
    def test_accepted(self, name: str, text: str, field: str, value: object) -> None:
        assert getattr(load({name: text}), field) == value

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("OMNIROUTE_PORT", "0"),
            ("OMNIROUTE_PORT", "65536"),
            ("OMNIROUTE_PORT", "80a"),
            ("OMNIROUTE_PORT", "1_000"),
            ("OMNIROUTE_PORT", "٣٣"),
            ("WEB_CONCURRENCY", "65"),
            ("OMNIROUTE_MEMORY_MB", "63"),
            ("SSE_HEARTBEAT_MS", "999"),
            ("STREAM_COMMIT_AFTER_MS", "30001"),
            ("FETCH_TIMEOUT_MS", "-1"),
            ("FETCH_TIMEOUT_MS", "10s"),
            ("MAX_BODY_SIZE_BYTES", "5X"),
            ("MAX_BODY_SIZE_BYTES", "0"),
            ("REQUIRE_API_KEY", "maybe"),
            ("OMNIROUTE_SCHEDULER", "only"),
            ("OMNIROUTE_HOST", "not a host"),
            ("OMNIROUTE_HOST", "300.1.1.1"),
            ("BASE_URL", "localhost:20128"),
            ("BASE_URL", "ftp://x"),
            ("BASE_URL", "http://"),
            ("BASE_URL", "http://u:p@x"),
            ("BASE_URL", "http://x:99999"),
            ("OMNIROUTE_BASE_PATH", "gateway"),
            ("OMNIROUTE_BASE_PATH", "/a//b"),
            ("OMNIROUTE_TRUST_PROXY", "0"),
            ("OMNIROUTE_TRUST_PROXY", "everyone"),
            ("CORS_ALLOWED_ORIGINS", "https://a.example/path"),
            ("CORS_ALLOWED_ORIGINS", "*"),
            ("DATABASE_URL", "mysql://x"),
            ("OMNIROUTE_CA_BUNDLE", "/nonexistent/bundle.pem"),
            ("OMNIROUTE_INSTANCE_NAME", "a\x1b[31m"),
        ],
    )
    def test_refused(self, name: str, text: str) -> None:
        accepts = {v.name: v.kind.accepts for v in variables().values()}[name]

        assert refusal({name: text}) == f"{name} (the environment) is not valid: it takes {accepts}."

    def test_the_place_of_a_bad_value_is_named(self, data_dir: Path) -> None:
        (data_dir / ".env").write_text("WEB_CONCURRENCY=many\n")

        text = refusal({"DATA_DIR": str(data_dir)})

        assert text == "WEB_CONCURRENCY (DATA_DIR/.env) is not valid: it takes a whole number from 1 to 64."

    def test_the_guard_cannot_be_switched_off_on_a_public_bind(self) -> None:
        assert load({"OUTBOUND_SSRF_GUARD_ENABLED": "false"}).ssrf_guard_enabled is False
        assert "OUTBOUND_SSRF_GUARD_ENABLED" in refusal(
            {"OUTBOUND_SSRF_GUARD_ENABLED": "false", "OMNIROUTE_HOST": "0.0.0.0"}
        )

    def test_limits_that_contradict_each_other_stop_the_start(self) -> None:
        assert "STREAM_READINESS_MAX_TIMEOUT_MS" in refusal({"STREAM_READINESS_TIMEOUT_MS": "200000"})

    @pytest.mark.parametrize("name", ["PII_REDACTION_ENABLED", "OMNIROUTE_IMPORT_ENV_KEYS"])
    def test_a_setting_that_this_version_does_not_have_gets_a_warning(self, name: str) -> None:
        warnings = [notice.text for notice in load({name: "1"}).notices if notice.level is Level.WARNING]

        assert len(warnings) == 1
        assert warnings[0].startswith(f"{name} in the environment is not a setting of this version.")

    @given(st.sampled_from(list(variables().values())), st.text(min_size=1, max_size=40))
    def test_any_text_is_read_or_refused_in_the_same_words(self, variable: Variable, text: str) -> None:
        refusals = {
            f"{variable.name} (the environment) is not valid: it takes {variable.kind.accepts}.",
            "STREAM_READINESS_MAX_TIMEOUT_MS must not be less than STREAM_READINESS_TIMEOUT_MS.",
        }

        with contextlib.suppress(ConfigurationError):
            load({variable.name: text})
            return
        assert refusal({variable.name: text}) in refusals


class TestTheObject:
    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            load({}).port = 1  # type: ignore[misc]

    def test_no_secret_is_in_its_text(self) -> None:
        canary = "canary-" + LONG
        names = [v.name for v in variables().values() if v.kind.is_secret and v.name != "DATABASE_URL"]
        settings = load(
            {**dict.fromkeys(names, canary), "DATABASE_URL": f"postgresql://u:{canary}@h/d", "X_API_KEY": canary}
        )

        assert len(names) >= 5
        assert canary not in repr(settings)
        assert canary not in " ".join(str(notice) for notice in settings.notices)
        assert canary not in repr(settings.sources)

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("127.0.0.1", "http://127.0.0.1:5"),
            ("0.0.0.0", "http://127.0.0.1:5"),
            ("::", "http://[::1]:5"),
            ("::1", "http://[::1]:5"),
            ("gateway.example", "http://gateway.example:5"),
        ],
    )
    def test_local_address(self, host: str, url: str) -> None:
        assert Settings(data_dir=Path("/x"), host=host, port=5).local_url == url

    @pytest.mark.parametrize(
        ("host", "loopback"),
        [
            ("127.0.0.1", True),
            ("127.9.9.9", True),
            ("::1", True),
            ("[::1]", True),
            ("LocalHost", True),
            ("0.0.0.0", False),
            ("::", False),
            ("192.0.2.1", False),
            ("localhost.example", False),
            ("", False),
        ],
    )
    def test_loopback(self, host: str, loopback: bool) -> None:
        assert is_loopback_host(host) is loopback

    def test_each_field_is_in_the_table_with_words(self) -> None:
        described = variables()
        extra = {"sources", "notices"}

        assert {f.name for f in dataclasses.fields(Settings)} == set(described) | extra
        assert all(v.doc.endswith(".") and len(v.doc) < 160 for v in described.values())
        assert all(shown_default(name) for name in described)

    def test_no_name_belongs_to_two_settings(self) -> None:
        names = [name for variable in variables().values() for name in variable.names]

        assert len(names) == len(set(names))
