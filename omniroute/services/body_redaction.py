"""The second net under captured bodies: takes out what looks like a credential, and shortens data URLs.

The log has a net of the same kind, made for short lines. A body may have half a megabyte, on which its patterns would
take seconds; here each pattern has words without which it cannot match, so that only the places where one of them
stands are looked at. Most texts have few such places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from omniroute.services.request_masking import MASK

_MASK: Final = MASK.encode()


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a credential looks like.

    Attributes:
        anchors: in lower case; one of them stands where the pattern begins.
        kept: the number of the group that stays in front of the mask.
        is_word: a letter or digit right before it makes it something else.
    """

    anchors: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    kept: int | None = None
    is_word: bool = True


def _anchored(pattern: bytes, *anchors: bytes, flags: int = 0, kept: int | None = 1, is_word: bool = True) -> _Shape:
    return _Shape(anchors, re.compile(pattern, flags), kept, is_word)


_SHAPES: Final = (
    _anchored(
        rb"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=\s\\:,-]*",
        b"-----begin ",
        flags=re.IGNORECASE,
        kept=None,
        is_word=False,
    ),
    _anchored(rb"(bearer\s{1,8})[A-Za-z0-9._~+/=-]{8,}", b"bearer ", flags=re.IGNORECASE),
    _anchored(rb"((?i:basic)\s{1,8})(?=[a-z+/=]{0,99}[A-Z0-9])[A-Za-z0-9+/=]{8,}", b"basic "),
    # Ours, then the prefixes by which vendors mark theirs.
    _anchored(rb"(oma_live_|oms_live_)[A-Za-z0-9_-]+", b"oma_live_", b"oms_live_"),
    _anchored(
        rb"(sk-|rk-|pk-lf-|xai-|gsk_|hf_|nvapi-|pplx-|r8_|tgp_v1_)[A-Za-z0-9_-]{8,}",
        *(b"sk-", b"rk-", b"pk-lf-", b"xai-", b"gsk_", b"hf_", b"nvapi-", b"pplx-", b"r8_", b"tgp_v1_"),
    ),
    _anchored(
        rb"(gh[opsur]_|github_pat_|glpat-|xox[abps]-)[A-Za-z0-9_-]{10,}",
        *(b"gho_", b"ghp_", b"ghs_", b"ghu_", b"ghr_", b"github_pat_", b"glpat-"),
        *(b"xoxa-", b"xoxb-", b"xoxp-", b"xoxs-"),
    ),
    _anchored(rb"(AIza|ya29\.|AKIA|ASIA)[A-Za-z0-9._-]{12,}", b"aiza", b"ya29.", b"akia", b"asia"),
    _anchored(rb"eyJ[A-Za-z0-9_-]{8,999}+\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?", b"eyj", kept=None),
    _anchored(rb"(://[^\s/:@\"\\]{0,200}:)[^\s/@\"\\]{1,200}+(?=@)", b"://", is_word=False),
    _anchored(
        rb"""((?:api[-_]?key|(?:(?<=ess[-_])|(?<=esh[-_]))token|passw(?:or)?d|secret|authorization|cookie)"""
        rb"""\\{0,3}["']?\s{0,8}[:=]\s{0,8}\\{0,3}["']?)(?!\[masked|(?:bearer|basic)\s)[^\s"',;&}{\[\]()\\]{6,}""",
        *(b"api", b"token", b"passw", b"secret", b"authorization", b"cookie"),
        flags=re.IGNORECASE,
        is_word=False,
    ),
    # A name that stands in many harmless places: only with a value that is long and has a digit.
    _anchored(
        rb"""(token\\{0,3}["']?\s{0,8}[:=]\s{0,8}\\{0,3}["']?)(?=[A-Za-z._~+/=-]{0,99}[0-9])[A-Za-z0-9._~+/=-]{16,}""",
        b"token",
        flags=re.IGNORECASE,
        is_word=False,
    ),
)
_DATA_URL: Final = re.compile(
    rb"(data:[\w.+-]{1,60}\\?/[\w.+-]{1,80}(?:;[\w=.-]{1,60}){0,4}?;base64,)([A-Za-z0-9+/=_%\\-]{65,})", re.IGNORECASE
)
_ESCAPES: Final = b"nrtbf"
_WORD: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def redact(data: bytes, secrets: Sequence[str] = ()) -> bytes:
    """Return a body without credentials: neither those given nor what looks like one. Data URLs lose their data."""
    for secret in secrets:
        data = data.replace(secret.encode(), _MASK)
    lowered = data.lower()
    found = sorted((*_credentials(data, lowered), *_data_urls(data, lowered)))
    if not found:
        return data
    parts = []
    at = 0
    for start, end, instead in found:
        if start >= at:
            parts += [data[at:start], instead]
        at = max(at, end)
    parts.append(data[at:])
    return b"".join(parts)


_Span = tuple[int, int, bytes]
"""Where something begins and ends, and what stands there instead."""


def _credentials(data: bytes, lowered: bytes) -> Iterator[_Span]:
    for shape in _SHAPES:
        for anchor in shape.anchors:
            at = lowered.find(anchor)
            while at >= 0:
                match = None if shape.is_word and _is_inside_word(data, at) else shape.pattern.match(data, at)
                if match is not None:
                    yield match.end(shape.kept) if shape.kept is not None else at, match.end(), _MASK
                at = lowered.find(anchor, at + 1 if match is None else match.end())


def _data_urls(data: bytes, lowered: bytes) -> Iterator[_Span]:
    at = lowered.find(b"data:")
    while at >= 0:
        match = _DATA_URL.match(data, at)
        if match is not None:
            yield match.start(2), match.end(), b"[%d characters]" % len(match[2])
        at = lowered.find(b"data:", at + 1 if match is None else match.end())


def _is_inside_word(data: bytes, at: int) -> bool:
    if not at or data[at - 1] not in _WORD:
        return False
    is_escape = at > 1 and data[at - 2] == 0x5C and data[at - 1] in _ESCAPES  # the "n" of a line break in JSON
    return not is_escape
