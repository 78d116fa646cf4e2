"""Say in words what a translation leaves out of a request, and find out what it leaves out of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypedDict

from omniroute.formats.canonical import Answer, Block, Media, Refusal, ServerTool, Text, Thinking, ToolCall, Unknown


class LossDocument(TypedDict):
    """Something that the other format cannot say: where it stood, and why it is left out."""

    path: str
    reason: str


_EXTRA: Final = "extra."
_REASONS: Final = {
    "messages.extra": "A member of a message that only the client's own format knows.",
    "tools.extra": "A member of a tool that only the client's own format knows.",
    "tools.server": "A tool that the client's own provider runs; this target has none like it.",
    "tools.strict": "The target cannot be held to a tool's schema.",
    "reasoning": "The target cannot be told this about reasoning.",
    "thinking": "Reasoning of an earlier turn that only its maker can read, or that the format has no place for.",
    "citations": "The format has no place for sources of an earlier answer.",
    "cache": "The target caches prompts by itself, or not at all: it takes no marks.",
    "message.name": "Messages have no names of their speakers there.",
    "media.detail": "Pictures are read as the target sees fit.",
    "output.name": "The wanted schema has no name there.",
    "tool_choice": "The target takes no word on which tool to call.",
    "parallel_tools": "Whether calls may be made together cannot be said there.",
    "metadata": "The format has no place for the caller's notes.",
    "store": "The target keeps nothing.",
    "user": "The format has no place for the end user's name.",
}
_KNOB: Final = "The target knows no such setting, or not with this value."


def request_losses(paths: Iterable[str]) -> list[LossDocument]:
    """Return losses of a request with a reason for each."""
    return [{"path": path.removeprefix(_EXTRA), "reason": _reason(path)} for path in paths]


def _reason(path: str) -> str:
    if path.startswith(_EXTRA):
        return "Only the client's own format knows this member."
    parts = path.split(".")
    return next((_REASONS[key] for key in (".".join(parts[:2]), parts[0]) if key in _REASONS), _KNOB)


def answer_losses(before: Answer, after: Answer | None) -> list[LossDocument]:
    """Return what an answer has lost on its way: `after` is what can be read of it in the other format."""
    if after is None:
        return [{"path": "answer", "reason": "The other format cannot say this answer so that it can be read again."}]
    losses = list(_block_losses(before.blocks, after.blocks))
    if len(before.others) > len(after.others):
        losses.append({"path": "choices", "reason": "The format has room for one choice only."})
    if before.stop_sequence and not after.stop_sequence:
        losses.append({"path": "stop_sequence", "reason": "Which stop sequence ended the answer cannot be said."})
    return losses


def _block_losses(before: Sequence[Block], after: Sequence[Block]) -> Iterator[LossDocument]:
    said = "".join(block.text for block in after if isinstance(block, Thinking))
    texts = [block for block in after if isinstance(block, Text)]
    for index, block in enumerate(before):
        path = f"blocks.{index}"
        match block:
            case Thinking(text=text, token=token):
                if text and text not in said:
                    yield {"path": f"{path}.thinking", "reason": "The format has no place for reasoning."}
                if token is not None and not _has_token(after, Thinking):
                    yield {"path": f"{path}.signature", "reason": "The proof of reasoning has no place in the format."}
            case Text(citations=citations, logprobs=logprobs):
                if citations and not any(text.citations for text in texts):
                    yield {"path": f"{path}.citations", "reason": "The format has no place for sources."}
                if logprobs is not None and not any(text.logprobs is not None for text in texts):
                    yield {"path": f"{path}.logprobs", "reason": "The format has no place for probabilities."}
            case ToolCall(token=token):
                if token is not None and not _has_token(after, ToolCall):
                    yield {"path": f"{path}.signature", "reason": "A call has no place for a proof of reasoning."}
            case ServerTool() | Unknown() if not any(isinstance(one, ServerTool | Unknown) for one in after):
                yield {"path": path, "reason": "A block that only the provider's own format knows."}
            case Media() if not any(isinstance(one, Media) for one in after):
                yield {"path": path, "reason": "The format has no place for media in answers."}
            case Refusal(text=text) if not any(isinstance(one, Refusal) for one in after):
                is_text = any(text and text in one.text for one in texts)
                reason = "A refusal stands there as plain text." if is_text else "A refusal has no words there."
                yield {"path": path, "reason": reason}
            case _:
                pass


def _has_token(blocks: Iterable[Block], kind: type[Thinking] | type[ToolCall]) -> bool:
    return any(isinstance(block, kind) and block.token is not None for block in blocks)
