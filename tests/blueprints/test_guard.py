"""The order of the checks in front of every view, and the dialect in which each refusal speaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from omniroute import __version__
from omniroute.blueprints.tiers import Family, family_of, shape
from tests.harness import Gateway

REMOTE = "192.0.2.7"


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/v1", Family.OPENAI),
        ("/v1/chat/completions", Family.OPENAI),
        ("/v1/messages", Family.ANTHROPIC),
        ("/v1/messages/count_tokens", Family.ANTHROPIC),
        ("/v1/v1/messages", Family.ANTHROPIC),
        ("/api/v1/messages", Family.ANTHROPIC),
        ("/api/v1/models", Family.OPENAI),
        ("/messages", Family.ANTHROPIC),
        ("/messages2", Family.PAGE),
        ("/chat/completions", Family.OPENAI),
        ("/models/a/b", Family.OPENAI),
        ("/responses", Family.OPENAI),
        ("/embeddings", Family.OPENAI),
        ("/api", Family.MANAGEMENT),
        ("/api/v10", Family.MANAGEMENT),
        ("/api/keys", Family.MANAGEMENT),
        ("/apikeys", Family.PAGE),
        ("/v10/x", Family.PAGE),
        ("/healthz", Family.PLAIN),
        ("/", Family.PAGE),
        ("/dashboard", Family.PAGE),
    ],
)
def test_families(path: str, family: Family) -> None:
    assert family_of(path) is family


def test_the_shape_of_a_rule_has_converters_but_no_names() -> None:
    assert shape("/a/<key_id>/b/<path:model>") == "/a/<default>/b/<path>"
    assert shape("/a/<int(min=1):n>") == "/a/<int>"


def test_every_answer_says_version_and_request_id(gateway: Gateway) -> None:
    client = gateway.logged_in()
    seen = set()
    for path in (
        "/v1/models",
        "/api/keys",
        "/dashboard",
        "/static/css/omniroute.css",
        "/healthz",
        "/nowhere",
        "/api/nowhere",
    ):
        headers = client.get(path).headers
        assert headers["X-OmniRoute-Version"] == __version__
        seen.add(headers["X-OmniRoute-Request-Id"])
    assert len(seen) == 7


def test_draining_refuses_new_work_first(gateway: Gateway) -> None:
    gateway.draining.append(True)
    client = gateway.client(address=REMOTE)
    for path, status in (("/v1/models", 503), ("/v1/messages", 529), ("/api/keys", 503), ("/dashboard", 503)):
        answer = client.open(path, method="POST" if "messages" in path else "GET")
        assert answer.status_code == status, path
        assert answer.headers["Retry-After"] == "5"
        assert answer.headers["X-OmniRoute-Error-Code"] == "server_draining"
    assert client.get("/healthz").status_code == 200  # says by itself that it stops


def test_a_body_is_measured_before_the_caller_is_asked_who_he_is(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(chat_max_body_bytes=1000, max_body_size_bytes=500)
    client = gateway.client(address=REMOTE)
    for path, size, status in (
        ("/v1/chat/completions", 1001, 413),
        ("/v1/chat/completions", 1000, 401),
        ("/v1/messages", 1001, 413),
        ("/api/keys", 501, 413),
        ("/api/keys", 500, 401),
        ("/api/auth/login", 501, 413),
    ):
        answer = client.post(path, data=b"x" * size, content_type="application/json")
        assert answer.status_code == status, (path, size)
    error = client.post("/api/keys", data=b"x" * 501).get_json()["error"]
    assert error["code"] == "too_large"
    error = client.post("/v1/chat/completions", data=b"x" * 1001).get_json()["error"]
    assert error["code"] == "request_too_large"


def test_an_unannounced_body_is_bounded_too(make_gateway: Callable[..., Gateway]) -> None:
    import io

    gateway = make_gateway(max_body_size_bytes=500)
    answer = gateway.client().post(
        "/api/auth/login",
        input_stream=io.BytesIO(b'{"password": "' + b"x" * 5000 + b'"}'),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"},
    )
    assert answer.status_code in (400, 413)
    assert gateway.sessions.open_sessions() == ()


def test_refusals_speak_the_dialect_of_the_path(gateway: Gateway) -> None:
    client = gateway.client(address=REMOTE)
    openai = client.get("/v1/models")
    assert openai.get_json()["error"] | {"message": ""} == {
        "message": "",
        "type": "authentication_error",
        "param": None,
        "code": "auth_required",
    }
    anthropic = client.post("/v1/messages", json={})
    body = anthropic.get_json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["error"]["type"] == "authentication_error"
    assert body["request_id"] == anthropic.headers["X-OmniRoute-Request-Id"]
    management = client.get("/api/keys")
    assert set(management.get_json()["error"]) == {"code", "message", "requestId"}
    for answer in (openai, anthropic, management):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="omniroute"'
        assert answer.headers["X-OmniRoute-Error-Code"] == "auth_required"


def test_a_page_answers_with_a_page_unless_json_is_preferred(gateway: Gateway) -> None:
    client = gateway.client()
    assert client.get("/nowhere").mimetype == "text/html"
    assert client.get("/nowhere", headers={"Accept": "text/html,*/*;q=0.8"}).mimetype == "text/html"
    answer = client.get("/nowhere", headers={"Accept": "application/json"})
    assert answer.mimetype == "application/json"
    assert answer.get_json()["error"]["code"] == "not_found"


def test_every_mount_serves_the_same(gateway: Gateway) -> None:
    key = {"x-api-key": gateway.issue().secret}
    for mount in ("/v1", "/v1/v1", "/api/v1", ""):
        for path, method in (
            ("/models", "GET"),
            ("/models/a/b", "GET"),
            ("/chat/completions", "POST"),
            ("/messages", "POST"),
        ):
            assert gateway.client(address=REMOTE).open(mount + path, method=method, headers=key).status_code == 200
            assert gateway.client(address=REMOTE).open(mount + path, method=method).status_code == 401


def test_inference_opens_no_form_session(gateway: Gateway) -> None:
    from flask import session
    from flask.sessions import NullSession

    kinds: list[type] = []

    def view() -> str:
        kinds.append(type(session._get_current_object()))  # type: ignore[attr-defined]
        return ""

    endpoint = next(rule.endpoint for rule in gateway.app.url_map.iter_rules() if rule.rule == "/v1/chat/completions")
    gateway.app.view_functions[endpoint] = view
    answer = gateway.client().post("/v1/chat/completions", json={})
    assert kinds == [NullSession]
    assert "Set-Cookie" not in answer.headers
    assert "Vary" not in answer.headers


def test_login_switched_off_opens_management_to_this_host_only(gateway: Gateway) -> None:
    gateway.store("security", "requireLogin", False)
    assert gateway.client().get("/api/keys").status_code == 200
    assert gateway.client().get("/dashboard/account").status_code == 200
    assert gateway.client().get("/login").headers["Location"] == "/dashboard"
    assert gateway.client(address=REMOTE).get("/api/keys").status_code == 401
    assert gateway.client(address=REMOTE).get("/dashboard").status_code == 302
    # never where a credential is always required
    body = {"currentPassword": "x", "newPassword": "a new password"}
    assert gateway.client().post("/api/auth/password", json=body).status_code == 401
    assert gateway.client().get("/api/auth/status").get_json() == {
        "authenticated": True,
        "requireLogin": False,
        "setupComplete": True,
    }


def test_the_table_can_be_read_by_management_only(gateway: Gateway) -> None:
    assert gateway.client().get("/api/settings/authz").status_code == 401
    body = gateway.logged_in().get("/api/settings/authz").get_json()
    assert body["total"] == len(body["routes"])
    row = next(row for row in body["routes"] if row["path"] == "/api/auth/password")
    assert row == {"methods": ["POST"], "path": "/api/auth/password", "tier": "X", "scope": "admin"}


def test_static_files_are_kept_by_browsers_and_pages_are_not(gateway: Gateway) -> None:
    client = gateway.client()
    for path in ("/static/css/omniroute.css", "/static/js/page.js", "/bootstrap/static/css/bootstrap.min.css"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "max-age=31536000" in answer.headers["Cache-Control"]
    assert client.get("/static/../pages.py").status_code == 404
    assert client.get("/static/%2e%2e/x").status_code == 404
