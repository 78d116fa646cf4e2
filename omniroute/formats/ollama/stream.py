"""Relay of an Ollama stream: JSON lines, the last one with `done`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from omniroute.errors import OmniRouteError, UpstreamProtocolError
from omniroute.formats.lines import LineCutter, split_lines
from omniroute.formats.members import NULL
from omniroute.formats.ollama.chunk import read_chunk
from omniroute.formats.ollama.errors import render_in_stream
from omniroute.formats.ollama.usage import read_usage
from omniroute.formats.passthrough import CONTENT, PLAIN, TERMINAL, WITHHELD, PassthroughStream, Verdict
from omniroute.formats.usage import Usage

_MODEL: Final = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')


class OllamaStream(PassthroughStream):
    """See :class:`PassthroughStream`. The format has no comments, so that the trailer is made but not sent."""

    # The last line has at least one of these, however it is spaced.
    close_look: ClassVar[tuple[bytes, ...]] = (
        b'"done":true',
        b'"done": true',
        b'"done_reason"',
        b'_count"',
        b'"error"',
    )
    said_in: ClassVar[tuple[bytes, ...]] = (b'"content":"', b'"thinking":"', b'"arguments":{')
    names_model_once: ClassVar[bool] = False

    def __init__(self, requested_model: str | None, trailer: Callable[[Usage], bytes]) -> None:
        def silent(usage: Usage) -> bytes:
            trailer(usage)
            return b""

        super().__init__(requested_model, silent)
        self._cutter = LineCutter()

    def split(self, batch: bytes) -> Iterator[bytes]:
        """See :class:`PassthroughStream`."""
        return split_lines(batch)

    def judge(self, event: bytes) -> Verdict:
        """Read one line: content, usage, end, error."""
        if not event.strip():
            return WITHHELD
        chunk = read_chunk(event)
        if chunk.error != NULL:
            return Verdict(error=event.strip())
        if chunk.done:
            self.is_finished = True
            self.usage = self.usage.merge(read_usage(event))
            return TERMINAL
        said = chunk.message
        if said is not None and (said.content or said.thinking or said.tool_calls or said.images):
            return CONTENT
        return PLAIN

    def end(self) -> bytes:
        """See :class:`PassthroughStream`; a last line that only lacks its end counts."""
        out = b""
        if not self.is_complete and self._cutter.rest:
            try:
                out = self.feed(b"\n")
            except UpstreamProtocolError:
                out = b""  # it lacks more than that
        return out + super().end()

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """See :class:`PassthroughStream`."""
        return render_in_stream(error, request_id)

    def raw_error(self, data: bytes) -> bytes:
        """See :class:`PassthroughStream`."""
        return data + b"\n"

    def _rename(self, events: bytes) -> bytes:
        """Put back the model name, once per line: arguments of a call are JSON and may hold the same member."""
        if not self._new_member:
            return events
        return b"".join([_MODEL.sub(lambda _: self._new_member, line, count=1) for line in split_lines(events)])
