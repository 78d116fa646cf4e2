"""Events of an answer as the stream of a Responses client.

Theory. The stream is `response.created`, `response.in_progress`, then one run of events per output item, then one event
with the whole response. Neighbouring texts and refusals are parts of one message, so a message stays open after its
last part until something else begins; every other block is an item of its own. Each delta goes out as it comes; what
the closing events repeat is collected beside it. Events are numbered from 0 without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import (
    Block,
    CallKind,
    Citation,
    Media,
    MediaKind,
    Refusal,
    ServerTool,
    SourceKind,
    Stop,
    Text,
    Thinking,
    Token,
    ToolCall,
    Unknown,
    is_torn,
)
from omniroute.formats.codec import Reply
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    UsageUpdate,
)
from omniroute.formats.fold import join_lists
from omniroute.formats.openai_responses import client_tools
from omniroute.formats.openai_responses.errors import error_object, frame, render_failed, render_in_stream
from omniroute.formats.openai_responses.members import LIST, TEXT, note_of
from omniroute.formats.openai_responses.parts import annotation_of
from omniroute.formats.openai_responses.response_object import ResponseObject
from omniroute.formats.openai_responses.tools import OwnName, own_names
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.wire import WireFormat

_LONGEST_ID: Final = 64
_encode: Final = msgspec.json.Encoder().encode


class Renderer:
    """See :class:`omniroute.formats.codec.StreamRenderer`.

    Attributes:
        response: the response object of the terminal event, once that was rendered.
    """

    def __init__(self, reply: Reply) -> None:
        self.response = b""
        self._reply = reply
        self._object = ResponseObject(reply)
        self._number = 0
        self._usage: Usage = NOT_REPORTED
        self._items: list[bytes] = []
        self._ids: set[str] = set()
        self._has_refusal = False
        self._own_names: dict[str, OwnName] | None = None
        self._out: list[bytes] = []
        # The open message, if any.
        self._message_id = ""
        self._message_note: msgspec.Raw | None = None
        self._parts: list[bytes] = []
        # The open block, if any.
        self._block: Block | None = None
        self._item_id = ""
        self._before_delta = b""
        self._pieces: list[str] = []
        self._token: Token | None = None
        self._logprobs: list[msgspec.Raw] = []
        self._annotations: list[Any] = []

    def render(self, events: Sequence[Event]) -> bytes:
        """Return the frames of these events."""
        out = self._out
        for event in events:
            match event:
                case BlockDelta():
                    self._delta(event)
                case BlockStart(block=block):
                    self._start(block)
                case BlockStop():
                    self._stop()
                case UsageUpdate(usage=usage):
                    self._usage = self._usage.merge(usage)
                case MessageStart(usage=usage):
                    if usage is not None:
                        self._usage = self._usage.merge(usage)
                    self._begin()
                case MessageStop(stop=stop):
                    self._end(stop)
                case _:
                    pass  # signs of life, and errors, which come with :meth:`fail`
        frames = b"".join(out)
        out.clear()
        return frames

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the event that ends this stream with an error: open items are left open."""
        if self._number == 0:
            return render_in_stream(error)
        response = self._object.render(b"failed", b",".join(self._items), usage=self._usage, error=error_object(error))
        return render_failed(response, self._number)

    def count_from(self, number: int) -> None:
        """Let the next event have this number: somebody else has sent those before it."""
        self._number = number

    # --- the frame -------------------------------------------------------------------------------------------------

    def _event(self, kind: bytes, fields: bytes) -> None:
        """Add an event; `fields` are its members after type and number."""
        data = b'{"type":"%b","sequence_number":%d,%b}' % (kind, self._number, fields)
        self._out.append(frame(kind, data))
        self._number += 1

    def _begin(self) -> None:
        started = b'"response":' + self._object.render(b"in_progress")
        self._event(b"response.created", started)
        self._event(b"response.in_progress", started)

    def _end(self, stop: Stop) -> None:
        is_cut = stop in (Stop.LENGTH, Stop.CONTEXT_FULL)
        self._close_message(b"incomplete" if is_cut else b"completed")
        output = b",".join(self._items)
        status, self.response = self._object.ended(stop, output, self._usage, has_refusal=self._has_refusal)
        self._event(b"response." + status, b'"response":' + self.response)
        self._out.append(self._reply.trailer(self._usage))

    def _place(self) -> bytes:
        return b'"item_id":"%b","output_index":%d' % (self._item_id.encode(), len(self._items))

    def _added(self, item: bytes) -> None:
        self._event(b"response.output_item.added", b'"output_index":%d,"item":%b' % (len(self._items), item))

    def _done(self, item: bytes) -> None:
        self._event(b"response.output_item.done", b'"output_index":%d,"item":%b' % (len(self._items), item))
        self._items.append(item)

    def _new_id(self, prefix: str, given: str | None = None) -> str:
        if given and len(given) <= _LONGEST_ID and given.isascii() and given not in self._ids and '"' not in given:
            self._ids.add(given)
            return given
        return self._object.item_id(prefix, len(self._items))

    # --- blocks ----------------------------------------------------------------------------------------------------

    def _start(self, block: Block) -> None:
        self._block = block
        self._pieces = []
        self._token = None
        match block:
            case Text() | Refusal():
                self._start_part(block)
                return
            case Thinking():
                self._close_message(b"completed")
                self._start_reasoning(block)
            case ToolCall():
                self._close_message(b"completed")
                self._start_call(block)
            case (
                ServerTool(origin=WireFormat.OPENAI_RESPONSES, raw=raw)
                | Unknown(origin=WireFormat.OPENAI_RESPONSES, raw=raw)
            ):
                self._close_message(b"completed")
                self._added(bytes(raw))
                self._done(bytes(raw))
            case Media(kind=MediaKind.IMAGE, source=SourceKind.INLINE):
                self._close_message(b"completed")
                self._image(block)
            case Media():
                note = _note_for(block)
                self._block = Text("")
                self._start_part(self._block)
                self._delta(BlockDelta(0, DeltaKind.TEXT, note))
            case _:
                pass  # what another vendor ran has no item here

    def _delta(self, event: BlockDelta) -> None:
        value = event.value
        if isinstance(value, str):
            self._pieces.append(value)
            if not self._before_delta:
                if event.kind is not DeltaKind.THINKING:
                    return  # the item is given whole when it is complete
                self._start_summary()
            logprobs = b""
            if event.logprobs is not None:
                self._logprobs.append(event.logprobs)
                logprobs = b',"logprobs":' + bytes(event.logprobs).translate(None, b"\r\n")
            elif event.kind is DeltaKind.TEXT:
                logprobs = b',"logprobs":[]'
            self._piece(value, logprobs)
        elif isinstance(value, Token):
            self._token = value
        else:
            self._citation(value)

    def _piece(self, text: str, more: bytes = b"") -> None:
        """Add a delta of the open block."""
        self._out.append(b'%b%b%b,"sequence_number":%d}\n\n' % (self._before_delta, _encode(text), more, self._number))
        self._number += 1

    def _ready(self, kind: bytes, fields: bytes) -> bytes:
        """Return an event up to its delta, which is followed by its number."""
        return b'event: %b\ndata: {"type":"%b",%b,%b"delta":' % (kind, kind, self._place(), fields)

    def _stop(self) -> None:
        block, self._block = self._block, None
        text = "".join(self._pieces)
        match block:
            case Text() | Refusal():
                self._stop_part(block, block.text + text)
            case Thinking():
                self._stop_reasoning(block, block.text + text)
            case ToolCall():
                self._stop_call(msgspec.structs.replace(block, arguments=block.arguments + text))
            case _:
                pass
        self._before_delta = b""

    # --- messages --------------------------------------------------------------------------------------------------

    def _start_part(self, block: Text | Refusal) -> None:
        note = note_of(block.extra, "message")
        if self._message_id and note != self._message_note:
            self._close_message(b"completed")
        if not self._message_id:
            self._message_id = self._new_id("msg")
            self._message_note = note
            self._item_id = self._message_id
            self._added(self._message(b"in_progress"))
        index = b'"content_index":%d' % len(self._parts)
        if isinstance(block, Text):
            self._logprobs = []
            self._annotations = []
            part = b'{"type":"output_text","annotations":[],"logprobs":[],"text":""}'
            self._before_delta = self._ready(b"response.output_text.delta", index + b",")
        else:
            self._has_refusal = True
            part = b'{"type":"refusal","refusal":""}'
            self._before_delta = self._ready(b"response.refusal.delta", index + b",")
        self._event(b"response.content_part.added", b'%b,%b,"part":%b' % (self._place(), index, part))
        if block.text:
            self._piece(block.text)

    def _stop_part(self, block: Text | Refusal, text: str) -> None:
        at = b'%b,"content_index":%d' % (self._place(), len(self._parts))
        said = _encode(text)
        if isinstance(block, Refusal):
            self._event(b"response.refusal.done", b'%b,"refusal":%b' % (at, said))
            part = b'{"type":"refusal","refusal":%b}' % said
        else:
            logprobs = bytes(join_lists(self._logprobs)) if self._logprobs else b"[]"
            self._event(b"response.output_text.done", b'%b,"text":%b,"logprobs":%b' % (at, said, logprobs))
            part = b'{"type":"output_text","annotations":%b,"logprobs":%b,"text":%b}' % (
                _encode(self._annotations),
                logprobs,
                said,
            )
        self._event(b"response.content_part.done", b'%b,"part":%b' % (at, part))
        self._parts.append(part)

    def _citation(self, citation: Citation) -> None:
        annotation: Any
        if citation.origin is WireFormat.OPENAI_RESPONSES:
            annotation = citation.raw
        else:
            if citation.start is None or citation.end is None:  # it is about all of the text so far
                length = sum(map(len, self._pieces))
                citation = msgspec.structs.replace(citation, start=0, end=length)
            annotation = annotation_of(citation)
            if annotation is None:
                return  # a source without an address has no place here
        at = b'%b,"content_index":%d,"annotation_index":%d' % (
            self._place(),
            len(self._parts),
            len(self._annotations),
        )
        self._event(b"response.output_text.annotation.added", b'%b,"annotation":%b' % (at, _encode(annotation)))
        self._annotations.append(annotation)

    def _message(self, status: bytes) -> bytes:
        note = self._message_note
        phase = b""
        if note is not None:
            said = bytes(LIST.decode(note)[1])
            phase = b"" if said == b"null" else b',"phase":' + said
        return b'{"id":"%b","type":"message","status":"%b","role":"assistant","content":[%b]%b}' % (
            self._message_id.encode(),
            status,
            b",".join(self._parts),
            phase,
        )

    def _close_message(self, status: bytes) -> None:
        if self._message_id:
            self._done(self._message(status))
            self._message_id = ""
            self._parts = []

    # --- reasoning -------------------------------------------------------------------------------------------------

    def _start_reasoning(self, block: Thinking) -> None:
        self._item_id = self._new_id("rs", block.id)
        self._before_delta = b""
        self._added(b'{"id":"%b","type":"reasoning","summary":[]}' % self._item_id.encode())
        if block.text:
            self._start_summary()
            self._piece(block.text)

    def _start_summary(self) -> None:
        self._before_delta = self._ready(b"response.reasoning_summary_text.delta", b'"summary_index":0,')
        part = b'%b,"summary_index":0,"part":{"type":"summary_text","text":""}' % self._place()
        self._event(b"response.reasoning_summary_part.added", part)

    def _stop_reasoning(self, block: Thinking, text: str) -> None:
        token = self._token or block.token
        if not self._before_delta and token is not None and not block.redacted:
            self._start_summary()  # one empty part tells reasoning that was not shown from reasoning that is sealed
        summary = b""
        if self._before_delta:
            said = _encode(text)
            summary = b'{"type":"summary_text","text":%b}' % said
            at = self._place() + b',"summary_index":0'
            self._event(b"response.reasoning_summary_text.done", b'%b,"text":%b' % (at, said))
            self._event(b"response.reasoning_summary_part.done", b'%b,"part":%b' % (at, summary))
        seal = b"" if token is None else b',"encrypted_content":' + _encode(token.value)
        item = b'{"id":"%b","type":"reasoning","summary":[%b]%b}' % (self._item_id.encode(), summary, seal)
        self._done(item)

    # --- calls -----------------------------------------------------------------------------------------------------

    def _own(self, call: ToolCall) -> OwnName:
        """Return what the client calls the tool of a call."""
        namespace = call.extra.get("=namespace")
        if namespace is not None and "=name" in call.extra:
            return OwnName(TEXT.decode(call.extra["=name"]), TEXT.decode(namespace))
        if self._own_names is None:
            self._own_names = own_names(self._reply.request)
        return self._own_names.get(call.name) or OwnName(call.name)

    def _start_call(self, call: ToolCall) -> None:
        self._before_delta = b""
        own = self._own(call)
        if own.type is not None:
            return  # its item can only be made from whole arguments
        prefix, kind = (
            ("ctc", "custom_tool_call_input") if call.kind is CallKind.CUSTOM else ("fc", "function_call_arguments")
        )
        self._item_id = self._new_id(prefix)
        self._added(self._call(call, own, "", b"in_progress"))
        self._before_delta = self._ready(f"response.{kind}.delta".encode(), b"")
        if call.arguments:
            self._piece(call.arguments)

    def _stop_call(self, call: ToolCall) -> None:
        own = self._own(call)
        # Arguments that break off must not be run: whoever reads the status sees that, whoever parses them fails.
        status = b"incomplete" if is_torn(call) else b"completed"
        if own.type is not None:
            item_id = self._new_id(client_tools.PREFIXES[own.type])
            item = client_tools.item_of(own.type, call, item_id, status.decode())
            if item is not None:
                self._added(_encode({**item, "status": "in_progress"}))
                self._done(_encode(item))
                return
            self._item_id = self._new_id("fc")
            self._added(self._call(call, own, "", b"in_progress"))
            self._before_delta = self._ready(b"response.function_call_arguments.delta", b"")
            if call.arguments:
                self._piece(call.arguments)
        arguments = call.arguments
        if call.kind is CallKind.CUSTOM:
            self._event(b"response.custom_tool_call_input.done", b'%b,"input":%b' % (self._place(), _encode(arguments)))
        else:
            arguments = arguments if arguments.strip() else "{}"
            if not call.arguments and self._before_delta:
                self._piece(arguments)
            fields = b'%b,"name":%b,"arguments":%b' % (self._place(), _encode(own.name), _encode(arguments))
            self._event(b"response.function_call_arguments.done", fields)
        self._done(self._call(call, own, arguments, status))

    def _call(self, call: ToolCall, own: OwnName, arguments: str, status: bytes) -> bytes:
        kind, field = ("custom_tool_call", "input") if call.kind is CallKind.CUSTOM else ("function_call", "arguments")
        item: dict[str, Any] = {"id": self._item_id, "type": kind, "status": status.decode(), field: arguments}
        item["call_id"] = call.id
        item["name"] = own.name
        if own.namespace is not None:
            item["namespace"] = own.namespace
        return _encode(item)

    def _image(self, media: Media) -> None:
        item_id = self._new_id("ig")
        item = {"id": item_id, "type": "image_generation_call", "status": "in_progress", "result": None}
        self._added(_encode(item))
        form = (media.mime or "image/png").partition("/")[2]
        self._done(_encode({**item, "status": "completed", "result": media.data, "output_format": form}))


def _note_for(media: Media) -> str:
    """Return the text that stands for media which no item of this format can hold."""
    if media.source is SourceKind.URL:
        return f"![{media.name or media.kind.value}]({media.data})"
    return f"[{media.kind.value} of type {media.mime or 'unknown'}, which this format cannot show]"
