"""The whole application with somebody in front of it who is logged in: for the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import Response
from flask.testing import FlaskClient
from werkzeug.http import parse_cookie
from werkzeug.test import TestResponse

from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app

PASSWORD = "correct horse battery"
ORIGIN = {"Origin": "http://localhost:20128"}


@dataclass
class Pages:
    """A logged-in visitor without a script, and the application behind."""

    app: App
    client: FlaskClient

    def get(self, path: str, **headers: str) -> str:
        """Return a page as text; it must be there."""
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == 200, (path, answer.status_code, answer.get_data(as_text=True)[:500])
        return unescape(answer.get_data(as_text=True))

    def block(self, path: str, target: str) -> TestResponse:
        """Ask for one block of a page, as its refresh does."""
        return self.client.get(path, headers={"HX-Request": "true", "HX-Target": target})

    def post(self, path: str, form: Mapping[str, Any] | None = None, *, expect: int = 303) -> TestResponse:
        """Send a form."""
        answer = self.client.post(path, data=form or {}, headers=ORIGIN)
        assert answer.status_code == expect, (path, answer.status_code, text_of(answer)[:1500])
        if answer.mimetype == "text/html":
            self._lead_somewhere(path, text_of(answer))
        return answer

    def _lead_somewhere(self, path: str, page: str) -> None:
        """Check the links of a page that answers a form: its own address may take nothing but that form."""
        routes = self.app.app.url_map.bind("localhost")
        for address in re.findall(r'(?:href|hx-get|name="next" value)="(/[^"#]*)', page):
            place = address.partition("?")[0]
            assert routes.test(place, method="GET"), (path, address)

    def log_in(self) -> None:
        """Give the visitor a session as the login does."""
        _let_in(self.app, self.client)

    def log_out(self) -> None:
        """Take all cookies from the visitor."""
        self.client = self.app.client()

    def after(self, answer: TestResponse) -> str:
        """Return the page to which a form has led."""
        return self.get(answer.headers["Location"])

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the management API as an admin."""
        answer = self.app.admin.open(path, method=method, json=body)
        assert answer.status_code < 300, (method, path, answer.get_data(as_text=True))
        return answer.get_json()


def text_of(answer: TestResponse) -> str:
    """Return what a page says, with its entities read."""
    return unescape(answer.get_data(as_text=True))


def field_of(page: str, name: str) -> str:
    """Return what a field of a page holds."""
    found = re.search(
        rf'<(?:input|textarea)[^>]*name="{re.escape(name)}"[^>]*?(?:value="([^"]*)"[^>]*>|>\n?([^<]*)<)', page
    )
    assert found is not None, name
    return found[1] if found[1] is not None else found[2]


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    """The whole application, and a visitor who is logged in."""
    with whole_app(Settings.load({"DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)}, tmp_path)) as app:
        client = app.client()
        _let_in(app, client)
        yield Pages(app, client)


def _let_in(app: App, client: FlaskClient) -> None:
    """Give a client a session as the login does, without the third of a second that a password takes."""
    sessions, response = app.own.sessions, Response()
    opened = sessions.open(address="127.0.0.1", user_agent=None)
    sessions.set_cookie(response, client.environ_base, opened.token)
    ((name, value),) = parse_cookie(response.headers["Set-Cookie"].partition(";")[0]).items()
    client.set_cookie(name, value, domain="localhost")
