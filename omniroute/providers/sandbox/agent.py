"""A scripted coding agent: it looks around, writes the file that it was asked for and says so.

There is no memory: where the work stands follows from the conversation in the request, whatever program sent it and
whatever it was translated from. The script: a sentence and two calls that change nothing; once their results are there,
one call that writes; once its result is there, a last sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from omniroute.providers.sandbox import prose, schema
from omniroute.providers.sandbox.agent_tools import Workshop
from omniroute.providers.sandbox.blocks import Answer, Block, Text, Thinking
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.prompt import Choice, Entry, Part, Prompt
from omniroute.providers.sandbox.script import Dialect, VendorError
from omniroute.providers.sandbox.speech import called, pieces_of, said

_TASK: Final = re.compile(r"Create the file [`'\"]?([^\s`'\"]+)[`'\"]? with the content: ([^\r\n]*)")
_REMINDER: Final = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
# How the programs ask for a conversation to be put into few words.
_SUMMARY: Final = re.compile(
    r"summar(y|ize|ise)|compact|compress|handoff|state_snapshot|continuing our conversation", re.IGNORECASE
)
_WINDOW: Final = 20_000
_MOST_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class _Work:
    """Where the work stands.

    Attributes:
        batches: turns of the model that made calls since the task was set, each with its results so far.
    """

    name: str
    content: str
    batches: tuple[tuple[Entry, ...], ...]


def work(prompt: Prompt) -> Answer:
    """Return the next turn of the agent."""
    if prompt.output is not None and not prompt.results:
        value = schema.generate(prompt.output.schema) if prompt.output.schema is not None else _title(prompt)
        return _say(prompt, dump(value).decode())
    if _wants_summary(prompt):
        return _say(prompt, _summary(prompt))
    if not prompt.tools or prompt.choice is Choice.NONE:
        return _say(prompt, _title(prompt))
    task = _work(prompt)
    if task is None:
        return _say(prompt, _small_talk(prompt))
    workshop = Workshop(prompt, task.name, task.content)
    if not task.batches:
        calls = workshop.look()
        if not calls:
            return _say(prompt, "None of the tools that I was given lets me look around.")
        thought = _thought(prompt, f"I shall look around before I write {task.name}.")
        before: tuple[Block, ...] = (*thought, Text(_pieces(prompt, "I will look at the directory first.")))
        return called(calls[: None if prompt.is_parallel else 1], before)
    attempts = len(task.batches) - 1
    last = task.batches[-1]
    failure = next((e for e in last if _is_failure(e)), None) if attempts else None
    if attempts and failure is None:
        return _say(prompt, f"Done: {task.name}")
    calls = workshop.write(attempts) if attempts < _MOST_ATTEMPTS else ()
    if not calls:
        told = "" if failure is None else f": {failure.text[:200]}"
        return _say(prompt, f"I could not write {task.name}{told}")
    return called(calls)


def work_in_window(prompt: Prompt, most: int | None, most_for_summaries: int | None) -> Answer:
    """Return the next turn of the agent, if the prompt fits into the window.

    Raises:
        VendorError: it does not, in the words of the vendor.
    """
    limit = _WINDOW if most is None else most
    if most_for_summaries is not None and _wants_summary(prompt):
        limit = most_for_summaries
    used = prompt.usage.total
    if used > limit:
        raise overfull(prompt.dialect, used, limit)
    return work(prompt)


def overfull(dialect: Dialect, used: int, most: int) -> VendorError:
    """Return how a vendor refuses a prompt of `used` tokens for a window of `most`."""
    match dialect:
        case Dialect.ANTHROPIC_MESSAGES:
            return VendorError(400, f"prompt is too long: {used} tokens > {most} maximum")
        case Dialect.GEMINI:
            return VendorError(
                400, f"The input token count ({used}) exceeds the maximum number of tokens allowed ({most})."
            )
        case Dialect.OLLAMA:
            return VendorError(
                400, f"input length, {used} tokens, exceeds the model's maximum context length of {most} tokens"
            )
        case Dialect.OPENAI_RESPONSES:
            return VendorError(
                400,
                "Your input exceeds the context window of this model. Please adjust your input and try again. "
                f"This model's maximum context length is {most} tokens, but your input resulted in {used} tokens.",
                param="input",
                code="context_length_exceeded",
                is_in_stream=True,
            )
        case _:
            return VendorError(
                400,
                f"This model's maximum context length is {most} tokens. However, your messages resulted in "
                f"{used} tokens. Please reduce the length of the messages.",
                param="messages",
                code="context_length_exceeded",
            )


def _work(prompt: Prompt) -> _Work | None:
    """Find the newest task and what has been done for it."""
    found: re.Match[str] | None = None
    since = 0
    for index, entry in enumerate(prompt.entries):
        if entry.part is not Part.USER:
            continue
        for match in _TASK.finditer(entry.text):
            found, since = match, index
    if found is None:
        return None
    batches: list[list[Entry]] = []
    is_calling = False
    for entry in prompt.entries[since + 1 :]:
        if entry.part is Part.CALL:
            if not is_calling:
                batches.append([])
            is_calling = True
        elif entry.part is Part.RESULT and batches:
            batches[-1].append(entry)
            is_calling = False
        elif entry.part is Part.ASSISTANT:
            is_calling = False
    return _Work(found[1], found[2].strip(), tuple(tuple(batch) for batch in batches))


def _is_failure(result: Entry) -> bool:
    # Formats without a flag for it carry the failure in front of the text.
    return result.is_error or result.text.startswith("[tool error]")


def _wants_summary(prompt: Prompt) -> bool:
    """Tell whether the last thing said asks for the conversation in few words."""
    last = next((e for e in reversed(prompt.entries) if e.part in (Part.USER, Part.RESULT)), None)
    if last is None or last.part is Part.RESULT:
        return False
    text = _REMINDER.sub("", last.text)
    has_history = any(entry.part in (Part.CALL, Part.ASSISTANT) for entry in prompt.entries)
    is_new_task = _TASK.search(text) is not None and bool(prompt.tools)
    return has_history and not is_new_task and _SUMMARY.search(text) is not None


def _summary(prompt: Prompt) -> str:
    task = _work(prompt)
    if task is None:
        return f"Summary of the conversation so far: {_words(prompt.text)}"
    state = "Nothing has been written yet." if len(task.batches) < 2 else "The file has been written."
    return (
        "Summary of the conversation so far. The user asked:\n"
        f"Create the file {task.name} with the content: {task.content}\n{state}"
    )


def _title(prompt: Prompt) -> str:
    task = _work(prompt)
    return f"Create {task.name}" if task is not None else _words(prompt.text) or "A conversation"


def _small_talk(prompt: Prompt) -> str:
    return f"You said: {_words(_REMINDER.sub('', prompt.text))}"


def _words(text: str) -> str:
    return " ".join(text.split()[:12])


def _say(prompt: Prompt, text: str) -> Answer:
    return said(prompt, pieces_of(prompt, text, None))


def _pieces(prompt: Prompt, text: str) -> tuple[str, ...]:
    return prose.words(text) if prompt.is_stream else (text,)


def _thought(prompt: Prompt, text: str) -> tuple[Thinking, ...]:
    return (Thinking(_pieces(prompt, text)),) if prompt.is_reasoning_asked and prompt.has_reasoning else ()
