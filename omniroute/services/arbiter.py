"""The process that owns the workers, as a worker sees it: told to begin anew, or to stop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from omniroute.errors import Conflict
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin


class Arbiter:
    """Sends the signals that an operator would send by hand.

    Args:
        runtime: where the server leaves its process id when it starts.
        audit: told before the signal is sent.
        parent: the process that this one was forked from.
        kill: sends a signal.
    """

    def __init__(
        self,
        *,
        runtime: Path,
        audit: Recorder,
        parent: Callable[[], int] = os.getppid,
        kill: Callable[[int, int], None] = os.kill,
    ) -> None:
        self._file = runtime / "server.json"
        self._audit = audit
        self._parent = parent
        self._kill = kill

    def restart(self, origin: Origin) -> None:
        """Have the application built anew and all workers replaced; those of now finish what they do.

        Raises:
            Conflict: `not_supported`: this process is no worker of `omniroute server`.
        """
        self._signal(signal.SIGHUP, "server.restarted", origin)

    def stop(self, origin: Origin) -> None:
        """Have the server stop when its workers have finished what they do.

        Raises:
            Conflict: `not_supported`: this process is no worker of `omniroute server`.
        """
        self._signal(signal.SIGTERM, "server.stopped", origin)

    def _signal(self, number: signal.Signals, action: str, origin: Origin) -> None:
        pid = self._pid()
        if pid is None or pid != self._parent():
            raise Conflict(
                "This process was not started by 'omniroute server': whatever started it restarts and stops it.",
                code="not_supported",
            )
        self._audit.record(action, target_kind="server", target_id=str(pid), **origin.facts())
        self._kill(pid, number)

    def _pid(self) -> int | None:
        try:
            pid = json.loads(self._file.read_text(encoding="utf-8")).get("pid")
        except (OSError, ValueError, AttributeError):
            return None
        return pid if isinstance(pid, int) and pid > 0 else None
