"""Arguments of a tool call where a format wants a JSON object and the model wrote something else."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.canonical import CallKind, ToolCall, arguments_object

RAW_ARGUMENTS: Final = "raw_arguments"
"""The member that holds arguments which are no JSON object."""

_TEXT: Final = msgspec.json.Decoder(str)


def object_for(call: ToolCall) -> msgspec.Raw:
    """Return the arguments of a call as an object, spelt as the model did wherever they are one.

    Arguments that are an object inside a JSON string (a known slip of small models) are taken out of it. Anything else
    stands as text in a member of its own: the model sees what it wrote, nothing crashes, and a tool with required
    parameters does not take it for a valid call. The free text of a custom tool stands in `input`, as its definition
    as a function says.
    """
    if call.kind is CallKind.CUSTOM:
        return msgspec.Raw(msgspec.json.encode({"input": call.arguments}))
    whole = arguments_object(call.arguments)
    if whole is None:
        whole = _object_in_text(call.arguments)
    if whole is None:
        whole = msgspec.Raw(msgspec.json.encode({RAW_ARGUMENTS: call.arguments}))
    return whole


def _object_in_text(arguments: str) -> msgspec.Raw | None:
    try:
        inner = _TEXT.decode(arguments)
    except msgspec.DecodeError:
        return None
    return arguments_object(inner)
