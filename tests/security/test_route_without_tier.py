"""Every route, method and mount has exactly one row in the table; what has none keeps the server from starting."""

from __future__ import annotations

import pytest
from flask import Flask

from omniroute.blueprints.tiers import ROUTES, Route, Tier, shape, verify
from omniroute.errors import ConfigurationError
from omniroute.factory import build
from omniroute.settings import Settings
from tests.harness import Gateway, add_stand_ins


def app_with(*rules: tuple[str, str, list[str]]) -> Flask:
    app = Flask("planted", static_folder=None)
    for rule, name, methods in rules:
        app.add_url_rule(rule, name, lambda: "", methods=methods)
    return app


def test_the_real_application_matches_the_table(settings: Settings) -> None:
    app = build(settings)
    table = verify(app.url_map)
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert set(table) == rules
    for rule in app.url_map.iter_rules():
        assert set(rule.methods or ()) <= set(table[rule.rule]), f"{rule.rule} has an unguarded method"


def test_no_rule_and_method_has_two_rows() -> None:
    seen = [(shape(route.rule), method) for route in ROUTES for method in route.methods]
    assert len(seen) == len(set(seen))


def test_a_planted_route_is_found() -> None:
    app = app_with(("/api/keys", "keys", ["GET"]), ("/api/backdoor", "backdoor", ["GET"]))
    with pytest.raises(ConfigurationError, match="GET /api/backdoor has no row"):
        verify(app.url_map, [Route(("GET",), "/api/keys", Tier.M_READ)])


def test_a_planted_method_on_a_declared_rule_is_found() -> None:
    app = app_with(("/api/keys", "keys", ["GET", "DELETE"]))
    with pytest.raises(ConfigurationError, match="DELETE /api/keys has no row"):
        verify(app.url_map, [Route(("GET",), "/api/keys", Tier.M_READ)])


def test_a_row_without_a_route_is_found() -> None:
    app = app_with(("/api/keys", "keys", ["GET"]))
    rows = [Route(("GET",), "/api/keys", Tier.M_READ), Route(("GET",), "/api/gone", Tier.P)]
    with pytest.raises(ConfigurationError, match="GET /api/gone has a row but no view"):
        verify(app.url_map, rows)


def test_two_rows_for_one_route_are_found() -> None:
    app = app_with(("/api/keys", "keys", ["GET"]))
    rows = [Route(("GET",), "/api/keys", Tier.M_READ), Route(("GET",), "/api/keys", Tier.P)]
    with pytest.raises(ConfigurationError, match="has two rows"):
        verify(app.url_map, rows)


def test_two_views_for_one_route_are_found() -> None:
    app = app_with(("/api/keys/<a>", "one", ["GET"]))
    app.add_url_rule("/api/keys/<a>", "two", lambda: "", methods=["GET"])
    with pytest.raises(ConfigurationError, match="served by two views"):
        verify(app.url_map, [Route(("GET",), "/api/keys/<key_id>", Tier.M_READ)])


def test_another_converter_is_another_rule() -> None:
    app = app_with(("/api/keys/<path:anything>", "keys", ["GET"]))
    with pytest.raises(ConfigurationError, match="no row"):
        verify(app.url_map, [Route(("GET",), "/api/keys/<key_id>", Tier.M_READ)])


def test_head_and_options_share_the_row_of_their_rule() -> None:
    app = app_with(("/api/keys", "keys", ["GET"]), ("/api/make", "make", ["POST"]))
    table = verify(
        app.url_map, [Route(("GET",), "/api/keys", Tier.M_READ), Route(("POST",), "/api/make", Tier.M_ADMIN)]
    )
    assert table["/api/keys"]["HEAD"] is table["/api/keys"]["GET"] is table["/api/keys"]["OPTIONS"]
    assert table["/api/make"]["OPTIONS"].tier is Tier.M_ADMIN


def test_a_route_that_came_after_the_seal_is_not_served(gateway: Gateway) -> None:
    gateway.app._got_first_request = False
    gateway.app.add_url_rule("/api/late", "late", lambda: "secret")
    answer = gateway.client().get("/api/late")
    assert answer.status_code == 404
    assert "secret" not in answer.get_data(as_text=True)


def test_without_a_seal_nothing_is_served() -> None:
    from omniroute.blueprints.guard import Guard

    app = Flask("unsealed")
    add_stand_ins(app)
    guard = Guard(access=None, sessions=None, audit=None, now=lambda: 0.0)  # type: ignore[arg-type]
    app.before_request(guard.check)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = app.test_client().get("/healthz")
    assert answer.status_code == 500
