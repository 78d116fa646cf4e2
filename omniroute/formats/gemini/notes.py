"""What the vendor's own tools did, in a sentence for models that cannot read the parts themselves."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.members import Members

_MOST_SHOWN: Final = 2000


class _Code(msgspec.Struct):
    code: str = ""
    language: str = ""


class _Outcome(msgspec.Struct):
    outcome: str = ""
    output: str = ""


class _ToolUse(msgspec.Struct, rename="camel"):
    tool_type: str = "a tool"
    args: msgspec.Raw = msgspec.Raw(b"{}")
    response: msgspec.Raw = msgspec.Raw(b"{}")


_CODE: Final = msgspec.json.Decoder(_Code)
_OUTCOME: Final = msgspec.json.Decoder(_Outcome)
_TOOL_USE: Final = msgspec.json.Decoder(_ToolUse)

NOTED: Final = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
"""The fields of a part that speak of tools that the provider runs."""


def note_for(name: str, value: msgspec.Raw) -> str:
    """Say in a sentence what the field of a part holds."""
    try:
        return _note(name, value)
    except msgspec.DecodeError:
        return "[A tool of the provider was used.]"


def note_of(fields: Members) -> str:
    """Say it of the first such field of a part."""
    return next((note_for(name, fields[name]) for name in NOTED if name in fields), "")


def _note(name: str, value: msgspec.Raw) -> str:
    match name:
        case "executableCode":
            code = _CODE.decode(value)
            language = code.language.lower() or "code"
            return f"[Ran {language}]\n{_cut(code.code)}"
        case "codeExecutionResult":
            outcome = _OUTCOME.decode(value)
            what = "Result of the code" if outcome.outcome in {"OUTCOME_OK", ""} else "The code failed"
            return f"[{what}]\n{_cut(outcome.output)}"
        case "toolCall":
            use = _TOOL_USE.decode(value)
            return f"[Used {use.tool_type} with {_cut(bytes(use.args).decode())}]"
        case _:
            use = _TOOL_USE.decode(value)
            return f"[Result of {use.tool_type}]\n{_cut(bytes(use.response).decode())}"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
