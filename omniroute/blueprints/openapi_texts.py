"""What the description of the API says in words: how it works as a whole, and what recurs in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

INTRODUCTION: Final = """\
Inference under `/v1`, `/v1beta` and `/api/chat` in the dialects of OpenAI, Anthropic, Gemini and Ollama; management \
under `/api`.

**Mounts.** Inference operations are listed under `/v1` and `/api/v1` (Gemini's under `/v1beta`, `/api/v1beta` and \
`/v1`). The same answers also under `/v1/v1`, without a prefix (`/chat/completions`), and for Ollama's clients under \
`/v1/api`; these mounts, for clients that add a prefix twice or not at all, are not listed. `HEAD` works wherever \
`GET` does.

**Credentials.** `x-omniroute-tier` says whom an operation admits: `P` anyone; `C` an API key (on the same host also \
none, unless the server asks for one); `M:r`, `M:w`, `M:a` a session, an API key with scope `manage`, or an access \
token with at least scope read, write or admin; `X` the same, even while login is switched off; `L` only callers on \
the same host, with admin scope; `S` a session, or a caller on the same host with admin scope.

**Bodies.** Unknown fields, fields given twice and fields that differ only in case are refused. A masked secret that \
is sent back leaves the stored one unchanged. `PUT` and `PATCH` do the same wherever one of them is listed.

**Lists.** `limit` and `offset` page through them; `total` and `X-Total-Count` count all rows.

**Answers.** Times are ISO 8601 in UTC, money is USD as a number. Every answer carries `X-OmniRoute-Request-Id`, every \
refusal `X-OmniRoute-Error-Code`, in the envelope of its path's dialect.
"""

TAGS: Final[Mapping[str, str]] = {
    "OpenAI": "Conversations in OpenAI's dialects: chat completions, text completions, responses.",
    "Anthropic": "Conversations in Anthropic's dialect.",
    "Gemini": "Conversations and model lists in Gemini's dialect.",
    "Ollama": "Conversations and model lists in Ollama's dialect.",
    "Model lists": "What a caller may use.",
    "Self-service": "What a caller may know of itself and its own requests.",
    "health": "Whether the gateway works, and how well.",
    "auth": "Login, sessions, password and the table of tiers.",
    "access tokens": "Credentials for the management API.",
    "providers": "Connections: credentials at providers.",
    "provider nodes": "Endpoints that the operator defines.",
    "models": "The catalogue, custom models, and other names for models.",
    "keys": "API keys for inference.",
    "combos": "Named lists of models with a strategy.",
    "fallback": "What is tried when a request's own targets are exhausted.",
    "settings": "What can be changed while the server runs.",
    "routing": "How requests are, were and would be routed.",
    "resilience": "What rests after failures, and how that is ended early.",
    "pricing": "What models cost.",
    "usage": "What the gateway was used for, what it cost, and limits of both.",
    "logs": "What the server wrote, and exports of the request log.",
    "audit": "What people did.",
    "sessions": "Conversations that stay with an account.",
    "translator": "Formats turned into one another, requests with every stage shown, and the test bench.",
    "coding tools": "What coding tools need to use the gateway, and setting up those of the server's own host.",
    "jobs": "Long work and how far it is.",
    "backups": "Copies of the database.",
    "system": "The server itself.",
}
"""Tags in the order in which they are shown."""

PATH_PARAMETERS: Final[Mapping[str, str]] = {
    "backupId": "Id of a backup.",
    "chainId": "Id of a fallback chain.",
    "channel": "Name of an `auto` channel, with or without `auto/`; it may hold slashes.",
    "comboId": "Id of a combo.",
    "connectionId": "Id of a connection.",
    "jobId": "Id of long work.",
    "keyId": "Id of an API key.",
    "logId": "Id of a request.",
    "mappingId": "Id of a pattern.",
    "model": "Name of a model, which may hold slashes; for Gemini's calls followed by `:` and the action.",
    "nodeId": "Id of a provider node.",
    "provider": "Id or alias of a provider, or id of a node.",
    "proxyId": "Id of a proxy.",
    "requestId": "Id of a request.",
    "responseId": "Id of a response.",
    "sessionId": "Id of a session.",
    "tokenId": "Id or name of an access token, or how one begins.",
    "tool": "Id of a coding tool.",
}

HEADERS: Final[Mapping[str, str]] = {
    "X-OmniRoute-Request-Id": "Id of this request, as the log has it.",
    "X-OmniRoute-Version": "Version of the server.",
    "X-OmniRoute-Error-Code": "Stable code of the refusal, the same in all dialects.",
    "X-Total-Count": "How many rows the list has.",
    "Retry-After": "Seconds after which trying again may help.",
    "ETag": "Version of this answer; sent back in `If-None-Match` it saves sending the same again.",
    "Allow": "The methods of this path.",
    "WWW-Authenticate": "How to authenticate.",
}

SECURITY_SCHEMES: Final[Mapping[str, Any]] = {
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "auth_token",
        "description": "The dashboard's session, `__Host-auth_token` over HTTPS. Changes need the origin of the "
        "server, or the CSRF token.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": "X-OmniRoute-CSRF",
        "description": "The token of `GET /api/auth/csrf`.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`sk-…`), for management with scope `manage`, or an access token (`oma_live_…`), "
        "for management only.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same in another header."},
    "googleApiKey": {"type": "apiKey", "in": "header", "name": "x-goog-api-key", "description": "The same once more."},
    "cliToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-OmniRoute-CLI-Token",
        "description": "The token that the server writes for commands on its own host at each start.",
    },
}
