"""A request of Chat Completions as a program would send it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from omniroute.blueprints.dashboard.translator_samples import pretty

_PART: Final = re.compile(r"\{(url|streamed|body)\}")
_CURL: Final = r"""curl -N {url} \
  -H 'Content-Type: application/json' \
  -H "Authorization: Bearer $OMNIROUTE_API_KEY" \
  --data-binary @- <<'JSON'
{streamed}
JSON"""
_PYTHON: Final = """import os

import requests

answer = requests.post(
    "{url}",
    headers={"Authorization": f"Bearer {os.environ['OMNIROUTE_API_KEY']}"},
    json={body},
    timeout=600,
)
answer.raise_for_status()
print(answer.json()["choices"][0]["message"]["content"])"""
_JAVASCRIPT: Final = """const answer = await fetch("{url}", {
  method: "POST",
  headers: { "Content-Type": "application/json", Authorization: `Bearer ${process.env.OMNIROUTE_API_KEY}` },
  body: JSON.stringify({body}),
});
if (!answer.ok) throw new Error(await answer.text());
console.log((await answer.json()).choices[0].message.content);"""
TEMPLATES: Final[Mapping[str, str]] = {"curl": _CURL, "python": _PYTHON, "javascript": _JAVASCRIPT}
"""The programs: `{url}`, `{body}` and `{streamed}` are put in; scripts of pages do it too."""
NAMES: Final[Mapping[str, str]] = {"curl": "curl", "python": "Python", "javascript": "JavaScript"}


def written(name: str, url: str, body: Mapping[str, Any]) -> str:
    """Return a request as a program."""
    parts = {"url": url, "streamed": pretty({**body, "stream": True}), "body": pretty(dict(body))}
    return _PART.sub(lambda found: parts[found[1]], TEMPLATES[name])
