"""The words that the sandbox says of its own accord, and how text is cut into streamed pieces."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

STORY: Final = (
    "At the edge of a salt marsh stood a small signal house, and in it lived Oda, who passed on messages. "
    "Every evening the lamps of seven towns blinked across the water, each in its own rhythm, and Oda answered all. "
    "One night the nearest tower went dark. A ferry was waiting in the fog, and its captain asked, again and again, "
    "whether the channel was clear. Oda swung her lamp to the second tower, but it was busy with a wedding. "
    "The third replied at once, though in an accent so thick that she had to smile. She wrote down every flash, "
    "turned the words into the captain's own code, and sent them on without losing a single letter. "
    "The ferry slid past the sandbank with a hand's breadth to spare. In the morning the dark tower lit up again, "
    "full of excuses about damp matches. Oda only noted the hour in her book, the tower that had helped, "
    "and the cost of the oil. Then she trimmed the wick, made tea, and waited for the next evening to begin."
)
_FILLER: Final = "marsh-lamp-tower-ferry-signal-channel-evening-wick-"
_WORD: Final = re.compile(r"\s*\S+\s?|\s+")
_TOKEN: Final = re.compile(r"\S+")


def words(text: str) -> tuple[str, ...]:
    """Cut text into its words, each with the blank behind it; joined they are the text again."""
    return tuple(_WORD.findall(text))


@lru_cache(maxsize=256)
def numbered(count: int, size: int | None) -> tuple[str, ...]:
    """Return `count` pieces of one word each that begin with their number, counted from 0.

    With `size` every piece has that many characters, but never fewer than its number needs.
    """
    if size is None:
        return tuple(f"{n}:{_FILLER.split('-')[n % 8]} " for n in range(count))
    filler = _FILLER * (size // len(_FILLER) + 1)
    return tuple((head := f"{n}:") + filler[: max(0, size - len(head) - 1)] + " " for n in range(count))


def slices(text: str, size: int | None) -> tuple[str, ...]:
    """Cut text into pieces of `size` characters; without a size into some forty, so that long echoes stay cheap."""
    step = size or max(16, -(-len(text) // 40))
    if len(text) <= step:
        return (text,) if text else ()
    return tuple(text[i : i + step] for i in range(0, len(text), step))


def tokens(characters: int) -> int:
    """Count tokens as the sandbox does: one for every four characters begun, at least one."""
    return max(1, (characters + 3) // 4)


def word_limit(text: str, most: int) -> int | None:
    """Return the length at which `most` words are said, or None when the text has no more than that."""
    if len(text) < 2 * most:  # even one-letter words could not reach the limit
        return None
    end = 0
    for count, match in enumerate(_TOKEN.finditer(text)):
        if count == most:
            return end
        end = match.end()
    return None


def shorten(pieces: tuple[str, ...], length: int) -> tuple[str, ...]:
    """Keep the first `length` characters of pieces that are said one after the other."""
    kept: list[str] = []
    for piece in pieces:
        if length <= 0:
            break
        kept.append(piece[:length])
        length -= len(piece)
    return tuple(kept)
