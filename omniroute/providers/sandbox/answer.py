"""What each model says: a prompt in, blocks with their pieces and pace out. No dialect here."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from omniroute.providers.sandbox import agent, prose, schema, special
from omniroute.providers.sandbox.blocks import Answer, Stop, Thinking
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.models import Behaviour, Kind
from omniroute.providers.sandbox.prompt import Choice, Prompt, Tool
from omniroute.providers.sandbox.script import Ending, Options
from omniroute.providers.sandbox.speech import call_of, pieces_of, said

_MOST_CALLS: Final = 8
_STORY_INTERVAL_S: Final = 0.04
_THINK_INTERVAL_S: Final = 0.02
_SLOW_MS: Final = 3000
_TORN_STORY: Final = 40
"""Words that `cut` and `hang-<n>` would have said."""
_CUT_AFTER: Final = 10


def compose(prompt: Prompt, behaviour: Behaviour, options: Options) -> Answer:
    """Return what the model answers; `Kind.FAIL` and `Kind.GARBAGE` have no answer and are not for here.

    What the model's name says about pace and size counts before the options.
    """
    size = options.chunk_size
    match behaviour.kind:
        case Kind.ECHO:
            answer = said(prompt, pieces_of(prompt, prompt.text, size))
        case Kind.STORY:
            answer = _story(prompt, behaviour, options)
        case Kind.TOOLS:
            answer = _use_tools(prompt, size)
        case Kind.THINK:
            answer = _think(prompt)
        case Kind.JSON:
            answer = said(prompt, pieces_of(prompt, _json(prompt), size))
        case Kind.SLOW:
            wait_ms = behaviour.number(0)
            answer = replace(
                said(prompt, pieces_of(prompt, prompt.text, size)),
                first_delay_s=(_SLOW_MS if wait_ms is None else wait_ms) / 1000,
            )
        case Kind.HANG:
            answer = _torn(prompt, behaviour.number(0) or 0, Ending.HANG)
        case Kind.CUT:
            after = behaviour.number(0)
            answer = _torn(prompt, _CUT_AFTER if after is None else after, Ending.CUT)
        case Kind.AGENT:
            answer = agent.work(prompt)
        case Kind.CROWDED:
            answer = agent.work_in_window(prompt, behaviour.number(0), behaviour.number(1))
        case Kind.FAIL | Kind.GARBAGE as kind:
            raise ValueError(f"{kind} does not answer")
        case kind:
            answer = special.perform(prompt, kind, behaviour.number(0))
    if behaviour.kind is Kind.STORY and (named_ms := behaviour.number(1)) is not None:
        return replace(answer, interval_s=named_ms / 1000)
    if options.chunk_interval_ms is not None:
        return replace(answer, interval_s=options.chunk_interval_ms / 1000)
    return answer


def _story(prompt: Prompt, behaviour: Behaviour, options: Options) -> Answer:
    count = behaviour.number(0) or options.chunks
    size = behaviour.number(2) or options.chunk_size
    if count is None:
        pieces = prose.words(prose.STORY) if size is None else prose.slices(prose.STORY, size)
    else:
        pieces = prose.numbered(count, size)
    return replace(said(prompt, pieces), interval_s=_STORY_INTERVAL_S)


def _think(prompt: Prompt) -> Answer:
    count = len(prompt.text.split())
    conclusion = prose.words(f"I have thought about it. You said: {prompt.text}")
    if not prompt.has_reasoning:
        return replace(said(prompt, conclusion), interval_s=_THINK_INTERVAL_S)
    reasoning = prose.words(
        f"Let me read this again. It has {count} word{'' if count == 1 else 's'}. Nothing in it needs a tool, "
        "so the honest answer is to give the words back, and to say that I thought first."
    )
    return replace(said(prompt, conclusion, (Thinking(reasoning),)), interval_s=_THINK_INTERVAL_S)


def _json(prompt: Prompt) -> str:
    if prompt.output is None or prompt.output.schema is None:
        value = {"answer": prompt.text, "model": "sandbox/json"}
    else:
        value = schema.generate(prompt.output.schema)
    return dump(value).decode()


def _torn(prompt: Prompt, after: int, ending: Ending) -> Answer:
    pieces = prose.numbered(max(_TORN_STORY, 2 * after), None)
    answer = said(replace(prompt, max_words=None, stops=()), pieces)
    return replace(answer, torn_after=after, ending=ending)


def _use_tools(prompt: Prompt, size: int | None) -> Answer:
    if prompt.results:
        parts = (f"{r.name} {'failed' if r.is_error else 'returned'}: {r.text}" for r in prompt.results)
        return said(prompt, pieces_of(prompt, "\n".join(parts), size))
    if not prompt.tools and prompt.output is not None:
        return said(prompt, pieces_of(prompt, _json(prompt), size))
    if not prompt.tools:
        return said(prompt, pieces_of(prompt, "No tools were given, so there is nothing to call.", size))
    if prompt.choice is Choice.NONE:
        return said(prompt, pieces_of(prompt, "Calling tools is switched off for this request.", size))
    calls = tuple(call_of(prompt, tool, index) for index, tool in enumerate(_tools_to_call(prompt)))
    return Answer(calls, Stop.TOOLS, prose.tokens(sum(len(c.name) + len(c.arguments) for c in calls)))


def _tools_to_call(prompt: Prompt) -> tuple[Tool, ...]:
    if prompt.choice is Choice.ONE:
        return tuple(tool for tool in prompt.tools if tool.name == prompt.chosen)
    return prompt.tools[: _MOST_CALLS if prompt.is_parallel else 1]
