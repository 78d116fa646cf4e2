"""The description of the API read for people: operations by tag, schemas as rows. A document in, values out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

_SCHEMAS: Final = "#/components/schemas/"
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_DEEPEST: Final = 6
_ANYTHING: Final = "anything"
_EXAMPLES: Final[Mapping[str, Any]] = {
    "model": "sandbox/echo",
    "messages": [{"role": "user", "content": "Hello"}],
    "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
    "prompt": "Hello",
    "input": "Hello",
    "max_tokens": 100,
    "baseUrl": "https://llm.example.com/v1",
    "provider": "groq",
    "since": "2027-01-31T12:00:00Z",
}
"""Values that say more than their types."""
_CALLS: Final = frozenset({"model", "messages", "contents", "prompt", "input"})


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the text of a type; `schema` is the name of the schema that it leads to."""

    text: str
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A member of an object, or a parameter."""

    name: str
    type: tuple[Part, ...]
    is_required: bool
    text: str
    place: str = ""

    @property
    def type_text(self) -> str:
        """The type without links."""
        return "".join(part.text for part in self.type)


@dataclass(frozen=True, slots=True)
class Content:
    """A body in one media type: its type, and its members where it is an object of its own."""

    media_type: str
    type: tuple[Part, ...]
    rows: tuple[Row, ...]
    text: str = ""

    @property
    def type_text(self) -> str:
        """The type without links."""
        return "".join(part.text for part in self.type)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that an operation can give."""

    status: str
    text: str
    contents: tuple[Content, ...]
    headers: tuple[str, ...]

    @property
    def is_refusal(self) -> bool:
        """Whether it says no."""
        return self.status >= "400"


@dataclass(frozen=True, slots=True)
class Described:
    """One operation."""

    id: str
    method: str
    path: str
    tag: str
    tier: str
    scope: str
    summary: str
    text: str
    alias_of: str
    parameters: tuple[Row, ...]
    bodies: tuple[Content, ...]
    is_body_optional: bool
    answers: tuple[Answer, ...]
    curl: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A named schema."""

    name: str
    text: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Tag:
    """Operations of one noun, and the schemas that they lead to."""

    name: str
    text: str
    operations: tuple[Described, ...]
    shapes: tuple[Shape, ...]

    @property
    def slug(self) -> str:
        """The name as part of an address."""
        return slug_of(self.name)


def slug_of(name: str) -> str:
    """Return the name of a tag as part of an address."""
    return name.lower().replace(" ", "-")


def tags_of(document: Mapping[str, Any]) -> list[Tag]:
    """Return the tags of a description in their order."""
    reader = _Reader(document)
    by_tag: dict[str, list[Described]] = {}
    for described in reader.operations():
        by_tag.setdefault(described.tag, []).append(described)
    return [
        Tag(tag["name"], tag["description"], tuple(by_tag[tag["name"]]), reader.shapes(by_tag[tag["name"]]))
        for tag in document["tags"]
    ]


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._schemas: Mapping[str, Any] = document["components"]["schemas"]

    def operations(self) -> Iterator[Described]:
        for path, item in self._document["paths"].items():
            for method in _METHODS:
                if method in item:
                    yield self._operation(method.upper(), path, item[method])

    def _operation(self, method: str, path: str, found: Mapping[str, Any]) -> Described:
        body = found.get("requestBody", {})
        content: Mapping[str, Any] = body.get("content", {})
        return Described(
            id=found["operationId"],
            method=method,
            path=path,
            tag=found["tags"][0],
            tier=found["x-omniroute-tier"],
            scope=found.get("x-omniroute-scope", ""),
            summary=found["summary"],
            text=found.get("description", ""),
            alias_of=found.get("x-omniroute-alias-of", ""),
            parameters=tuple(self._parameter(one) for one in found.get("parameters", ())),
            bodies=tuple(self._content(media_type, one["schema"]) for media_type, one in content.items()),
            is_body_optional=bool(body) and not body["required"],
            answers=tuple(self._answer(status, one) for status, one in found["responses"].items()),
            curl=self._curl(method, path, found, content),
        )

    def _parameter(self, found: Mapping[str, Any]) -> Row:
        text = _sentence(found["description"], _limits(found["schema"]))
        return Row(found["name"], tuple(_type(found["schema"])), found.get("required", False), text, found["in"])

    def _answer(self, status: str, found: Mapping[str, Any]) -> Answer:
        if "$ref" in found:
            found = self._document["components"]["responses"][found["$ref"].rpartition("/")[2]]
        contents = (self._content(media_type, one["schema"]) for media_type, one in found.get("content", {}).items())
        return Answer(status, found["description"], tuple(contents), tuple(found.get("headers", {})))

    def _content(self, media_type: str, schema: Mapping[str, Any]) -> Content:
        return Content(media_type, tuple(_type(schema)), tuple(self._rows(schema)), schema.get("description", ""))

    def _rows(self, schema: Mapping[str, Any]) -> Iterator[Row]:
        """Give the members of an object that has no name of its own."""
        required = _required(schema)
        for name, value in schema.get("properties", {}).items():
            text = _sentence(value.get("description", ""), _limits(value))
            yield Row(name, tuple(_type(value)), name in required, text)

    def shapes(self, operations: Sequence[Described]) -> tuple[Shape, ...]:
        """Return the named schemas that operations lead to, directly or over others, by name."""
        waiting = [part for one in operations for part in _parts_of(one)]
        found: dict[str, Shape] = {}
        while waiting:
            name = waiting.pop().schema
            if name is None or name in found:
                continue
            schema = self._schemas[name]
            rows = tuple(self._rows(schema))
            found[name] = Shape(name, schema.get("description", ""), rows)
            waiting += [part for row in rows for part in row.type]
        return tuple(found[name] for name in sorted(found))

    # --- examples ------------------------------------------------------------------------------------------------

    def _curl(self, method: str, path: str, found: Mapping[str, Any], content: Mapping[str, Any]) -> str:
        place = path.replace("{model}", "sandbox/echo:generateContent" if method == "POST" else "sandbox/echo")
        query = "&".join(
            f"{one['name']}={_value(one['schema'], one['name'])}"
            for one in found.get("parameters", ())
            if one["in"] == "query" and one.get("required")
        )
        lines = ["curl"] if method == "GET" else [f"curl -X {method}"]
        lines[0] += f' "$OMNIROUTE_URL{place}' + (f"?{query}" if query else "") + '"'
        if found["security"]:
            lines.append('-H "Authorization: Bearer $OMNIROUTE_KEY"')
        for media_type, one in list(content.items())[:1]:
            lines.append(f'-H "Content-Type: {media_type}"')
            if media_type == "application/json":
                example = msgspec.json.encode(self._example(one["schema"])).decode()
                lines.append("-d '" + example.replace("'", "'\\''") + "'")
            else:
                lines.append("--data-binary @file")
        return " \\\n  ".join(lines)

    def _example(self, schema: Mapping[str, Any], depth: int = 0) -> Any:
        if "$ref" in schema:
            return self._example(self._schemas[schema["$ref"].removeprefix(_SCHEMAS)], depth)
        if "anyOf" in schema and "properties" not in schema:
            return self._example(schema["anyOf"][0], depth)
        if "properties" not in schema or depth > _DEEPEST:
            return _value(schema, "")
        properties = schema["properties"]
        wanted = [name for name in properties if name in _required(schema) or (depth == 0 and name in _CALLS)]
        wanted = wanted or list(properties)[: 1 if depth == 0 else 0]
        return {
            name: _EXAMPLES[name] if name in _EXAMPLES else self._inner(properties[name], name, depth)
            for name in wanted
            if "x-omniroute-alias-of" not in properties[name]
        }

    def _inner(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        if schema.get("type") == "array" and schema.get("minItems"):
            return [self._inner(schema["items"], name, depth + 1)]
        has_members = "properties" in schema or "$ref" in schema
        return self._example(schema, depth + 1) if has_members else _value(schema, name)


def _value(schema: Mapping[str, Any], name: str) -> Any:
    """Return a value that fits a schema without members."""
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return _value(schema["anyOf"][0], name)
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "string" if schema.get("format") == "date-time":
            return _EXAMPLES["since"]
        case "string":
            return "…"
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "array":
            return []
        case _:
            return {}


def _required(schema: Mapping[str, Any]) -> set[str]:
    """Return the names that have to be given; of a name and its aliases the first."""
    either = [one["anyOf"][0]["required"][0] for one in schema.get("allOf", ()) if "anyOf" in one]
    return {*schema.get("required", ()), *either}


def _parts_of(one: Described) -> Iterator[Part]:
    contents = [*one.bodies, *(content for answer in one.answers for content in answer.contents)]
    for content in contents:
        yield from content.type
        for row in content.rows:
            yield from row.type


# --- types in words --------------------------------------------------------------------------------------------------


def _type(schema: Mapping[str, Any]) -> Iterator[Part]:
    """Give the text of a type, in pieces of which some lead to a schema."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMAS)
        yield Part(name, name)
    elif "anyOf" in schema:
        for place, one in enumerate(schema["anyOf"]):
            if place:
                yield Part(" or ")
            yield from _type(one)
    elif "const" in schema or "enum" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        yield Part(", ".join("null" if value is None else f'"{value}"' for value in values))
    else:
        kinds = schema.get("type", _ANYTHING)
        for place, kind in enumerate(kinds if isinstance(kinds, list) else [kinds]):
            if place:
                yield Part(" or ")
            yield from _named(kind, schema)


def _named(kind: str, schema: Mapping[str, Any]) -> Iterator[Part]:
    further = schema.get("additionalProperties")
    match kind:
        case "array":
            yield Part("list of ")
            yield from _type(schema.get("items", {}))
        case "object" if isinstance(further, Mapping) and further and "properties" not in schema:
            yield Part("map of ")
            yield from _type(further)
        case "string" if schema.get("format") == "date-time":
            yield Part("time")
        case _:
            yield Part(kind)


def _limits(schema: Mapping[str, Any]) -> str:
    """Return the limits of a value in words."""
    said = []
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        said.append(f"{low:g} to {high:g}" if isinstance(low, float) or isinstance(high, float) else f"{low} to {high}")
    elif low is not None or high is not None:
        said.append(f"at least {low}" if low is not None else f"at most {high}")
    if "maxLength" in schema:
        said.append(f"at most {schema['maxLength']} characters")
    if "maxItems" in schema:
        said.append(f"at most {schema['maxItems']} entries")
    if "pattern" in schema and "enum" not in schema and schema["pattern"] != "^[^/]+$":
        said.append(f"form {schema['pattern']}")
    return ", ".join(said)


def _sentence(text: str, limits: str) -> str:
    if not limits:
        return text
    return f"{text} {limits[:1].upper()}{limits[1:]}." if text else f"{limits[:1].upper()}{limits[1:]}."
