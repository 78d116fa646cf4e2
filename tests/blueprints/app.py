"""The whole application in this process, with an admin's key."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from omniroute import create_app
from omniroute.container import Container, container_of
from omniroute.secret import Secret
from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings

_PASSWORD: Final = "correct horse battery"


@dataclass
class App:
    """An application and what calls it."""

    app: Flask
    own: Container
    admin_key: str

    def client(self, key: str | None = None, address: str = "127.0.0.1") -> FlaskClient:
        """Return a client with a key, or without any."""
        client = self.app.test_client()
        client.environ_base["REMOTE_ADDR"] = address
        client.environ_base["HTTP_HOST"] = "localhost:20128"
        if key is not None:
            client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        return client

    @property
    def admin(self) -> FlaskClient:
        """A client that may do everything."""
        return self.client(self.admin_key)

    def key(self, **fields: Any) -> str:
        """Create an API key."""
        return self.own.keys.create({"name": "test", **fields}, SYSTEM).secret


@contextmanager
def whole_app(settings: Settings, **changes: Any) -> Iterator[App]:
    """Build the application on the data directory of `settings`."""
    # The process of the tests holds more than a worker would.
    fixed = {"initial_password": Secret(_PASSWORD), "metrics": False, "memory_mb": 16_384, **changes}
    settings = dataclasses.replace(settings, **fixed)
    if settings.initial_password == Secret(_PASSWORD) and _begins_like_all(settings):
        shutil.copytree(_first_start(), settings.data_dir, dirs_exist_ok=True)
    app = create_app(settings)
    own = container_of(app)
    try:
        yield App(app, own, own.keys.create({"name": "admin", "scopes": ("admin",)}, SYSTEM).secret)
    finally:
        own.transport.http.close()
        own.database.dispose()


def _begins_like_all(settings: Settings) -> bool:
    """Tell whether an application would begin with an empty SQLite database and with secrets that it makes itself."""
    given = (settings.database_url, settings.jwt_secret, settings.api_key_secret, settings.encryption_key)
    is_new = not settings.data_dir.exists() or not any(settings.data_dir.iterdir())
    return is_new and given == (None,) * len(given)


@cache
def _first_start() -> Path:
    """Return a data directory after a first start: the hash of the password alone takes a third of a second."""
    directory = Path(tempfile.mkdtemp(prefix="omniroute-test-start-")) / "data"
    settings = Settings.load({"DATA_DIR": str(directory)}, directory.parent)
    fixed = dataclasses.replace(settings, initial_password=Secret(_PASSWORD), metrics=False)
    own = container_of(create_app(fixed))
    own.transport.http.close()
    own.database.dispose()
    return directory


def error_of(response: TestResponse) -> dict[str, Any]:
    """Return the error of a management answer."""
    document = response.get_json()
    assert set(document) == {"error"}
    error: dict[str, Any] = document["error"]
    assert {"code", "message", "requestId"} <= set(error)
    assert response.headers["X-OmniRoute-Error-Code"] == error["code"]
    return error
