"""Which proxy a request takes: precedence, exceptions, what the environment says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.gateway.egress import Egress
from omniroute.gateway.proxies import ProxyChoice
from omniroute.providers.upstream import Sender, UpstreamRequest
from omniroute.records import AuthType, Connection, Proxy, ProxyBinding, ProxyLevel, ProxyType, Snapshot
from omniroute.secret import Secret
from omniroute.settings import Settings

SENDER = Sender("openai", "conn_1", "key_1", "combo_1")
AT = {
    ProxyLevel.KEY: "key_1",
    ProxyLevel.COMBO: "combo_1",
    ProxyLevel.PROVIDER: "openai",
    ProxyLevel.GLOBAL: "",
}
ENVIRONMENT = Proxy("", "the environment's proxy", ProxyType.HTTP, "env.example.com", 3128)


def proxy_of(level: ProxyLevel, **more: Any) -> Proxy:
    return Proxy(f"proxy_{level}", level.value, ProxyType.HTTP, f"{level}.example.com", 3128, **more)


def connection(*, proxy_enabled: bool = True) -> Connection:
    return Connection("conn_1", "openai", AuthType.NONE, "c", 1, True, None, proxy_enabled=proxy_enabled)


def choice(
    settings: Settings, *levels: ProxyLevel, connections: tuple[Connection, ...] = (), **changes: Any
) -> ProxyChoice:
    bound = tuple(ProxyBinding(level, AT[level], f"proxy_{level}") for level in levels)
    snapshot = Snapshot(
        1, connections=connections, proxies=tuple(proxy_of(level) for level in levels), proxy_bindings=bound
    )
    changed = dataclasses.replace(settings, **changes)
    return ProxyChoice(changed, Egress(changed), snapshot)


def level_of(made: ProxyChoice, sender: Sender = SENDER, url: tuple[str, str, int] | None = None) -> str | None:
    if made.current is None:
        return None
    way = made.current.of(sender, *(url or ("https", "api.openai.com", 443)))
    return None if way is None else way.level.value


ORDER = [ProxyLevel.KEY, ProxyLevel.COMBO, ProxyLevel.PROVIDER, ProxyLevel.GLOBAL]


@pytest.mark.parametrize("bits", range(16))
@pytest.mark.parametrize("has_environment", [False, True])
def test_the_first_level_that_has_one_counts(settings: Settings, bits: int, has_environment: bool) -> None:
    levels = [level for place, level in enumerate(ORDER) if bits >> place & 1]
    changes: dict[str, Any] = {"all_proxy": ENVIRONMENT} if has_environment else {}
    expected = levels[0].value if levels else "environment" if has_environment else None
    assert level_of(choice(settings, *levels, **changes)) == expected


@pytest.mark.parametrize("bits", range(16))
def test_a_connection_without_proxies_keeps_those_of_key_and_combo(settings: Settings, bits: int) -> None:
    levels = [level for place, level in enumerate(ORDER) if bits >> place & 1]
    made = choice(settings, *levels, connections=(connection(proxy_enabled=False),), all_proxy=ENVIRONMENT)
    kept = [level.value for level in levels if level in (ProxyLevel.KEY, ProxyLevel.COMBO)]
    assert level_of(made) == (kept[0] if kept else None)


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (Sender(), "global"),
        (Sender("anthropic", "conn_2"), "global"),
        (Sender("openai", "conn_2"), "provider"),
        (Sender("openai", "conn_2", "key_2", "combo_2"), "provider"),
        (Sender("anthropic", "conn_2", "key_2", "combo_1"), "combo"),
        (Sender("anthropic", "conn_2", "key_1", "combo_1"), "key"),
    ],
)
def test_each_level_is_about_its_own(settings: Settings, sender: Sender, expected: str) -> None:
    assert level_of(choice(settings, *ORDER), sender) == expected


def test_without_proxies_there_is_nothing_to_look_at(settings: Settings) -> None:
    assert choice(settings).current is None
    assert choice(settings, connections=(connection(proxy_enabled=False),)).current is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "127.9.9.9"])
def test_this_machine_is_not_reached_through_another(settings: Settings, host: str) -> None:
    made = choice(settings, *ORDER, all_proxy=ENVIRONMENT)
    assert level_of(made, url=("http", host, 11434)) is None
    here = dataclasses.replace(ENVIRONMENT, host="127.0.0.1")
    assert level_of(choice(settings, all_proxy=here), url=("http", host, 11434)) == "environment"


def test_the_environment_has_a_proxy_per_scheme(settings: Settings) -> None:
    one, two = dataclasses.replace(ENVIRONMENT, port=1), dataclasses.replace(ENVIRONMENT, port=2)
    made = choice(settings, http_proxy=one, all_proxy=two)
    assert made.current is not None
    plain, secure = made.current.of(SENDER, "http", "a.example.com", 80), made.current.of(SENDER, "https", "a", 443)
    assert plain is not None
    assert secure is not None
    assert (plain.proxy.port, plain.proxy.name) == (1, "HTTP_PROXY")
    assert (secure.proxy.port, secure.proxy.name) == (2, "ALL_PROXY")
    only = choice(settings, https_proxy=one)
    assert level_of(only, url=("http", "a.example.com", 80)) is None
    assert level_of(only) == "environment"


@pytest.mark.parametrize(
    ("entries", "host", "port", "is_direct"),
    [
        (("*",), "api.openai.com", 443, True),
        (("openai.com",), "api.openai.com", 443, True),
        ((".openai.com",), "api.openai.com", 443, True),
        (("*.openai.com",), "api.openai.com", 443, True),
        (("OpenAI.com",), "openai.com", 443, True),
        (("openai.com",), "notopenai.com", 443, False),
        (("openai.com:8443",), "openai.com", 443, False),
        (("openai.com:8443",), "openai.com", 8443, True),
        (("10.0.0.0/8",), "10.1.2.3", 80, True),
        (("10.0.0.0/8",), "11.1.2.3", 80, False),
        (("10.0.0.1",), "10.0.0.1", 80, True),
        (("fd00::/8",), "fd12::1", 80, True),
        (("[fd12::1]",), "fd12::1", 80, True),
        (("10.0.0.0/8",), "ten.example.com", 80, False),
        (("", "internal"), "model.internal", 80, True),
    ],
)
def test_exceptions_of_the_environment(
    settings: Settings, entries: tuple[str, ...], host: str, port: int, is_direct: bool
) -> None:
    made = choice(settings, all_proxy=ENVIRONMENT, no_proxy=entries)
    assert level_of(made, url=("https", host, port)) == (None if is_direct else "environment")
    bound = choice(settings, ProxyLevel.GLOBAL, all_proxy=ENVIRONMENT, no_proxy=entries)
    assert level_of(bound, url=("https", host, port)) == "global", "what is bound has no exceptions"


def test_it_follows_the_configuration(settings: Settings) -> None:
    made = choice(settings)
    snapshot = Snapshot(
        2,
        connections=(connection(),),
        proxies=(proxy_of(ProxyLevel.GLOBAL),),
        proxy_bindings=(ProxyBinding(ProxyLevel.GLOBAL, "", "proxy_global"),),
    )
    made.rebuild(snapshot)
    assert level_of(made) == "global"
    first = made.current
    made.rebuild(dataclasses.replace(snapshot, version=3))
    assert made.current is first, "nothing about proxies has changed"
    made.rebuild(dataclasses.replace(snapshot, version=4, connections=(connection(proxy_enabled=False),)))
    assert level_of(made) is None
    made.rebuild(Snapshot(5))
    assert made.current is None


def test_what_connections_depend_on_keeps_them_apart(settings: Settings) -> None:
    base = proxy_of(ProxyLevel.GLOBAL, username="ann", password=Secret("pw-first"))
    others = [
        dataclasses.replace(base, password=Secret("pw-second")),
        dataclasses.replace(base, username="bob"),
        dataclasses.replace(base, port=1),
        dataclasses.replace(base, type=ProxyType.SOCKS5),
        dataclasses.replace(base, id="proxy_other"),
    ]
    made = choice(settings)
    keys = {made.trial(proxy).key for proxy in (base, base, *others)}
    assert len(keys) == len(others) + 2
    assert not any("pw-" in key for key in keys)
    assert "pw-" not in repr(made.trial(base))


def test_requests_say_for_whom_only_where_that_matters(settings: Settings) -> None:
    sent: list[UpstreamRequest] = []

    def send(request: UpstreamRequest) -> Any:
        sent.append(request)

    request = UpstreamRequest("GET", "https://a.example.com/", (), b"", sender=Sender("openai", "conn_1"))
    made = choice(settings, ProxyLevel.KEY)
    assert made.on_behalf(send, key="key_2", combo="combo_1") is send
    made.on_behalf(send, key="key_1", combo="combo_1")(request)
    assert sent[0].sender == SENDER
    assert choice(settings).on_behalf(send, key="key_1") is send


@given(st.lists(st.text(max_size=12), max_size=4), st.text(max_size=12), st.integers(0, 65535))
def test_no_exception_list_can_break_a_request(entries: list[str], host: str, port: int) -> None:
    settings = Settings(data_dir=None, all_proxy=ENVIRONMENT, no_proxy=tuple(entries))  # type: ignore[arg-type]
    made = ProxyChoice(settings, Egress(settings), Snapshot(1))
    assert level_of(made, url=("https", host, port)) in ("environment", None)
