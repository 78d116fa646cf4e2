"""The scripted agent with the tools of the programs that use it, in every dialect."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from tests.providers.sandbox.wire import CHAT, MESSAGES, OLLAMA, RESPONSES, answer, ask, content, events, gemini

TEXT: Any = {"type": "string"}
TASK = (
    "Please help.\n<system-reminder>be brief</system-reminder>\n"
    "Create the file notes/a.txt with the content: It's 5 o'clock\nThank you."
)
Turn = tuple[str, list[tuple[str, Any]]]


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


BASH = ("Bash", schema(command=TEXT, description=TEXT))
READ = ("Read", schema(file_path=TEXT))
WRITE = ("Write", schema(file_path=TEXT, content=TEXT))
LIST = ("list_directory", schema(dir_path=TEXT))
WRITE_FILE = ("write_file", schema(file_path=TEXT, content=TEXT))
PATCH: tuple[str, Any] = ("apply_patch", None)


def chat(tools: list[tuple[str, Any]], result: str, **fields: Any) -> list[Turn]:
    talk: list[Any] = [{"role": "system", "content": "Working directory: /srv"}, {"role": "user", "content": TASK}]
    turns: list[Turn] = []
    shown = [{"type": "function", "function": {"name": name, "parameters": s}} for name, s in tools]
    while True:
        body = {"model": "agent", "messages": talk, "tools": shown, **fields}
        message = answer(CHAT, body)["choices"][0]["message"]
        calls = message.get("tool_calls", [])
        made = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]
        turns.append((message["content"] or "", made))
        if not calls:
            return turns
        talk += [message, *({"role": "tool", "tool_call_id": c["id"], "content": result} for c in calls)]


def messages(tools: list[tuple[str, Any]], result: str, **fields: Any) -> list[Turn]:
    talk: list[Any] = [{"role": "user", "content": [{"type": "text", "text": TASK}]}]
    turns: list[Turn] = []
    shown = [{"name": name, "input_schema": s} for name, s in tools]
    while True:
        body = {"model": "agent", "max_tokens": 4000, "messages": talk, "tools": shown, **fields}
        body["system"] = [{"type": "text", "text": "<env>\nWorking directory: /srv\nIs git repo: no\n</env>"}]
        blocks = answer(MESSAGES, body)["content"]
        made = [(b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"]
        turns.append(("".join(b["text"] for b in blocks if b["type"] == "text"), made))
        results = [
            {"type": "tool_result", "tool_use_id": b["id"], "content": result}
            for b in blocks
            if b["type"] == "tool_use"
        ]
        if not results:
            return turns
        reminder = {"type": "text", "text": "<system-reminder>Summarise nothing.</system-reminder>"}
        talk += [{"role": "assistant", "content": blocks}, {"role": "user", "content": [*results, reminder]}]


def responses(tools: list[tuple[str, Any]], result: str, **fields: Any) -> list[Turn]:
    env = "<environment_context>\n  <cwd>/srv</cwd>\n</environment_context>"
    talk: list[Any] = [{"role": "user", "content": env}, {"role": "user", "content": TASK}]
    turns: list[Turn] = []
    shown: list[Any] = [
        {"type": "custom", "name": name} if s is None else {"type": "function", "name": name, "parameters": s}
        for name, s in tools
    ]
    shown.append({"type": "namespace", "name": "more", "tools": [{"type": "custom", "name": "shell"}]})
    while True:
        body = {"model": "agent", "input": talk, "tools": shown, "store": False, **fields}
        items = answer(RESPONSES, body)["output"]
        calls = [item for item in items if "call_id" in item]
        made = [(c["name"], json.loads(c["arguments"]) if "arguments" in c else c["input"]) for c in calls]
        said = "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])
        turns.append((said, made))
        if not calls:
            return turns
        talk += [*items, *({"type": f"{c['type']}_output", "call_id": c["call_id"], "output": result} for c in calls)]


def gemini_talk(tools: list[tuple[str, Any]], result: str, **fields: Any) -> list[Turn]:
    where = "I'm currently working in the directory: /srv\n"
    talk: list[Any] = [{"role": "user", "parts": [{"text": where}, {"text": TASK}]}]
    turns: list[Turn] = []
    shown = [{"functionDeclarations": [{"name": name, "parametersJsonSchema": s} for name, s in tools]}]
    while True:
        body = {"contents": talk, "tools": shown, **fields}
        turn = answer(gemini("agent"), body)["candidates"][0]["content"]
        calls = [part["functionCall"] for part in turn["parts"] if "functionCall" in part]
        said = "".join(part.get("text", "") for part in turn["parts"] if not part.get("thought"))
        turns.append((said, [(c["name"], c["args"]) for c in calls]))
        if not calls:
            return turns
        told = [{"functionResponse": {"name": c["name"], "response": {"output": result}}} for c in calls]
        talk += [turn, {"role": "user", "parts": told}]


def ollama(tools: list[tuple[str, Any]], result: str, **fields: Any) -> list[Turn]:
    talk: list[Any] = [{"role": "user", "content": TASK}]
    turns: list[Turn] = []
    shown = [{"type": "function", "function": {"name": name, "parameters": s}} for name, s in tools]
    while True:
        message = answer(OLLAMA, {"model": "agent", "messages": talk, "tools": shown, "stream": False, **fields})[
            "message"
        ]
        calls = [call["function"] for call in message.get("tool_calls", [])]
        turns.append((message["content"], [(c["name"], c["arguments"]) for c in calls]))
        if not calls:
            return turns
        talk += [message, *({"role": "tool", "tool_name": c["name"], "content": result} for c in calls)]


TALKS = pytest.mark.parametrize("talk", [chat, messages, responses, gemini_talk, ollama])


@TALKS
def test_two_looks_one_write_and_a_last_word(talk: Callable[..., list[Turn]]) -> None:
    first, second, third = talk([BASH, READ, WRITE], "/srv")
    assert first[0]
    assert [name for name, _ in first[1]] == ["Bash", "Bash"]
    assert [arguments["command"] for _, arguments in first[1]] == ["pwd", "ls -a"]
    assert all(arguments["description"] for _, arguments in first[1])
    assert second == ("", [("Write", {"file_path": "/srv/notes/a.txt", "content": "It's 5 o'clock"})])
    assert third == ("Done: notes/a.txt", [])


@TALKS
def test_tools_of_another_program(talk: Callable[..., list[Turn]]) -> None:
    first, second, _ = talk([LIST, ("read_file", schema(absolute_path=TEXT)), WRITE_FILE], "/srv")
    names = [name for name, _ in first[1]]
    assert names == ["list_directory", "read_file"] or talk is responses
    assert second[1][0][0] in ("write_file", "shell")


@TALKS
def test_shell_alone_is_enough(talk: Callable[..., list[Turn]]) -> None:
    _, second, third = talk([("run_shell_command", schema(command=TEXT))], "/srv")
    name, arguments = second[1][0]
    assert name == "run_shell_command"
    assert shlex.split(arguments["command"]) == ["printf", "%s\\n", "It's 5 o'clock", ">", "/srv/notes/a.txt"]
    assert third[0] == "Done: notes/a.txt"


def test_codex_gets_a_patch_and_its_array_shell() -> None:
    array = ("shell", schema(command={"type": "array", "items": TEXT}))
    first, second, _ = responses([array, PATCH], "Exit code: 0\nOutput:\n/srv\n")
    assert first[1][0] == ("shell", {"command": ["bash", "-lc", "pwd"]})
    patch = "*** Begin Patch\n*** Add File: notes/a.txt\n+It's 5 o'clock\n*** End Patch\n"
    assert second[1] == [("apply_patch", patch)]
    as_function = ("apply_patch", schema(input=TEXT))
    assert chat([array, as_function], "ok")[1][1] == [("apply_patch", {"input": patch})]


def test_one_harmless_tool_is_called_twice() -> None:
    first = chat([("get_weather", schema(city=TEXT)), ("delete_all", schema(name=TEXT))], "rain")[0]
    assert first[1] == [("get_weather", {"city": "Lisbon"}), ("get_weather", {"city": "Lisbon 2"})]


def test_no_parallel_calls_when_they_are_switched_off() -> None:
    turns = chat([BASH, WRITE], "ok", parallel_tool_calls=False)
    assert [len(made) for _, made in turns] == [1, 1, 0]


def test_it_thinks_before_its_first_call_when_asked() -> None:
    fields = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert len(messages([BASH, WRITE], "ok", **fields)) == 3, "the replayed thinking is accepted"
    body = {"model": "agent", "max_tokens": 4000, "messages": [{"role": "user", "content": TASK}], **fields}
    body["tools"] = [{"name": "Bash", "input_schema": BASH[1]}]
    assert [block["type"] for block in answer(MESSAGES, body)["content"]] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    streamed = [data["content_block"]["type"] for name, data in events(MESSAGES, body) if name == "content_block_start"]
    assert streamed == ["thinking", "text", "tool_use", "tool_use"]
    shown = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
    assert len(gemini_talk([BASH, WRITE], "ok", **shown)) == 3
    assert len(responses([BASH, WRITE], "ok", reasoning={"effort": "low", "summary": "auto"})) == 3


def test_a_failed_write_is_tried_another_way_once() -> None:
    tools = [{"name": name, "input_schema": s} for name, s in (BASH, WRITE)]
    talk: list[Any] = [{"role": "user", "content": TASK}]
    made: list[str] = []
    for is_error in (False, True, True, False):
        body = {"model": "agent", "max_tokens": 4000, "messages": talk, "tools": tools}
        blocks = answer(MESSAGES, body)["content"]
        calls = [block for block in blocks if block["type"] == "tool_use"]
        made += [call["name"] for call in calls]
        if not calls:
            assert blocks[0]["text"] == "I could not write notes/a.txt: no"
            break
        results = [
            {"type": "tool_result", "tool_use_id": c["id"], "content": "no", "is_error": is_error} for c in calls
        ]
        talk += [{"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
    assert made == ["Bash", "Bash", "Write", "Bash"]


def test_side_requests_get_short_text_or_the_json_that_they_want() -> None:
    plain = answer(CHAT, {"model": "agent", "messages": [{"role": "user", "content": f"Title for: {TASK}"}]})
    assert plain["choices"][0]["message"]["content"] == "Create notes/a.txt"
    shape = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema(title=TEXT)}}
    body = {"model": "agent", "messages": [{"role": "user", "content": "topic?"}], "response_format": shape}
    assert set(json.loads(answer(CHAT, body)["choices"][0]["message"]["content"])) == {"title"}


def test_a_summary_keeps_the_task_so_that_the_work_can_go_on() -> None:
    tools = [{"name": name, "input_schema": s} for name, s in (BASH, WRITE)]
    body: dict[str, Any] = {"model": "agent", "max_tokens": 4000, "tools": tools}
    first = answer(MESSAGES, {**body, "messages": [{"role": "user", "content": TASK}]})["content"]
    results = [{"type": "tool_result", "tool_use_id": block["id"], "content": "ok"} for block in first if "id" in block]
    ask_for = {"type": "text", "text": "Your task is to create a detailed summary of the conversation."}
    talk = [
        {"role": "user", "content": TASK},
        {"role": "assistant", "content": first},
        {"role": "user", "content": [*results, ask_for]},
    ]
    summary = answer(MESSAGES, {**body, "messages": talk})["content"][0]["text"]
    assert "Create the file notes/a.txt with the content: It's 5 o'clock\n" in summary
    resumed = [{"role": "user", "content": f"This session is continued. {summary}\nPlease continue."}]
    assert len(answer(MESSAGES, {**body, "messages": resumed})["content"]) == 3


LONG = "word " * 40
OVERFULL: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": [{"role": "user", "content": LONG}]}),
    (MESSAGES, {"max_tokens": 100, "messages": [{"role": "user", "content": LONG}]}),
    (RESPONSES, {"input": LONG}),
    (OLLAMA, {"messages": [{"role": "user", "content": LONG}], "stream": False}),
    (gemini("crowded-40"), {"contents": [{"parts": [{"text": LONG}]}]}),
]


@pytest.mark.parametrize(("path", "body"), OVERFULL)
def test_overfull_prompt_is_refused_with_both_numbers(path: str, body: dict[str, Any]) -> None:
    named = {} if path.startswith("/v1beta") else {"model": "crowded-40"}
    script = ask(path, {**body, **named})
    text = content(script).decode()
    assert script.status == 400
    assert "50" in text
    assert "40" in text
    roomy = {"model": "crowded-50"} if named else {}
    assert ask(path.replace("-40", "-50"), {**body, **roomy}).status == 200


def test_overfull_words_of_each_vendor() -> None:
    bodies = dict(OVERFULL)
    told = answer(MESSAGES, {**bodies[MESSAGES], "model": "crowded-40"})["error"]
    assert (told["type"], told["message"]) == ("invalid_request_error", "prompt is too long: 50 tokens > 40 maximum")
    said = answer(CHAT, {**bodies[CHAT], "model": "crowded-40"})["error"]
    assert (said["code"], said["param"]) == ("context_length_exceeded", "messages")
    assert said["message"].startswith(
        "This model's maximum context length is 40 tokens. However, your messages resulted in 50 tokens."
    )
    google = answer(gemini("crowded-40"), bodies[gemini("crowded-40")])["error"]
    assert google["status"] == "INVALID_ARGUMENT"
    assert google["message"] == "The input token count (50) exceeds the maximum number of tokens allowed (40)."


def test_overfull_response_fails_inside_its_stream() -> None:
    read = events(RESPONSES, {"model": "crowded-40", "input": LONG})
    assert [name for name, _ in read] == ["response.created", "response.in_progress", "response.failed"]
    assert [data["sequence_number"] for _, data in read] == [0, 1, 2]
    assert read[-1][1]["response"]["error"]["code"] == "context_length_exceeded"


def test_a_summary_may_have_more_room() -> None:
    talk = [
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Please summarize the conversation."},
    ]
    assert ask(CHAT, {"model": "crowded-40", "messages": talk}).status == 400
    assert ask(CHAT, {"model": "crowded-40-90", "messages": talk}).status == 200
