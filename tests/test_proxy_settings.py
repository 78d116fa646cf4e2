"""The proxies of the environment, as they are read once at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniroute.errors import ConfigurationError
from omniroute.records import Proxy, ProxyType
from omniroute.secret import Secret
from omniroute.settings import Settings

PASSWORD = "a-long-password-of-the-proxy"


def load(tmp_path: Path, **environ: str) -> Settings:
    return Settings.load({"DATA_DIR": str(tmp_path), **environ}, None)


def read(tmp_path: Path, text: str) -> Proxy:
    found = load(tmp_path, HTTPS_PROXY=text).https_proxy
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy.example.com:3128", (ProxyType.HTTP, "proxy.example.com", 3128, None, None)),
        ("http://Proxy.example.com/", (ProxyType.HTTP, "proxy.example.com", 80, None, None)),
        ("proxy_1:3128", (ProxyType.HTTP, "proxy_1", 3128, None, None)),
        ("https://10.0.0.1", (ProxyType.HTTPS, "10.0.0.1", 443, None, None)),
        ("socks5://[::1]", (ProxyType.SOCKS5, "::1", 1080, None, None)),
        ("SOCKS5H://ann:p%40ss@x:1", (ProxyType.SOCKS5H, "x", 1, "ann", "p@ss")),
        ("http://ann@x", (ProxyType.HTTP, "x", 80, "ann", None)),
    ],
)
def test_urls_of_proxies(tmp_path: Path, text: str, expected: tuple[object, ...]) -> None:
    proxy = read(tmp_path, text)
    password = None if proxy.password is None else proxy.password.reveal()
    assert (proxy.type, proxy.host, proxy.port, proxy.username, password) == expected


@pytest.mark.parametrize(
    "text",
    [
        "ftp://x",
        "socks4://x",
        "http://",
        "http://x/path",
        "http://x?y",
        "http://x:0",
        "http://x:99999",
        "a b",
        "http://-",
    ],
)
def test_what_is_none_stops_the_start_without_showing_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, HTTP_PROXY=text)
    assert str(caught.value).startswith("HTTP_PROXY (the environment) is not valid")


def test_small_letters_count_after_capitals(tmp_path: Path) -> None:
    settings = load(tmp_path, https_proxy="http://small", HTTP_PROXY="http://large", http_proxy="http://small")
    assert settings.https_proxy is not None
    assert settings.http_proxy is not None
    assert (settings.https_proxy.host, settings.http_proxy.host) == ("small", "large")
    assert load(tmp_path, no_proxy="a,.b").no_proxy == ("a", ".b")


def test_a_password_is_never_in_the_text_of_the_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, ALL_PROXY=f"socks5://ann:{PASSWORD}@x")
    assert settings.all_proxy is not None
    assert settings.all_proxy.password == Secret(PASSWORD)
    assert PASSWORD not in repr(settings) + repr(settings.all_proxy)


def test_a_foreign_file_sets_no_proxy(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".env").write_text("HTTP_PROXY=http://theirs\nAPP=1\n")
    settings = Settings.load({"DATA_DIR": str(tmp_path)}, tmp_path / "work")
    assert settings.http_proxy is None
    assert any("HTTP_PROXY in ./.env is ignored" in str(notice) for notice in settings.notices)


def test_the_service_that_tells_addresses_can_be_switched_off(tmp_path: Path) -> None:
    assert load(tmp_path).public_ip_url == "https://api.ipify.org"
    assert load(tmp_path, OMNIROUTE_PUBLIC_IP_URL="off").public_ip_url is None
    assert load(tmp_path, OMNIROUTE_PUBLIC_IP_URL="http://127.0.0.1/ip").public_ip_url == "http://127.0.0.1/ip"
