"""The models of the sandbox: their names, and what a name asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

PREFIX: Final = "sandbox/"


class Kind(StrEnum):
    """What a model does."""

    ECHO = "echo"
    STORY = "story"
    TOOLS = "tools"
    THINK = "think"
    JSON = "json"
    SLOW = "slow"
    FAIL = "fail"
    HANG = "hang"
    CUT = "cut"
    GARBAGE = "garbage"
    AGENT = "agent"
    CROWDED = "crowded"
    PARALLEL = "parallel"
    LATE_ARGS = "late-args"
    NO_ARGS = "noargs"
    BAD_ARGS = "badargs"
    MIXED = "mixed"
    REFUSAL = "refusal"
    LENGTH = "length"
    FILTER = "filter"
    INLINE_THINK = "inline-think"
    EARLY_ERROR = "early-error"
    LATE_ERROR = "late-error"
    NO_FINISH = "no-finish"
    DOUBLE_END = "double-end"
    EMPTY_STREAM = "empty-stream"
    BIG_DELTA = "big-delta"
    CITE = "cite"
    IMAGE_DESC = "image-desc"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A parsed model name: its kind and the numbers behind it, in the order written."""

    kind: Kind
    numbers: tuple[int, ...] = ()

    def number(self, index: int) -> int | None:
        """Return one of the numbers, or None when the name does not go that far."""
        return self.numbers[index] if index < len(self.numbers) else None


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as the model lists show it."""

    id: str
    title: str
    summary: str
    has_tools: bool = False
    has_reasoning: bool = False
    has_json: bool = False
    has_media: bool = False


CONTEXT_TOKENS: Final = 128_000
MAX_OUTPUT_TOKENS: Final = 8_192

LISTED: Final = (
    ListedModel("echo", "Sandbox Echo", "answers with the last user text"),
    ListedModel(
        "story", "Sandbox Story", "streams a short tale, 25 pieces a second; story-<n> tells n numbered pieces"
    ),
    ListedModel("tools", "Sandbox Tools", "calls the tools that it is given, then uses their results", has_tools=True),
    ListedModel("think", "Sandbox Think", "reasons aloud before it answers", has_reasoning=True),
    ListedModel("json", "Sandbox JSON", "answers with JSON that fits the requested schema", has_json=True),
    ListedModel("slow", "Sandbox Slow", "waits 3 s before its first content; slow-<ms> waits that long"),
    ListedModel("fail-401", "Sandbox Fail 401", "refuses the credential"),
    ListedModel("fail-402", "Sandbox Fail 402", "has no credit left"),
    ListedModel("fail-429", "Sandbox Fail 429", "is rate limited for 5 s; fail-429-<s> for s seconds"),
    ListedModel("fail-500", "Sandbox Fail 500", "breaks inside"),
    ListedModel("fail-529", "Sandbox Fail 529", "is overloaded"),
    ListedModel("hang", "Sandbox Hang", "never answers; a stream falls silent after its headers"),
    ListedModel("cut", "Sandbox Cut", "dies in the middle of its answer"),
    ListedModel("garbage", "Sandbox Garbage", "answers 200 with bytes that cannot be read"),
    ListedModel(
        "agent", "Sandbox Agent", "works as a coding agent: looks around, writes a file, says so", True, True, True
    ),
    ListedModel(
        "crowded",
        "Sandbox Crowded",
        "the agent in a window of 20000 tokens; crowded-<n> has one of n",
        has_tools=True,
        has_reasoning=True,
        has_json=True,
    ),
    ListedModel("parallel", "Sandbox Parallel", "makes two calls whose arguments come by turns", has_tools=True),
    ListedModel("late-args", "Sandbox Late Arguments", "gives the arguments of a call all at once", has_tools=True),
    ListedModel("noargs", "Sandbox No Arguments", "makes a call without any arguments", has_tools=True),
    ListedModel("badargs", "Sandbox Bad Arguments", "makes a call whose arguments are not JSON", has_tools=True),
    ListedModel("mixed", "Sandbox Mixed", "says something, makes a call and says something more", has_tools=True),
    ListedModel("refusal", "Sandbox Refusal", "declines, in its vendor's way"),
    ListedModel("length", "Sandbox Length", "stops at its output limit"),
    ListedModel("filter", "Sandbox Filter", "is stopped by its vendor's content filter"),
    ListedModel(
        "inline-think", "Sandbox Inline Think", "puts its reasoning between think tags in its text", has_reasoning=True
    ),
    ListedModel("early-error", "Sandbox Early Error", "answers 200, and its first event is an error"),
    ListedModel("late-error", "Sandbox Late Error", "says something, then its stream holds an error"),
    ListedModel("no-finish", "Sandbox No Finish", "says something and closes without saying that it is done"),
    ListedModel("double-end", "Sandbox Double End", "says twice that it is done"),
    ListedModel("empty-stream", "Sandbox Empty Stream", "answers 200 and says nothing at all"),
    ListedModel("big-delta", "Sandbox Big Delta", "sends 1.2 MB of text in one event"),
    ListedModel("cite", "Sandbox Cite", "names its sources, in its vendor's way"),
    ListedModel(
        "image-desc", "Sandbox Image Description", "says which pictures, documents and sounds arrived", has_media=True
    ),
)

# How many numbers may follow a kind, 0 for those that are not here: story-<chunks>-<interval ms>-<bytes>,
# fail-<status>-<retry after s>, crowded-<tokens>-<tokens for summaries>.
_MOST_NUMBERS: Final = {
    Kind.STORY: 3,
    Kind.SLOW: 1,
    Kind.FAIL: 2,
    Kind.HANG: 1,
    Kind.CUT: 1,
    Kind.CROWDED: 2,
    Kind.LATE_ERROR: 1,
}
_KINDS: Final = {kind.value: kind for kind in Kind}
_NAME: Final = re.compile(r"([a-z]+(?:-[a-z]+)*)((?:-[0-9]{1,7})*)")


@lru_cache(maxsize=512)
def parse_model(name: str) -> Behaviour | None:
    """Read a model name, with or without the provider prefix; None when the sandbox has no such model."""
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None or match[1] not in _KINDS:
        return None
    behaviour = Behaviour(_KINDS[match[1]], tuple(int(digits) for digits in match[2].split("-")[1:]))
    if len(behaviour.numbers) > _MOST_NUMBERS.get(behaviour.kind, 0):
        return None
    if behaviour.kind is Kind.FAIL and not 400 <= (behaviour.number(0) or 0) <= 599:
        return None
    if behaviour.kind is Kind.STORY and behaviour.number(0) == 0:
        return None
    return behaviour
