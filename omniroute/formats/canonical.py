"""The one form between all formats: what a request asks and what an answer says, whatever the wire format.

Values are frozen `msgspec` structs: they cost a quarter of a frozen dataclass to make, and a translated request makes
thousands (decision record 0008). Text that must not change on its way (tool arguments, schemas, numbers) stays JSON
text: a `msgspec.Raw` or a string, never a Python number.

Three rules that every parser and renderer keeps:

- `extra` holds members that only the format in `origin` understands, verbatim. The renderer of that format puts them
  back; every other renderer reports them as a loss or refuses (`losses.py`).
- A parser may also keep in `extra` the original spelling of a member that the canonical form would normalise, under
  the member's own name; the renderer of the same format then prefers it. With `losses.SPELLING` in front of the name
  other renderers report no loss for it.
- `None` means "not said", never "none" or 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.wire import WireFormat

Extra = Mapping[str, msgspec.Raw]
NO_EXTRA: Final[Extra] = MappingProxyType({})


class Role(StrEnum):
    """Who speaks. `SYSTEM` and `DEVELOPER` may stand anywhere; `TOOL` holds nothing but results."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    SYSTEM = "system"
    DEVELOPER = "developer"


class Stop(StrEnum):
    """Why an answer ended. `REFUSAL` is the model's own word or a provider's filter."""

    END = "end"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    CONTEXT_FULL = "context_full"
    TOOL_USE = "tool_use"
    PAUSE = "pause"
    REFUSAL = "refusal"


class MediaKind(StrEnum):
    """What a piece of media is."""

    IMAGE = "image"
    DOCUMENT = "document"
    AUDIO = "audio"
    VIDEO = "video"


class SourceKind(StrEnum):
    """Where the bytes of a piece of media are: in the request (standard base64 with padding), elsewhere, or a text."""

    INLINE = "inline"
    URL = "url"
    FILE_ID = "file_id"
    TEXT = "text"


class CallKind(StrEnum):
    """How a tool takes its input: a JSON object, or free text."""

    FUNCTION = "function"
    CUSTOM = "custom"


# --- content -------------------------------------------------------------------------------------------------------


class Token(msgspec.Struct, frozen=True, gc=False):
    """An opaque value that only its maker can read: a thinking signature, encrypted reasoning, a thought signature.

    Attributes:
        value: as its maker spelt it.
        origin: the format it was written in.
        provider: id of the provider that made it; None when it arrived unwrapped, so that its maker is only known to
            be some service of the format.
        family: the connection family at that provider that can read it.
    """

    value: str
    origin: WireFormat
    provider: str | None = None
    family: str | None = None


class Citation(msgspec.Struct, frozen=True, gc=False):
    """A source of a text. `raw` is the object as its origin wrote it; the other fields are what all formats can say."""

    origin: WireFormat
    raw: msgspec.Raw
    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None
    """Character offsets in the text, where the origin gives them."""
    end: int | None = None


class Text(msgspec.Struct, frozen=True):
    """Visible text.

    Attributes:
        cache: a cache mark as Messages writes it (`{"type": "ephemeral", …}`).
        logprobs: list of token objects `{token, logprob, bytes, top_logprobs}` as OpenAI's formats write them.
    """

    text: str
    cache: msgspec.Raw | None = None
    citations: tuple[Citation, ...] = ()
    logprobs: msgspec.Raw | None = None
    extra: Extra = NO_EXTRA


class Thinking(msgspec.Struct, frozen=True):
    """Reasoning. `redacted` ones have no text, only a token. `id` is an item id where the origin has one."""

    text: str
    token: Token | None = None
    redacted: bool = False
    id: str | None = None
    extra: Extra = NO_EXTRA


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a tool of the client. `arguments` is the string that the model wrote, also when it is not JSON."""

    id: str
    name: str
    arguments: str
    kind: CallKind = CallKind.FUNCTION
    token: Token | None = None
    cache: msgspec.Raw | None = None
    extra: Extra = NO_EXTRA


class Media(msgspec.Struct, frozen=True):
    """An image, document, audio or video. `data` is base64, a URL, a file id or plain text, as `source` says."""

    kind: MediaKind
    source: SourceKind
    data: str
    mime: str | None = None
    name: str | None = None
    detail: str | None = None
    cache: msgspec.Raw | None = None
    extra: Extra = NO_EXTRA


class Refusal(msgspec.Struct, frozen=True):
    """The model's words for not answering."""

    text: str
    extra: Extra = NO_EXTRA


class ServerTool(msgspec.Struct, frozen=True):
    """A call that a provider ran itself, or its result: meaningful to the origin only. `note` says it in a sentence."""

    origin: WireFormat
    raw: msgspec.Raw
    note: str = ""


class Unknown(msgspec.Struct, frozen=True):
    """A block of a type that its format's parser does not know; goes back to that format only."""

    origin: WireFormat
    raw: msgspec.Raw


class ToolResult(msgspec.Struct, frozen=True):
    """What a tool gave back for the call `call_id`.

    `name` is the function's, where the format says it or the parser can tell. `plain` as in :class:`Message`.
    """

    call_id: str
    blocks: tuple[Text | Media | ServerTool | Unknown, ...]
    is_error: bool = False
    kind: CallKind = CallKind.FUNCTION
    name: str | None = None
    cache: msgspec.Raw | None = None
    plain: bool = False
    extra: Extra = NO_EXTRA


Block = Text | Thinking | ToolCall | ToolResult | Media | Refusal | ServerTool | Unknown


class Message(msgspec.Struct, frozen=True):
    """One turn. `plain`: its content stood as a string and not as a list of blocks. `name` is the speaker's.

    `is_continued`: it stood in one turn with the message before it; Messages and Gemini put results and text in one.
    """

    role: Role
    blocks: tuple[Block, ...]
    plain: bool = False
    name: str | None = None
    extra: Extra = NO_EXTRA
    is_continued: bool = False


# --- what may be called, and how the answer is wanted --------------------------------------------------------------


class Tool(msgspec.Struct, frozen=True):
    """A tool of the client. `schema` is the JSON schema of the input as text; None when it was not given."""

    name: str
    description: str | None = None
    schema: msgspec.Raw | None = None
    strict: bool | None = None
    kind: CallKind = CallKind.FUNCTION
    format: msgspec.Raw | None = None
    """Grammar of a custom tool, as OpenAI's formats write it."""
    cache: msgspec.Raw | None = None
    extra: Extra = NO_EXTRA


class ServerToolDefinition(msgspec.Struct, frozen=True):
    """A tool that the provider runs, or a vendor's own client tool (`bash_…`, `computer_…`): its origin's only."""

    origin: WireFormat
    type: str
    raw: msgspec.Raw
    name: str | None = None


AnyTool = Tool | ServerToolDefinition


class ChoiceMode(StrEnum):
    """Whether tools may or must be called. `NAMED` is exactly one tool; `names` of the choice holds it."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


class ToolChoice(msgspec.Struct, frozen=True):
    """The caller's word on calling tools. `names` of AUTO or REQUIRED limits the choice to a subset."""

    mode: ChoiceMode
    names: tuple[str, ...] = ()
    kind: CallKind = CallKind.FUNCTION
    extra: Extra = NO_EXTRA


class Effort(StrEnum):
    """How hard a model shall think, weakest first."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class Reasoning(msgspec.Struct, frozen=True):
    """What the caller says about reasoning. Any part may be unsaid.

    Attributes:
        budget: tokens; 0 switches reasoning off, -1 leaves it to the model.
        is_adaptive: the model decides how much (`thinking: {"type": "adaptive"}`).
        is_visible: whether the reasoning shall be shown.
        summary: wish for a summary (`auto`, `concise`, `detailed`).
    """

    effort: Effort | None = None
    budget: int | None = None
    is_adaptive: bool = False
    is_visible: bool | None = None
    summary: str | None = None
    extra: Extra = NO_EXTRA


class Output(msgspec.Struct, frozen=True):
    """JSON is wanted: any object when `schema` is None, otherwise one that fits it."""

    schema: msgspec.Raw | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    extra: Extra = NO_EXTRA


class Request(msgspec.Struct, frozen=True):
    """A request for one answer.

    Attributes:
        system: text in the place that the format has for it (Chat: the leading run of system and developer messages;
            Responses: `instructions`; Messages: `system`; Gemini: `systemInstruction`). Roles SYSTEM or DEVELOPER.
        messages: the conversation; system text may stand in it where the format allows that.
        max_output: tokens, reasoning included.
        metadata: JSON object of strings.
        extra: top-level members without a canonical place, tuning knobs of one vendor among them.
    """

    origin: WireFormat
    model: str
    messages: tuple[Message, ...]
    system: tuple[Message, ...] = ()
    tools: tuple[AnyTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_output: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: msgspec.Raw | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    n: int | None = None
    stop: tuple[str, ...] = ()
    reasoning: Reasoning | None = None
    output: Output | None = None
    verbosity: str | None = None
    user: str | None = None
    metadata: msgspec.Raw | None = None
    cache_key: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    previous_id: str | None = None
    audio_output: msgspec.Raw | None = None
    """Chat's `audio` object; its `modalities` are implied."""
    stream: bool = False
    include_usage: bool = False
    """A Chat client asked for the usage chunk of a stream."""
    extra: Extra = NO_EXTRA


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. `others` are further choices where several were asked for."""

    origin: WireFormat
    id: str
    model: str
    blocks: tuple[Block, ...]
    stop: Stop
    stop_sequence: str | None = None
    usage: Usage = NOT_REPORTED
    created: int | None = None
    """Epoch seconds."""
    others: tuple[Answer, ...] = ()
    extra: Extra = NO_EXTRA

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls among the blocks."""
        return tuple(block for block in self.blocks if isinstance(block, ToolCall))


def stop_of(stop: Stop, calls: Iterable[ToolCall]) -> Stop:
    """Return the true reason: an answer that calls a tool ends with tool use, whatever the upstream said.

    An answer cut off in the middle of a call's arguments keeps its reason, so that nobody runs a torn call; so does one
    that was refused.
    """
    calls = tuple(calls)
    if not calls:
        return Stop.END if stop is Stop.TOOL_USE else stop
    if stop is Stop.REFUSAL or (stop in (Stop.LENGTH, Stop.CONTEXT_FULL) and any(map(is_torn, calls))):
        return stop
    return Stop.TOOL_USE


def is_torn(call: ToolCall) -> bool:
    """Say whether the arguments of a function call are no whole JSON object; empty ones are."""
    return call.kind is CallKind.FUNCTION and arguments_object(call.arguments) is None


def arguments_object(arguments: str) -> msgspec.Raw | None:
    """Return arguments as the JSON object that some formats want, spelt as the model did; None when they are none.

    Empty arguments are the empty object.
    """
    text = arguments.strip()
    if not text:
        return _NO_ARGUMENTS
    try:
        _OBJECT.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return msgspec.Raw(text.encode())


_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NO_ARGUMENTS: Final = msgspec.Raw(b"{}")
