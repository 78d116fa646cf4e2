"""What preparing a request for its target changed, so that the answer can be given in the client's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

_NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


class Changes(msgspec.Struct, frozen=True):
    """What the answer has to be turned back by.

    Attributes:
        names: tool name as sent to the client's own, only where they differ.
        customs: the client's names of custom tools that were sent as functions with one string `input`.
        output_tool: name as sent of the one forced tool whose input is the JSON answer that the client wanted.
        known_ids: ids of all calls in the history, as the client spells them: a new call must not repeat one.
    """

    names: Mapping[str, str] = _NO_NAMES
    customs: frozenset[str] = frozenset()
    output_tool: str | None = None
    known_ids: frozenset[str] = frozenset()


NO_CHANGES: Final = Changes()
