"""Exact token counts for OpenAI's models, from a process of their own.

A vocabulary takes half a second to load, during which nothing else in a process moves, and up to 70 MB. So it lives in
a child process that starts with the first request for an exact count, serves one count at a time, and ends when nobody
has asked for a while. Whatever goes wrong with it, the answer is an estimate and never an error.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import sys
from typing import Any, Final

import gevent
import msgspec
from gevent import subprocess
from gevent.lock import Semaphore

from omniroute.formats.codec import Pause
from omniroute.formats.token_count import Encoding, count_texts

log = logging.getLogger(__name__)

_IDLE_S: Final = 120.0
_LIMIT_S: Final = 20.0
_LENGTH: Final = struct.Struct(">I")
_MODULE: Final = "omniroute.runtime.tokenizer_process"


class Tokenizer:
    """Counts texts in the child process. One per worker; safe from any greenlet."""

    def __init__(self, *, idle_s: float = _IDLE_S, limit_s: float = _LIMIT_S) -> None:
        """`idle_s`: how long the process outlives its last use; `limit_s`: how long one count may take."""
        self._idle_s = idle_s
        self._limit_s = limit_s
        self._alone = Semaphore(1)
        self._process: Any = None
        self._end: Any = None

    def count(self, texts: list[str], encoding: Encoding, pause: Pause) -> int:
        """Return how many tokens some texts are together; estimated where the process fails."""
        with self._alone:
            try:
                with gevent.Timeout(self._limit_s):
                    return self._asked(texts, encoding)
            except (gevent.Timeout, OSError, ValueError) as error:
                log.warning("the tokenizer process failed: %s", type(error).__name__)
                self.close()
            except BaseException:  # who asked was stopped: the answer to come must not be taken for the next one's
                self.close()
                raise
            finally:
                self._end_later()
        return count_texts(texts, encoding, pause)

    def close(self) -> None:
        """End the process. It starts again when it is needed."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.kill()
            process.wait()

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None

    def _asked(self, texts: list[str], encoding: Encoding) -> int:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(  # our own module, by our own interpreter
                [sys.executable, "-m", _MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                close_fds=True,
                start_new_session=True,  # an interrupt at the terminal is for the server, which ends it in good order
            )
        asked = msgspec.json.encode([encoding.value, texts])
        self._process.stdin.write(_LENGTH.pack(len(asked)) + asked)
        self._process.stdin.flush()
        head = self._process.stdout.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            raise ValueError("the process ended")
        return int(_LENGTH.unpack(head)[0])

    def _end_later(self) -> None:
        if self._end is not None:
            self._end.kill(block=False)
        self._end = gevent.spawn_later(self._idle_s, self.close)
