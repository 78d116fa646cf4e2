"""Where a request may carry its credential."""

from __future__ import annotations

from urllib.parse import parse_qsl

from omniroute.errors import CallerError
from omniroute.services.reach import Environ


def carried_credential(environ: Environ) -> str | None:
    """Return the credential of a request from wherever it stands; an `Authorization` of another scheme is passed over.

    Raises:
        CallerError: `ambiguous_credentials`, two carriers hold different values.
    """
    found: str | None = None
    authorization = environ.get("HTTP_AUTHORIZATION")
    if authorization is not None and authorization[:7].lower() == "bearer ":
        found = authorization[7:].strip() or None
    values = [environ.get(name) for name in ("HTTP_X_API_KEY", "HTTP_X_GOOG_API_KEY", "HTTP_API_KEY")]
    if "key=" in environ.get("QUERY_STRING", "") and _takes_query_key(environ):
        values.append(_query_key(environ["QUERY_STRING"]))
    for value in values:
        if value:
            if found is None:
                found = value.strip() or None
            elif value.strip() != found:
                raise CallerError("Two headers carry different credentials; send one.", code="ambiguous_credentials")
    return found


def _takes_query_key(environ: Environ) -> bool:
    """Say whether a path is one of Gemini's, whose clients may put the key into the query."""
    path: str = environ["PATH_INFO"]
    return path.startswith(("/v1beta/", "/api/v1beta/")) or (path.startswith("/v1/models/") and ":" in path)


def _query_key(query: str) -> str | None:
    return next((value for name, value in parse_qsl(query) if name == "key"), None)
