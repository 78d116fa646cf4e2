"""Endpoints: the addresses at which clients reach the server, one card per format that they may speak."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.home import base_url
from omniroute.blueprints.dashboard.rendering import page

_SANDBOX: Final = "sandbox/echo"
_SEEN: Final = 60
"""Models among which one for the examples is looked for: more than the sandbox has."""
_KEY: Final = "$OMNIROUTE_API_KEY"


@dataclass(frozen=True, slots=True)
class Family:
    """A format that clients speak.

    Attributes:
        name: of the card.
        title: what people call it.
        address: what a client is to be given.
        has_version: whether that ends in the version.
        form: which of the two forms of the address clients of this family want, in a sentence.
        paths: what is served, method and path.
        lines: a request with curl.
        variables: what tools read the address from.
    """

    name: str
    title: str
    address: str
    has_version: bool
    form: str
    paths: tuple[tuple[str, str], ...]
    lines: str
    variables: tuple[str, ...] = ()


@blueprint.get("/dashboard/endpoints")
def endpoints() -> Response:
    """Show where clients of each format find the server."""
    network = api.get("/api/network/info")
    own = base_url()
    addresses = [{"url": own, "scope": "yours"}, *(row for row in network["addresses"] if row["url"] != own)]
    chosen = request.args.get("address", own)
    chosen = chosen if chosen in {row["url"] for row in addresses} else own
    models = api.get("/api/models", active=True, type="chat", limit=_SEEN)
    model = _model(models["models"])
    return page(
        "dashboard/endpoints.html",
        network=network,
        addresses=addresses,
        chosen=chosen,
        families=_families(chosen, model),
        model_count=models["total"],
        keys=api.get("/api/keys", limit=1)["total"],
    )


def _model(models: Sequence[dict[str, Any]]) -> str:
    """Return a name for the examples: the default combo, else a model of a provider, else the sandbox."""
    combo = api.get("/api/combos/default")["default"]
    if combo is not None:
        return str(combo["name"])
    return next((str(one["id"]) for one in models if one["provider"] != "sandbox"), _SANDBOX)


def _families(base: str, model: str) -> tuple[Family, ...]:
    return (
        Family(
            "openai-chat",
            _("OpenAI Chat"),
            f"{base}/v1",
            has_version=True,
            form=_("With /v1. A client that appends /v1 itself works too, and so does one that is given it twice."),
            paths=(
                ("POST", "/v1/chat/completions"),
                ("POST", "/v1/completions"),
                ("GET", "/v1/models"),
            ),
            lines=_curl(
                f"{base}/v1/chat/completions",
                f"Authorization: Bearer {_KEY}",
                {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]},
                streams=True,
            ),
            variables=("OPENAI_BASE_URL",),
        ),
        Family(
            "openai-responses",
            _("OpenAI Responses"),
            f"{base}/v1",
            has_version=True,
            form=_("With /v1, as Codex and the OpenAI libraries want it."),
            paths=(("POST", "/v1/responses"), ("GET", "/v1/responses/{id}")),
            lines=_curl(
                f"{base}/v1/responses",
                f"Authorization: Bearer {_KEY}",
                {"model": model, "input": "Hello"},
            ),
            variables=("OPENAI_BASE_URL",),
        ),
        Family(
            "anthropic",
            _("Anthropic"),
            base,
            has_version=False,
            form=_("Without /v1: Claude Code and the Anthropic libraries append it themselves."),
            paths=(("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models")),
            lines=_curl(
                f"{base}/v1/messages",
                f"x-api-key: {_KEY}",
                {"model": model, "max_tokens": 200, "messages": [{"role": "user", "content": "Hello"}]},
                "anthropic-version: 2023-06-01",
            ),
            variables=("ANTHROPIC_BASE_URL",),
        ),
        Family(
            "gemini",
            _("Gemini"),
            base,
            has_version=False,
            form=_("Without /v1beta: Gemini CLI and the Google libraries append it themselves."),
            paths=(
                ("POST", "/v1beta/models/{model}:generateContent"),
                ("POST", "/v1beta/models/{model}:streamGenerateContent"),
                ("GET", "/v1beta/models"),
            ),
            lines=_curl(
                f"{base}/v1beta/models/{model}:generateContent",
                f"x-goog-api-key: {_KEY}",
                {"contents": [{"parts": [{"text": "Hello"}]}]},
            ),
            variables=("GOOGLE_GEMINI_BASE_URL",),
        ),
        Family(
            "ollama",
            _("Ollama"),
            base,
            has_version=False,
            form=_("Without /v1: clients of Ollama append /api themselves."),
            paths=(("POST", "/api/chat"), ("POST", "/api/generate"), ("GET", "/api/tags")),
            lines=_curl(
                f"{base}/api/chat",
                f"Authorization: Bearer {_KEY}",
                {"model": model, "messages": [{"role": "user", "content": "Hello"}]},
                streams=True,
            ),
            variables=("OLLAMA_HOST",),
        ),
    )


def _curl(url: str, key: str, body: dict[str, Any], *headers: str, streams: bool = False) -> str:
    lines = [f'curl {"-N " if streams else ""}"{url}"', f'  -H "{key}"']
    lines += [f'  -H "{header}"' for header in (*headers, "Content-Type: application/json")]
    text = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    return " \\\n".join([*lines, f"  -d '{text}'"])
