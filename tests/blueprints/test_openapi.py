"""The description of the API is complete, valid, and what the code says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from omniroute.blueprints.contract import operation_of
from omniroute.blueprints.openapi import OpenApiDocument, describe, is_described
from omniroute.blueprints.openapi_texts import PATH_PARAMETERS, TAGS
from omniroute.blueprints.tiers import ROUTES, Family, Route, Tier, verify
from omniroute.errors import ConfigurationError
from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app

METHODS = frozenset({"get", "put", "post", "patch", "delete"})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    data_dir = tmp_path_factory.mktemp("openapi") / "data"
    data_dir.mkdir(mode=0o700)
    with whole_app(Settings(data_dir=data_dir, instance_name="test", app_log_to_file=False)) as app:
        yield app


@pytest.fixture(scope="module")
def document(running: App) -> OpenApiDocument:
    return describe(running.app)


def operations(document: OpenApiDocument) -> dict[tuple[str, str], dict[str, Any]]:
    items = document["paths"].items()
    return {(method.upper(), path): one for path, item in items for method, one in item.items() if method in METHODS}


def test_it_is_valid(document: OpenApiDocument) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(dict(document)).iter_errors()] == []


def test_each_route_is_in_it(running: App, document: OpenApiDocument) -> None:
    """All of `/api` and `/v1`, as the URL map has them, but for the mounts that the introduction names."""
    written = operations(document)
    left_out = [
        rule.rule
        for rule in running.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not any(one == method and _same(path, rule.rule) for one, path in written)
    ]
    api = [
        rule for rule in left_out if rule.startswith(("/api", "/v1")) and not rule.startswith(("/v1/v1", "/v1/api/"))
    ]
    assert api == []
    assert any(rule.startswith("/v1/v1/") for rule in left_out)
    assert all(name in document["info"]["description"] for name in ("`/v1/v1`", "`/v1/api`", "without a prefix"))


def _same(path: str, rule: str) -> bool:
    def parts(text: str) -> list[str]:
        return ["*" if part.startswith(("{", "<")) else part for part in text.split("/")]

    return parts(path) == parts(rule)


def test_no_page_is_in_it(document: OpenApiDocument) -> None:
    assert [path for _, path in operations(document) if path.startswith(("/dashboard", "/login", "/static"))] == []


def test_each_operation_says_what_it_is(document: OpenApiDocument) -> None:
    found = operations(document)
    assert len({one["operationId"] for one in found.values()}) == len(found)
    assert [key for key, one in found.items() if not one["summary"].endswith((".", "!"))] == []
    assert [key for key, one in found.items() if one["x-omniroute-tier"] not in set(Tier)] == []
    assert [tag for one in found.values() for tag in one["tags"] if tag not in TAGS] == []
    names = {
        parameter["name"]
        for one in found.values()
        for parameter in one.get("parameters", ())
        if parameter["in"] == "path"
    }
    assert names - set(PATH_PARAMETERS) == set()


def test_each_answer_has_a_shape(document: OpenApiDocument) -> None:
    for key, one in operations(document).items():
        for status, answer in one["responses"].items():
            if status.startswith("2"):
                schemas = [content["schema"] for content in answer.get("content", {}).values()]
                assert schemas, (key, status)
                assert all(schemas), (key, status)


def test_no_two_documents_have_one_name(document: OpenApiDocument) -> None:
    assert [name for name in document["components"]["schemas"] if "." in name] == []


def test_who_may_call_is_said(document: OpenApiDocument) -> None:
    found = operations(document)
    assert found["GET", "/api/init"]["security"] == []
    assert {} in found["POST", "/v1/chat/completions"]["security"]
    assert {} in found["GET", "/api/monitoring/health"]["security"]
    keys = found["POST", "/api/keys"]
    assert (keys["x-omniroute-tier"], keys["x-omniroute-scope"]) == ("M:w", "write")
    assert {"bearer": []} in keys["security"]
    assert {} not in keys["security"]
    closed = {key for key, one in found.items() if one["security"] and {} not in one["security"]}
    assert [key for key in closed if not {"401", "403"} <= set(found[key]["responses"])] == []


def test_refusals_speak_the_dialect_of_their_path(document: OpenApiDocument) -> None:
    found = operations(document)
    for key, name in {
        ("POST", "/api/keys"): "Management400",
        ("POST", "/v1/chat/completions"): "Openai400",
        ("POST", "/v1/messages"): "Anthropic529",
        ("POST", "/v1beta/models/{model}"): "Gemini404",
        ("POST", "/api/chat"): "Ollama404",
        ("GET", "/metrics"): "Plain401",
    }.items():
        status = name[-3:]
        assert found[key]["responses"][status] == {"$ref": f"#/components/responses/{name}"}
    assert "502" not in found["POST", "/v1/messages"]["responses"]
    errors = document["components"]["responses"]["Management429"]["headers"]
    assert {"X-OmniRoute-Error-Code", "Retry-After", "X-OmniRoute-Request-Id"} <= set(errors)


def test_bodies_are_closed_and_know_their_aliases(document: OpenApiDocument) -> None:
    reference = operations(document)["POST", "/api/providers"]["requestBody"]["content"]["application/json"]["schema"]
    body = document["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
    assert body["additionalProperties"] is False
    assert body["required"] == ["provider"]
    assert body["properties"]["maxConcurrent"]["x-omniroute-alias-of"] == "concurrentRequests"
    assert body["properties"]["apiKey"]["writeOnly"] is True


def test_lists_say_how_many_rows_there_are(document: OpenApiDocument) -> None:
    found = operations(document)["GET", "/api/keys"]
    headers = found["responses"]["200"]["headers"]
    assert {"X-Total-Count", "ETag"} <= set(headers)
    assert "304" in found["responses"]
    assert {"limit", "offset", "q", "sort"} <= {parameter["name"] for parameter in found["parameters"]}


def test_other_names_lead_to_the_first(document: OpenApiDocument) -> None:
    found = operations(document)
    assert found["GET", "/api/usage/history"]["x-omniroute-alias-of"] == "GET /api/usage/logs"
    assert found["PATCH", "/api/keys/{keyId}"]["x-omniroute-alias-of"] == "PUT /api/keys/{keyId}"
    assert "x-omniroute-alias-of" not in found["GET", "/api/usage/logs"]


def test_the_base_path_stands_before_it(running: App) -> None:
    assert describe(running.app, base_path="/gateway")["servers"][0]["url"] == "/gateway"
    assert describe(running.app)["servers"][0]["url"] == "/"


def test_others_have_their_turn_meanwhile(running: App) -> None:
    pauses: list[None] = []
    made = describe(running.app, pause=lambda: pauses.append(None))
    assert len(pauses) == len(operations(made))


def test_a_view_that_declares_nothing_is_refused() -> None:
    app = Flask("bare")

    @app.get("/api/things")
    def things() -> str:
        """List things."""
        return ""

    static = Route(("GET",), "/static/<path:filename>", Tier.P, Family.PAGE)
    with pytest.raises(ConfigurationError, match="GET /api/things"):
        describe(app, (static, Route(("GET",), "/api/things", Tier.M_READ)))


def test_each_view_is_declared(running: App) -> None:
    table = verify(running.app.url_map, ROUTES)
    endpoints = {rule.rule: rule.endpoint for rule in running.app.url_map.iter_rules()}
    shown = [rule for rule, methods in table.items() if is_described(rule, next(iter(methods.values())))]
    assert [rule for rule in shown if operation_of(running.app.view_functions[endpoints[rule]]) is None] == []


# --- as it is served -------------------------------------------------------------------------------------------------


def test_it_is_served_with_a_tag(running: App, document: OpenApiDocument) -> None:
    first = running.admin.get("/api/openapi.json")
    assert first.status_code == 200
    assert first.get_json()["paths"].keys() == document["paths"].keys()
    again = running.admin.get("/api/openapi/spec", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.get_data()) == (304, b"")


def test_it_is_for_callers_of_management_only(running: App) -> None:
    assert running.client().get("/api/openapi.json").status_code == 401
    assert running.client(running.key()).get("/api/openapi.json").status_code == 403


# --- answers ---------------------------------------------------------------------------------------------------------


def closed(schema: Any) -> Any:
    """Return a schema in which no object has more members than it names."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    return {**made, "additionalProperties": False} if "properties" in made else made


def furnished(app: App) -> None:
    admin = app.admin
    key = admin.post("/api/keys", json={"name": "one", "rateLimits": [{"limit": 5, "windowSeconds": 60}]}).get_json()
    node = {"name": "Local", "prefix": "lo", "type": "ollama", "baseUrl": "http://127.0.0.1:9", "isLocal": True}
    made = admin.post("/api/provider-nodes", json=node).get_json()["node"]
    admin.post("/api/providers", json={"provider": made["id"]})
    combo = admin.post(
        "/api/combos", json={"name": "first", "models": ["sandbox/echo", {"kind": "auto", "channel": "auto"}]}
    )
    admin.post("/api/model-combo-mappings", json={"pattern": "x-*", "comboId": combo.get_json()["id"]})
    admin.put("/api/models/alias", json={"pattern": "house", "target": "sandbox/echo"})
    admin.post("/api/fallback/chains", json={"name": "spare", "models": ["sandbox/echo"]})
    admin.post("/api/usage/budget", json={"keyId": key["id"], "limit": 5, "period": "daily"})
    admin.post("/api/usage/token-limits", json={"keyId": "*", "tokenLimit": 5, "period": "daily"})
    admin.patch("/api/pricing", json={"sandbox": {"echo": {"input": 1, "tiers": [{"above": 10, "input": 2}]}}})


def test_answers_hold_nothing_that_is_not_declared(running: App, document: OpenApiDocument) -> None:
    furnished(running)
    components = {"components": {"schemas": closed(document["components"]["schemas"])}}
    looked_at = 0
    for (method, path), one in operations(document).items():
        is_plain = method == "GET" and "{" not in path and not _is_endless(one)
        if not is_plain or any(parameter.get("required") for parameter in one.get("parameters", ())):
            continue
        answer = running.admin.get(path)
        declared = one["responses"].get(str(answer.status_code))
        assert declared is not None, (path, answer.status_code)
        if answer.status_code != 200 or answer.mimetype != "application/json":
            answer.close()
            continue
        schema = {**closed(declared["content"]["application/json"]["schema"]), **components}
        faults = list(jsonschema.Draft202012Validator(schema).iter_errors(answer.get_json()))
        assert faults == [], (path, [(list(fault.path), fault.message[:300]) for fault in faults])
        looked_at += 1
    assert looked_at > 60


def _is_endless(one: dict[str, Any]) -> bool:
    return "text/event-stream" in one["responses"]["200"].get("content", {})
