"""Notices at once that a client has left, although nothing is being written to it.

A WSGI server learns of a closed connection when a write fails, which never happens while a provider is silent. The
client's socket becomes readable when it closes, so a watcher on that costs nothing until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent import socket

_READ: Final = 1  # libev's EV_READ


class ClientWatch:
    """Calls back, in the hub, when the client closes its connection. Start and stop are idempotent.

    The callback must not block. A client that sends more (a pipelined request) is alive: the watch ends then, since the
    socket stays readable until the server reads it after this request.
    """

    __slots__ = ("_on_gone", "_socket", "_watcher")

    def __init__(self, client_socket: Any, on_gone: Callable[[], None]) -> None:
        """`client_socket`: gevent socket of the client, None where the server offers none (then nothing is watched)."""
        self._socket = client_socket
        self._on_gone = on_gone
        self._watcher: Any = None

    def start(self) -> None:
        """Begin to watch."""
        if self._socket is None or self._watcher is not None:
            return
        try:
            descriptor = self._socket.fileno()
        except OSError:
            return
        if descriptor < 0:
            self._on_gone()
            return
        self._watcher = gevent.get_hub().loop.io(descriptor, _READ)
        self._watcher.start(self._look)

    def stop(self) -> None:
        """End the watch; must happen before the server reads the next request from the socket."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def end(self) -> None:
        """Stop for good and let go of the callback, which refers back to whoever holds this watch."""
        self.stop()
        self._socket = None
        self._on_gone = _nothing

    def _look(self) -> None:
        try:
            # The non-blocking socket below gevent's; of TLS it shows ciphertext, which tells open from closed as well.
            is_gone = not self._socket._sock.recv(1, socket.MSG_PEEK)  # noqa: SLF001 -- see above
        except BlockingIOError:
            return
        except OSError:
            is_gone = True
        self.stop()
        if is_gone:
            self._on_gone()


def _nothing() -> None:
    """Stand in for the callback of a watch that has ended."""
