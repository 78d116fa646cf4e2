"""Tool-call ids that a target accepts, made from the client's own.

An id that the target accepts is kept. Any other is replaced by one made from it with a hash, and an id that an earlier
call of the conversation already has is replaced by a hash of it and of the number of the call. So the ids of a call
depend on nothing but what stands before it: any worker makes the same ones, with every further turn and after a
fallback to another provider.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final

from omniroute.formats.profile import IdRule
from omniroute.formats.wire import WireFormat

_HASH_BYTES: Final = 12
_ALPHABET: Final = string.digits + string.ascii_lowercase
_NINE: Final = 9

_matches_long: Final = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_matches_nine: Final = re.compile(r"[A-Za-z0-9]{9}").fullmatch

_IS_LEGAL: Final[Mapping[IdRule, Callable[[str], object]]] = {
    IdRule.ANY: lambda text: 0 < len(text) <= 40,
    IdRule.LONG: _matches_long,
    IdRule.NINE: _matches_nine,
    IdRule.NONE: bool,
}


def is_legal(text: str, rule: IdRule) -> bool:
    """Say whether a target with this rule accepts the id."""
    return bool(_IS_LEGAL[rule](text))


class Ids:
    """Gives every call of one conversation, in order, the id that the target sees."""

    __slots__ = ("_count", "_is_legal", "_is_nine", "_prefix", "_seen", "_used")

    def __init__(self, rule: IdRule, target: WireFormat) -> None:
        self._is_legal = _IS_LEGAL[rule]
        self._is_nine = rule is IdRule.NINE
        self._prefix = "toolu_" if target is WireFormat.ANTHROPIC_MESSAGES else "call_"
        self._count = 0
        self._seen: set[str] = set()
        self._used: set[str] = set()

    def assign(self, client_id: str, name: str) -> str:
        """Return the id of the next call; `client_id` may be empty, `name` is that of the tool."""
        self._count += 1
        is_repeated = client_id in self._seen
        if client_id:
            self._seen.add(client_id)
            if not is_repeated and client_id not in self._used and self._is_legal(client_id):
                self._used.add(client_id)
                return client_id
        seed = f"{client_id}\n{self._count}\n{name}" if is_repeated or not client_id else client_id
        made = self._made(seed)
        while made in self._used:  # a client may have written down what would have been made here
            seed += "\n"
            made = self._made(seed)
        self._used.add(made)
        return made

    def _made(self, seed: str) -> str:
        digest = blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES)
        if not self._is_nine:
            return self._prefix + digest.hexdigest()
        number = int.from_bytes(digest.digest(), "big")
        letters = []
        for _ in range(_NINE):
            number, place = divmod(number, len(_ALPHABET))
            letters.append(_ALPHABET[place])
        return "".join(letters)
