"""How words and calls become an answer: cut to the caller's limits, counted, and given their ids."""

from __future__ import annotations

from hashlib import blake2b

from omniroute.providers.sandbox import prose, schema
from omniroute.providers.sandbox.blocks import Answer, Block, Call, Stop, Text, Thinking
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.prompt import Prompt, Tool
from omniroute.providers.sandbox.spelled import spelled


def pieces_of(prompt: Prompt, text: str, size: int | None) -> tuple[str, ...]:
    """Cut text as it will be streamed; nobody sees the cuts in a whole answer, so there it stays in one piece."""
    return prose.slices(text, size) if prompt.is_stream else (text,)


def said(prompt: Prompt, pieces: tuple[str, ...], before: tuple[Block, ...] = ()) -> Answer:
    """End the text where the caller's stop sequences or output limit end it, and count it."""
    stop, sequence, text = Stop.END, None, ""
    if prompt.stops or prompt.max_words is not None:
        text = "".join(pieces)
        end = len(text)
        for candidate in prompt.stops:
            found = text.find(candidate, 0, end)
            if found >= 0:
                end, stop, sequence = found, Stop.SEQUENCE, candidate
        limit = None if prompt.max_words is None else prose.word_limit(text[:end], prompt.max_words)
        if limit is not None:
            end, stop, sequence = limit, Stop.LENGTH, None
        if end < len(text):
            pieces = prose.shorten(pieces, end)
    reasoning = sum(len(piece) for block in before if isinstance(block, Thinking) for piece in block.pieces)
    reasoning_tokens = prose.tokens(reasoning) if before else 0
    spoken = prose.tokens(sum(map(len, pieces)))
    if prompt.max_words is not None and (stop is Stop.LENGTH or spoken > prompt.max_words):
        spoken = prompt.max_words
    return Answer((*before, Text(pieces)), stop, spoken + reasoning_tokens, reasoning_tokens, sequence)


def called(calls: tuple[Call, ...], before: tuple[Block, ...] = (), after: tuple[Block, ...] = ()) -> Answer:
    """Return an answer that calls tools, with what is said around the calls."""
    blocks = (*before, *calls, *after)
    reasoning = sum(len(piece) for block in blocks if isinstance(block, Thinking) for piece in block.pieces)
    spoken = sum(len(piece) for block in blocks if isinstance(block, Text) for piece in block.pieces)
    made = sum(len(call.name) + len(call.arguments) for call in calls)
    reasoning_tokens = prose.tokens(reasoning) if reasoning else 0
    return Answer(blocks, Stop.TOOLS, prose.tokens(spoken + made) + reasoning_tokens, reasoning_tokens)


def call_key(prompt: Prompt, index: int) -> str:
    """Return what the id of the `index`-th call of an answer is made of."""
    return blake2b(f"{prompt.digest}/{index}".encode(), digest_size=16).hexdigest()


def call_of(prompt: Prompt, tool: Tool, index: int) -> Call:
    """Return a call of a tool with arguments that fit it."""
    key = call_key(prompt, index)
    if tool.schema is None:
        return Call(key, tool.name, prompt.text or tool.name, is_custom=True, namespace=tool.namespace)
    generated = schema.generate({"type": "object", **tool.schema})
    arguments = dump({**generated, **spelled(prompt.text, tool.name, tool.schema)}).decode()
    return Call(key, tool.name, arguments, namespace=tool.namespace)
