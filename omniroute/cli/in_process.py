"""The management API without a server: the application in this process, over the same data."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

from omniroute.cli.client import Content, Files, Reply
from omniroute.cli.local import load_settings, quieter, tell_warnings
from omniroute.services.first_start import CLI_TOKEN_HEADER


class InProcess:
    """The installation on this machine while no server runs; a server that starts later finds what was changed."""

    is_local = True
    name = "This installation"

    def __init__(self, data_dir: str | None) -> None:
        settings = load_settings(data_dir)
        tell_warnings(settings)
        from omniroute import create_app
        from omniroute.container import container_of

        # Data alone belongs on stdout, and a first start announces its password.
        with redirect_stdout(sys.stderr):
            app = create_app(replace(settings, notices=(), app_log_level=quieter(settings.app_log_level)))
        self._own = container_of(app)
        self._own.routing.load()
        token = secrets.token_hex(32)
        self._own.access.use_cli_token(lambda: token)
        self._client = app.test_client()
        self._headers = {CLI_TOKEN_HEADER: token}

    def request(self, method: str, path: str, query: Mapping[str, str], body: Any, files: Files | None) -> Reply:
        """See :class:`omniroute.cli.client.Transport`."""
        with self.stream(method, path, query, body, files) as (reply, _chunks):
            return reply

    def stream(
        self, method: str, path: str, query: Mapping[str, str], body: Any, files: Files | None = None
    ) -> AbstractContextManager[tuple[Reply, Iterator[bytes]]]:
        """See :class:`omniroute.cli.client.Transport`."""

        @contextmanager
        def exchange() -> Iterator[tuple[Reply, Iterator[bytes]]]:
            arguments: dict[str, Any] = {} if body is None else {"json": body}
            if isinstance(body, Content):
                arguments = {"data": body.data, "content_type": body.media_type}
            if files is not None:
                arguments = _multipart(body or {}, files)
            with self._client.open(
                path, method=method, query_string=dict(query), headers=self._headers, buffered=False, **arguments
            ) as response:
                body_bytes = response.get_data()
                yield Reply(response.status_code, dict(response.headers), body_bytes), iter([body_bytes])

        return exchange()

    def close(self) -> None:
        """Let go of the database and of connections to providers."""
        self._own.request_log.stop()
        self._own.transport.http.close()
        self._own.database.dispose()


def _multipart(fields: Mapping[str, str], files: Files) -> dict[str, Any]:
    """Return a body with files as HTTP carries it; the test client would leave the file that it writes it to open."""
    from urllib3.filepost import encode_multipart_formdata

    parts = {name: (file_name, file.read()) for name, (file_name, file) in files.items()}
    data, content_type = encode_multipart_formdata({**fields, **parts})
    return {"data": data, "content_type": content_type}
