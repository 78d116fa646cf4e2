"""Bring this worker's configuration up to date for a credential that another worker may just have made.

Workers follow each other's changes by polling, so for up to half a second a new API key or session is known to one of
them only. Who proves by tag or signature that this installation made the credential gets one more look at the database
before the refusal. Several who wait share one look, and looks keep a distance from each other, so that a caller with a
revoked key cannot keep the database busy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from omniroute.errors import InternalError, StorageError

PAUSE_S: Final = 0.2


class CatchUp:
    """Refreshes the snapshot on demand, at most once per `PAUSE_S`.

    Args:
        refresh: brings the snapshot up to date; raises `StorageError` when the database cannot be read.
        monotonic: a clock in seconds that never goes back.
        sleep: waits; cooperative in a serving worker.
    """

    def __init__(
        self, refresh: Callable[[], object], *, monotonic: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._refresh = refresh
        self._monotonic = monotonic
        self._sleep = sleep
        self._turn = threading.Lock()
        self._began_at = float("-inf")

    def __call__(self) -> None:
        """Return after a refresh that began no earlier than this call.

        Raises:
            InternalError: `auth_unavailable`; nobody can tell now whether the credential is good.
        """
        arrived_at = self._monotonic()
        with self._turn:
            if self._began_at > arrived_at:
                return  # the one before us began after we came: it has seen what we are looking for
            wait_s = self._began_at + PAUSE_S - self._monotonic()
            if wait_s > 0:
                self._sleep(wait_s)
            self._began_at = self._monotonic()
            try:
                self._refresh()
            except StorageError as error:
                raise InternalError(
                    "The credential cannot be checked now: the database does not answer.",
                    code="auth_unavailable",
                    status=503,
                    retry_after_s=1.0,
                ) from error
