"""Everything that a target format cannot say and that is left out of a translated request: the only list.

A renderer that leaves something out says so with :meth:`Losses.drop`, and may only drop what is declared here for its
format. Content, tool calls and tool results are never dropped: what cannot be said of them is refused with
:func:`unsupported`. Paths are the canonical member names of :class:`omniroute.formats.canonical.Request`;
`extra.<member>` is a top-level member that only the client's format knows.

A member whose name begins with `SPELLING` is the format's own note on how something was spelt that the canonical form
says already: leaving it out is no loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from omniroute.errors import UnsupportedFeature
from omniroute.formats.wire import WireFormat

SPELLING: Final = "="

_MOST_SHOWN: Final = 5

_EVERYWHERE: Final = frozenset({"extra", "messages.extra", "tools.extra", "tools.server", "reasoning", "citations"})

DECLARED: Final = {
    WireFormat.OPENAI_CHAT: _EVERYWHERE
    | {"top_k", "cache", "thinking", "tools.strict", "verbosity", "service_tier"}
    | {"seed", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "stop", "store"}
    | {"temperature", "top_p", "metadata", "cache_key", "user", "message.name", "parallel_tools"},
    WireFormat.OPENAI_RESPONSES: _EVERYWHERE
    | {"top_k", "stop", "seed", "frequency_penalty", "presence_penalty", "logit_bias", "cache", "thinking"}
    | {"message.name", "temperature", "top_p", "logprobs", "top_logprobs", "tools.strict"}
    | {"service_tier", "store", "parallel_tools"},
    WireFormat.ANTHROPIC_MESSAGES: _EVERYWHERE
    | {"seed", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "metadata"}
    | {"cache_key", "verbosity", "store", "service_tier", "media.detail", "message.name", "tools.strict", "thinking"}
    | {"temperature", "top_p", "top_k", "tool_choice", "cache", "stop"},
    WireFormat.GEMINI: _EVERYWHERE
    | {"logit_bias", "logprobs", "top_logprobs", "user", "metadata", "cache_key", "cache", "service_tier", "store"}
    | {"parallel_tools", "verbosity", "tools.strict", "media.detail", "message.name", "thinking", "stop"}
    | {"temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty"},
    WireFormat.OLLAMA: _EVERYWHERE
    | {"logit_bias", "logprobs", "top_logprobs", "user", "metadata", "cache_key", "cache", "service_tier", "store"}
    | {"parallel_tools", "verbosity", "tools.strict", "media.detail", "message.name", "thinking", "tool_choice"}
    | {"output.name"},
}
"""Format to the members that its renderer may leave out."""

CLIENT_WORDS: Final[Mapping[WireFormat, Mapping[str, str]]] = {
    WireFormat.OPENAI_CHAT: {"output": "response_format", "system": "messages", "previous_id": "previous_response_id"},
    WireFormat.OPENAI_RESPONSES: {
        "output": "text.format",
        "messages": "input",
        "system": "instructions",
        "previous_id": "previous_response_id",
    },
    WireFormat.ANTHROPIC_MESSAGES: {"output": "output_config.format"},
    WireFormat.GEMINI: {
        "n": "generationConfig.candidateCount",
        "audio": "generationConfig.responseModalities",
        "output": "generationConfig.responseMimeType",
        "messages": "contents",
        "system": "systemInstruction",
    },
    WireFormat.OLLAMA: {"output": "format", "system": "messages"},
}
"""Members as each format's client calls them, where the name differs from the one in a refusal."""


class UndeclaredLoss(AssertionError):
    """A renderer left out what this module does not declare: a fault of the renderer."""


class Losses:
    """Collects what one translation left out, each path once, in order."""

    __slots__ = ("_paths", "_target")

    def __init__(self, target: WireFormat) -> None:
        self._target = target
        self._paths: dict[str, None] = {}

    def drop(self, path: str, member: str = "") -> None:
        """Note that `path` was left out; `member` is the name below it, for paths that hold many.

        Raises:
            UndeclaredLoss: the target's format has no such loss.
        """
        if path not in DECLARED[self._target]:
            raise UndeclaredLoss(f"{path} is not a declared loss of {self._target}")
        if member.startswith(SPELLING):
            return
        self._paths[f"{path}.{member}" if member else path] = None

    def drop_all(self, path: str, members: Iterable[str]) -> None:
        """Note several members below one path."""
        for member in members:
            self.drop(path, member)

    @property
    def paths(self) -> tuple[str, ...]:
        """All that was left out."""
        return tuple(self._paths)

    @property
    def warning(self) -> str:
        """The value for the warning header: up to five paths, then how many more."""
        paths = [path.removeprefix("extra.") for path in self._paths]
        shown = [f"dropped:{path}" for path in paths[:_MOST_SHOWN]]
        if len(paths) > _MOST_SHOWN:
            shown.append(f"dropped:+{len(paths) - _MOST_SHOWN}")
        return ",".join(shown)


def unsupported(path: str, message: str) -> UnsupportedFeature:
    """Return the refusal of something that the target cannot say and that must not be dropped."""
    return UnsupportedFeature(message, param=path)
