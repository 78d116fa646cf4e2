"""Which requests have a session of Flask's at all."""

from __future__ import annotations

from typing import Final

from flask import Flask, Request
from flask.sessions import NullSession, SecureCookieSessionInterface, SessionMixin

from omniroute.blueprints.tiers import Family, family_of

_INFERENCE: Final = frozenset({Family.OPENAI, Family.ANTHROPIC, Family.GEMINI, Family.OLLAMA})


class PageSessions(SecureCookieSessionInterface):
    """Flask's signed cookie for what forms need (CSRF token, flashed messages), and nothing for inference.

    Opening a session costs more than the whole check of an inference request, and those without a cookie have no use
    for one.
    """

    _nothing = NullSession()

    def open_session(self, app: Flask, request: Request) -> SessionMixin | None:  # type: ignore[override]
        """Open the session of a request; inference without cookies shares one that stays empty."""
        environ = request.environ
        if "HTTP_COOKIE" not in environ and family_of(environ["PATH_INFO"]) in _INFERENCE:
            return self._nothing
        return super().open_session(app, request)
