"""The official Python SDKs over every upstream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compat.agents.workspace import Gateway
from tests.compat.matrix import Cell, Client, Scenario, lab, over_each_upstream
from tests.compat.sdks.anthropic_sdk import Messages
from tests.compat.sdks.conversation import Refused, Sdk, Toolbox
from tests.compat.sdks.google_sdk import GenerateContent
from tests.compat.sdks.openai_sdk import ChatCompletions, Responses
from tests.compat.wishes import FILE, FILLER, PIECES, STORY, WINDOW, WISH, WORDS, is_told_that_it_is_too_long

SDKS: dict[Client, Callable[[Gateway], Sdk]] = {
    Client.OPENAI_CHAT: ChatCompletions,
    Client.OPENAI_RESPONSES: Responses,
    Client.ANTHROPIC: Messages,
    Client.GOOGLE_GENAI: GenerateContent,
}
CELLS = over_each_upstream(*SDKS)


@pytest.fixture
def sdk(cell: Cell, gateway: Gateway) -> Iterator[Sdk]:
    made = SDKS[cell.client](gateway)
    yield made
    made.close()


@lab(Scenario.TEXT, CELLS)
def test_text_turn(cell: Cell, sdk: Sdk) -> None:
    assert "marigold" in sdk.text(cell.model("echo"), ["say marigold"])


@lab(Scenario.STREAM, CELLS)
def test_streamed_turn(cell: Cell, sdk: Sdk) -> None:
    pieces = sdk.pieces(cell.model(STORY), "tell me something")
    assert "".join(pieces) == WORDS
    assert len(pieces) == PIECES


@lab(Scenario.TOOLS, CELLS)
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tool_loop(cell: Cell, sdk: Sdk, is_streamed: bool, tmp_path: Path) -> None:
    toolbox = Toolbox(tmp_path)
    said = sdk.loop(cell.model("agent"), WISH, toolbox, is_streamed=is_streamed)
    assert f"Done: {FILE.name}" in said
    assert (tmp_path / FILE.name).read_text(encoding="utf-8") == FILE.content
    assert max(map(len, toolbox.rounds)) == 2, toolbox.rounds
    assert toolbox.rounds[-1] == ["write_file"]


@lab(Scenario.CONTEXT, CELLS)
def test_context_length_error(cell: Cell, sdk: Sdk) -> None:
    model = cell.model(f"crowded-{WINDOW}")
    prompts = [f"{number} {FILLER}" for number in range(4)]
    refusals: list[Refused] = []
    said = ""
    while not said:
        try:
            said = sdk.text(model, [*prompts, "say marigold"])
        except Refused as refused:
            if not (prompts and is_told_that_it_is_too_long(cell, refused)):
                raise
            refusals.append(refused)
            del prompts[0]
    assert 1 <= len(refusals) < 4
