"""What providers answer when they refuse or fail, in their own words, and what each of it means.

Wordings as the vendors' services, resellers and self-hosted servers have them; names and numbers are made up. One case
per line of the fixture; `row` names the line of the table of renderings, the rest is what must survive.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from omniroute.formats.wire import WireFormat

NOW: Final = 1_800_000_000
"""When the providers said it: some name the moment at which a quota resets."""

_FIXTURE: Final = Path(__file__).parent.parent / "fixtures" / "provider_errors.jsonl"


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One refusal. `body` is JSON as it was sent; `raw` stands for what is none, one character per byte."""

    name: str
    format: WireFormat
    status: int
    kind: str
    row: str
    used: int | None = None
    limit: int | None = None
    output: int | None = None
    wait_s: float | None = None
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = {}
    body: Any = None
    raw: str | None = None

    @property
    def data(self) -> bytes:
        """The answer's body."""
        return msgspec.json.encode(self.body) if self.raw is None else self.raw.encode("latin-1")


CASES: Final = tuple(msgspec.json.decode(line, type=Case) for line in _FIXTURE.read_text(encoding="utf-8").splitlines())
