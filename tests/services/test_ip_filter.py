"""The address filter: what its list and bans mean, how it is changed, and that nobody locks himself out by mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import Conflict, ValidationFailed
from omniroute.services.ip_filter import Ban, FilterState, IpFilter, Mode, Verdicts
from omniroute.services.keys import SYSTEM
from tests.harness import NOW, Gateway

HERE = replace(SYSTEM, address="192.0.2.50")
OFF = FilterState(False, Mode.BLOCK, (), ())


def verdicts(mode: Mode = Mode.BLOCK, *entries: str, bans: tuple[Ban, ...] = ()) -> Verdicts:
    return Verdicts(FilterState(True, mode, entries, bans))


@pytest.mark.parametrize(
    ("address", "is_listed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_a_list_keeps_out_or_lets_in(address: str, is_listed: bool) -> None:
    entries = ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32")
    assert verdicts(Mode.BLOCK, *entries).refuses(address, NOW) is is_listed
    assert verdicts(Mode.ALLOW, *entries).refuses(address, NOW) is not is_listed


def test_a_ban_ends_and_counts_only_while_the_filter_is_on() -> None:
    ban = Ban("203.0.113.0/24", NOW + 60)
    on = verdicts(Mode.ALLOW, "203.0.113.0/24", bans=(ban,))
    assert on.refuses("203.0.113.9", NOW)
    assert not on.refuses("203.0.113.9", NOW + 60)
    off = Verdicts(replace(OFF, bans=(ban,)))
    assert not off.is_on
    assert not off.refuses("203.0.113.9", NOW)


@given(
    st.lists(
        st.ip_addresses()
        | st.builds(lambda a, n: ip_network((int(a), n), strict=False), st.ip_addresses(v=4), st.integers(1, 32)),
        max_size=5,
    ),
    st.ip_addresses(),
)
def test_the_compiled_list_says_what_each_network_says(entries: list[Any], address: Any) -> None:
    networks = [ip_network(entry) for entry in entries]
    mapped = getattr(address, "ipv4_mapped", None) or address
    expected = any(mapped in network for network in networks if network.version == mapped.version)
    assert verdicts(Mode.BLOCK, *map(str, networks)).refuses(str(ip_address(address)), NOW) is expected


@pytest.fixture
def filter_of(gateway: Gateway) -> IpFilter:
    return IpFilter(database=gateway.database, snapshots=gateway.snapshots, audit=gateway.audit, now=gateway.clock)


def test_a_list_is_kept_as_networks_in_their_order(filter_of: IpFilter, gateway: Gateway) -> None:
    given_ = ["203.0.113.9", "10.1.2.3/8", "::ffff:198.51.100.0/120", "2001:db8::5"]
    state = filter_of.change({"enabled": True, "list": given_}, SYSTEM, is_local=True)
    assert state.entries == ("203.0.113.9/32", "10.0.0.0/8", "198.51.100.0/24", "2001:db8::5/128")
    assert filter_of.state() == state
    (row,) = gateway.audited("ipfilter.changed")
    assert row.details["enabled"] == [False, True]
    assert row.details["added"] == sorted(state.entries)


def test_each_mode_has_a_list_of_its_own(filter_of: IpFilter) -> None:
    filter_of.change({"list": ["10.0.0.0/8"]}, SYSTEM, is_local=True)
    filter_of.change({"mode": "allow", "list": ["192.0.2.0/24"]}, SYSTEM, is_local=True)
    assert filter_of.change({"mode": "block"}, SYSTEM, is_local=True).entries == ("10.0.0.0/8",)
    assert filter_of.change({"mode": "allow"}, SYSTEM, is_local=True).entries == ("192.0.2.0/24",)


def test_bans_are_given_by_their_end_or_their_length(filter_of: IpFilter, gateway: Gateway) -> None:
    bans = [{"address": "203.0.113.9", "minutes": 5, "reason": "noise"}, {"address": "10.0.0.0/8", "until": NOW + 9}]
    state = filter_of.change({"tempBans": bans}, SYSTEM, is_local=True)
    assert [(ban.cidr, ban.until, ban.reason) for ban in state.bans] == [
        ("203.0.113.9/32", NOW + 300, "noise"),
        ("10.0.0.0/8", NOW + 9, None),
    ]
    gateway.clock.pass_(10)
    assert [ban.cidr for ban in filter_of.state().bans] == ["203.0.113.9/32"]
    filter_of.change({"list": ["192.0.2.9"]}, SYSTEM, is_local=True)
    assert [ban.created_at for ban in filter_of.state().bans] == [NOW], "what is not given stays"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"list": ["nonsense"]}, "list"),
        ({"list": ["0.0.0.0/0"]}, "list"),
        ({"list": ["::/0"]}, "list"),
        ({"enabled": True, "mode": "allow"}, "list"),
        ({"tempBans": [{"address": "x", "minutes": 1}]}, "tempBans[0].address"),
        ({"tempBans": [{"address": "10.0.0.1"}]}, "tempBans[0]"),
        ({"tempBans": [{"address": "10.0.0.1", "minutes": 1, "until": NOW + 5}]}, "tempBans[0]"),
        ({"tempBans": [{"address": "10.0.0.1", "until": NOW - 5}]}, "tempBans[0].until"),
        ({"tempBans": [{"address": "10.0.0.1", "until": NOW + 400 * 86_400}]}, "tempBans[0].until"),
        ({"tempBans": [{"address": "10.0.0.1", "minutes": 1}] * 2}, "tempBans[1].address"),
    ],
)
def test_what_means_nothing_is_refused(filter_of: IpFilter, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        filter_of.change(fields, SYSTEM, is_local=True)
    assert caught.value.details[0]["field"] == field
    assert filter_of.state() == OFF


@pytest.mark.parametrize(
    "fields",
    [
        {"enabled": True, "list": ["192.0.2.0/24"]},
        {"enabled": True, "mode": "allow", "list": ["10.0.0.0/8"]},
        {"enabled": True, "tempBans": [{"address": "192.0.2.50", "minutes": 5}]},
    ],
)
def test_nobody_locks_himself_out_by_mistake(filter_of: IpFilter, fields: dict[str, Any]) -> None:
    with pytest.raises(Conflict) as caught:
        filter_of.change(fields, HERE, is_local=False)
    assert caught.value.error_code == "would_lock_out"
    assert filter_of.state() == OFF
    assert filter_of.change({**fields, "enabled": False}, HERE, is_local=False).is_enabled is False
    assert filter_of.change(fields, HERE, is_local=False, is_forced=True).is_enabled
    assert filter_of.change(fields, HERE, is_local=True).is_enabled, "this host is never kept out"


def test_a_change_to_what_holds_already_is_none(filter_of: IpFilter, gateway: Gateway) -> None:
    filter_of.change({"list": ["10.0.0.0/8"]}, SYSTEM, is_local=True)
    version = gateway.snapshots.current.version
    filter_of.change({"list": ["10.0.0.0/8"], "enabled": False}, SYSTEM, is_local=True)
    assert gateway.snapshots.current.version == version


# --- at the door -----------------------------------------------------------------------------------------------------


@pytest.fixture
def closed(gateway: Gateway, filter_of: IpFilter) -> Gateway:
    filter_of.change({"enabled": True, "list": ["198.51.100.0/24"]}, SYSTEM, is_local=True)
    return gateway


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/api/keys"),
        ("GET", "/login"),
        ("GET", "/healthz"),
        ("GET", "/api/init"),
    ],
)
def test_who_is_kept_out_gets_nowhere(closed: Gateway, method: str, path: str) -> None:
    kept_out = closed.client(address="198.51.100.9").open(path, method=method)
    assert (kept_out.status_code, kept_out.headers["X-OmniRoute-Error-Code"]) == (403, "ip_blocked")
    other = closed.client(address="203.0.113.9").open(path, method=method)
    assert other.headers.get("X-OmniRoute-Error-Code") != "ip_blocked"


def test_the_filter_comes_before_credentials_and_after_preflights(closed: Gateway) -> None:
    key = closed.issue(scopes=("admin",)).secret
    client = closed.client(address="198.51.100.9")
    answer = client.get("/api/keys", headers={"Authorization": f"Bearer {key}"})
    assert answer.headers["X-OmniRoute-Error-Code"] == "ip_blocked"
    assert client.options("/v1/chat/completions").status_code == 204


def test_this_host_always_passes(closed: Gateway, filter_of: IpFilter) -> None:
    filter_of.change({"mode": "allow", "list": ["203.0.113.0/24"]}, SYSTEM, is_local=True)
    assert closed.client().get("/api/init").status_code == 200
    assert closed.client(address="::1").get("/api/init").status_code == 200
    forwarded = closed.client().get("/api/init", headers={"X-Forwarded-For": "203.0.113.9"})
    assert forwarded.status_code == 403, "a header makes nobody local, and is not believed either"


def test_a_trusted_proxy_says_who_it_is(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(trust_proxy="127.0.0.1/32")
    own = IpFilter(database=gateway.database, snapshots=gateway.snapshots, audit=gateway.audit, now=gateway.clock)
    own.change({"enabled": True, "list": ["198.51.100.0/24"]}, SYSTEM, is_local=True)
    client = gateway.client()
    assert client.get("/api/init", headers={"X-Forwarded-For": "198.51.100.9"}).status_code == 403
    assert client.get("/api/init", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 200


def test_a_change_holds_for_other_workers_and_an_ended_ban_for_none(gateway: Gateway, filter_of: IpFilter) -> None:
    other = gateway.other_worker()
    filter_of.change({"enabled": True, "tempBans": [{"address": "198.51.100.9", "minutes": 1}]}, SYSTEM, is_local=True)
    other.snapshots.poll_once()
    client = other.client(address="198.51.100.9")
    assert client.get("/api/init").status_code == 403
    gateway.clock.pass_(61)
    assert client.get("/api/init").status_code == 200
