"""A request limit as vendors impose it: so many in a window of time, counted per credential."""

from __future__ import annotations

from typing import Final

_MOST_CREDENTIALS: Final = 10_000


class RateWindow:
    """Counts requests per credential; a window opens with the first request and everyone starts anew when it ends."""

    __slots__ = ("_limit", "_opened", "_window_s")

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._opened: dict[str, tuple[float, int]] = {}

    def take(self, credential: str, now: float) -> float | None:
        """Count one request at `now`; None lets it through, a number says after how many seconds to come back."""
        opened_at, taken = self._opened.get(credential, (now, 0))
        if now - opened_at >= self._window_s:
            opened_at, taken = now, 0
        if taken >= self._limit:
            return opened_at + self._window_s - now
        if taken == 0 and len(self._opened) >= _MOST_CREDENTIALS:
            self._opened.clear()
        self._opened[credential] = (opened_at, taken + 1)
        return None
