"""Reasoning in the history: which of it a target may see again.

An opaque token goes back to the provider and connection family that made it and to nobody else; the reasoning that it
signs goes with it. Reasoning without a token is only sent to hosts that want their text back. Nothing is ever signed
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from omniroute.formats.canonical import Block, Effort, Message, Reasoning, Role, Thinking, Token, ToolCall
from omniroute.formats.losses import Losses
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.reasoning import is_wanted
from omniroute.formats.tokens import is_wrapped, unwrap
from omniroute.formats.wire import WireFormat

ThinkingOf = Callable[[str], tuple[str, Token | None] | None]
"""Tool-call id, as the client spells it, to the reasoning that the gateway kept for it."""

OFF: Final = Reasoning(effort=Effort.NONE, budget=0)

_LOSS: Final = "thinking"
_TOKEN_ON_REASONING: Final = frozenset({WireFormat.ANTHROPIC_MESSAGES, WireFormat.OPENAI_RESPONSES})


class Thoughts:
    """Fits the reasoning of one conversation to one target."""

    __slots__ = ("_losses", "_profile", "_thinking_of", "wants_kept")

    def __init__(self, profile: Profile, losses: Losses, thinking_of: ThinkingOf) -> None:
        self._profile = profile
        self._losses = losses
        self._thinking_of = thinking_of
        self.wants_kept = (
            profile.returns_thinking or profile.format is WireFormat.GEMINI or profile.format in _TOKEN_ON_REASONING
        )
        """Whether the target has a use for reasoning that the client's format could not carry."""

    def own(self, token: Token) -> Token | None:
        """Return the token as the target made it; None when somebody else did, or nobody signed anything."""
        if is_wrapped(token.value):
            token = unwrap(token.value, token.origin)
        profile = self._profile
        if token.origin is not profile.format or not token.value:
            return None
        if token.provider is None or (token.provider == profile.provider and token.family == profile.family):
            return token
        return None

    def fit(self, block: Thinking) -> Thinking | None:
        """Return reasoning as the target may see it; None when it may not."""
        token = self.own(block.token) if block.token is not None else None
        if token is not None:
            return block if token is block.token else msgspec.structs.replace(block, token=token)
        if self._profile.returns_thinking and block.text:
            return block if block.token is None else msgspec.structs.replace(block, token=None)
        self._losses.drop(_LOSS)
        return None

    def fit_call(self, call: ToolCall) -> ToolCall:
        """Return a call with its token only if that is the target's."""
        if call.token is None:
            return call
        token = self.own(call.token)
        if token is call.token:
            return call
        if token is None:
            self._losses.drop(_LOSS)
        return msgspec.structs.replace(call, token=token)

    def with_kept(self, blocks: tuple[Block, ...], *, has_thinking: bool) -> tuple[Block, ...]:
        """Return a turn that calls with the reasoning that the gateway kept for its calls.

        Args:
            blocks: the turn, fitted already; ids are the client's.
            has_thinking: an earlier message of the same turn has reasoning.
        """
        if self._profile.format is WireFormat.GEMINI:
            return self._with_call_tokens(blocks)
        if has_thinking:
            return blocks
        for block in blocks:
            if type(block) is Thinking:
                return blocks
        for block in blocks:
            if isinstance(block, ToolCall) and (kept := self._kept(block)) is not None:
                return (kept, *blocks)
        return blocks

    def _with_call_tokens(self, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        fitted: list[Block] = []
        is_changed = False
        for block in blocks:
            token = self._kept_token(block.id) if isinstance(block, ToolCall) and block.token is None else None
            is_changed = is_changed or token is not None
            fitted.append(block if token is None else msgspec.structs.replace(block, token=token))
        return tuple(fitted) if is_changed else blocks

    def _kept_token(self, call_id: str) -> Token | None:
        kept = self._thinking_of(call_id)
        return self.own(kept[1]) if kept is not None and kept[1] is not None else None

    def _kept(self, call: ToolCall) -> Thinking | None:
        kept = self._thinking_of(call.id)
        if kept is None:
            return None
        text, token = kept
        if self._profile.format in _TOKEN_ON_REASONING:
            token = self.own(token) if token is not None else None
            if token is not None:
                return Thinking(text, token)
        return Thinking(text) if text and self._profile.returns_thinking else None


def must_rest(messages: Sequence[Message], reasoning: Reasoning | None, profile: Profile) -> bool:
    """Say whether reasoning must be off for this request, because a loop of calls goes on whose reasoning is lost.

    A model with a reasoning budget demands that the turn in progress begins with its signed reasoning. That may stand
    at the start of the loop or of its last step: a model need not think before every call.
    """
    if not profile.needs_thinking_first or profile.reasoning is not ReasoningStyle.BUDGET or not is_wanted(reasoning):
        return False
    last = len(messages) - 1
    while last >= 0 and messages[last].role is not Role.ASSISTANT:
        last -= 1
    if last < 0 or last + 1 == len(messages) or messages[last + 1].role is not Role.TOOL:
        return False
    first = last
    while first >= 2 and messages[first - 1].role is Role.TOOL:
        first -= 2
    return not (_begins_signed(messages[first].blocks) or _begins_signed(messages[last].blocks))


def _begins_signed(blocks: Iterable[Block]) -> bool:
    first = next(iter(blocks), None)
    return isinstance(first, Thinking) and first.token is not None
