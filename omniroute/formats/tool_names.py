"""Tool names that a target accepts, and the way back to the client's own.

A legal name stays. Any other keeps what is legal of it and gets a suffix made from the whole name, so that two names do
not become one. What a name becomes depends on the name and on the tools that are defined, never on the rest of the
conversation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

_HASH_BYTES: Final = 4
_SUFFIX_LENGTH: Final = 1 + 2 * _HASH_BYTES

_matches: Final = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_illegal: Final = re.compile(r"[^A-Za-z0-9_-]")


class Names:
    """The names of one request."""

    __slots__ = ("_limit", "_needs_letter", "_reserved", "_sent")

    def __init__(self, limit: int, defined: Iterable[str], *, needs_letter: bool = False) -> None:
        """Take the names of all tools that are defined.

        Args:
            limit: most characters of a name.
            defined: the client's names; empty ones are ignored.
            needs_letter: names begin with a letter or an underscore (Gemini).
        """
        self._limit = limit
        self._needs_letter = needs_letter
        self._sent: dict[str, str] = {}
        defined = [name for name in defined if name]
        # Legal names come first: no other tool may be given one of them.
        self._reserved = {name for name in defined if self._is_legal(name)}
        for name in defined:
            self.sent(name)

    def sent(self, name: str) -> str:
        """Return the name as the target gets it."""
        known = self._sent.get(name)
        if known is not None:
            return known
        made = name if self._is_legal(name) else self._made(name)
        self._reserved.add(made)
        self._sent[name] = made
        return made

    def fresh(self, wanted: str) -> str:
        """Return a name for a tool of our own: the wanted one, or one like it that no tool of the client has."""
        made = wanted if self._is_legal(wanted) and wanted not in self._reserved else self._made(wanted)
        self._reserved.add(made)
        return made

    @property
    def changed(self) -> Mapping[str, str]:
        """Name as sent to the client's own, where they differ."""
        return {made: name for name, made in self._sent.items() if made != name}

    def _is_legal(self, name: str) -> bool:
        if len(name) > self._limit or not _matches(name):
            return False
        return not self._needs_letter or name[0] == "_" or name[0].isalpha()

    def _made(self, name: str) -> str:
        stem = _illegal.sub("_", name)
        if self._needs_letter and not (stem[:1] == "_" or stem[:1].isalpha()):
            stem = f"_{stem}"
        stem = stem[: self._limit - _SUFFIX_LENGTH]
        seed = name
        while True:
            digest = blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
            made = f"{stem}_{digest}"
            if made not in self._reserved:
                return made
            seed += "\n"
