"""A value for a JSON schema: what a well-behaved model would answer when asked for that shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox import pattern

_DEEP: Final = 6
"""From here on the smallest choice is taken, so that recursive schemas end."""
_DEEPEST: Final = 48
_FORMATS: Final = {
    "date-time": "2026-01-01T12:00:00Z",
    "date": "2026-01-01",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "oda@example.com",
    "idn-email": "oda@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "iri": "https://example.com/",
    "uri-reference": "/path",
    "uuid": "3f2c9a54-6d1e-4b0a-9c57-1e8d2b7a4f60",
    "json-pointer": "/path",
    "regex": ".*",
    "byte": "c2FuZGJveA==",
    "base64": "c2FuZGJveA==",
}
_NAMED: Final = {
    "city": "Lisbon",
    "location": "Lisbon",
    "country": "Portugal",
    "name": "Oda",
    "path": "README.md",
    "file_path": "README.md",
    "filename": "README.md",
    "url": "https://example.com/",
    "email": "oda@example.com",
    "command": "echo sandbox",
    "date": "2026-01-01",
    "language": "en",
    "currency": "EUR",
    "query": "sandbox",
}
_PLAIN: Final = "sandbox"
_IMPLIED_TYPES: Final = (
    ("object", ("properties", "required", "additionalProperties", "minProperties")),
    ("array", ("items", "prefixItems", "minItems", "contains")),
    ("string", ("pattern", "minLength", "maxLength", "format")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)


def generate(schema: Any) -> Any:
    """Return a value that fits `schema`.

    Only required properties are filled, because that is what a sparing model does; where the schema does not say which
    are required, all are. References are followed inside the schema itself only.
    """
    return _Generator(schema).value(schema, "", 0)


class _Generator:
    """One walk through one schema document."""

    __slots__ = ("_root",)

    def __init__(self, root: Any) -> None:
        self._root = root

    def value(self, schema: Any, name: str, depth: int, index: int = 0) -> Any:
        """Return the `index`-th value for the schema of a property called `name`."""
        if depth > _DEEPEST or schema is False:
            return None
        if not isinstance(schema, Mapping):
            return _NAMED.get(name, _PLAIN)
        schema = self._settled(schema, depth)
        if "const" in schema:
            return schema["const"]
        options = schema.get("enum")
        if isinstance(options, list) and options:
            return options[index % len(options)]
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer":
                return int(_number(schema, index, is_integer=True))
            case "number":
                return _number(schema, index, is_integer=False)
            case "boolean":
                return index % 2 == 0
            case "null":
                return None
            case _:
                return _string(schema, name, index)

    def _settled(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """Follow references and take one branch of every choice until only plain keywords are left."""
        for _ in range(_DEEPEST):
            if isinstance(reference := schema.get("$ref"), str):
                schema = _merged(_without(schema, "$ref"), self._resolve(reference))
            elif isinstance(parts := schema.get("allOf"), list):
                schema = _without(schema, "allOf")
                for part in parts:
                    schema = _merged(schema, part)
            elif isinstance(branches := schema.get("anyOf"), list) and branches:
                schema = _merged(_without(schema, "anyOf"), self._branch(branches, depth))
            elif isinstance(branches := schema.get("oneOf"), list) and branches:
                schema = _merged(_without(schema, "oneOf"), self._branch(branches, depth))
            else:
                break
        return schema

    def _branch(self, branches: list[Any], depth: int) -> Any:
        if depth < _DEEP:
            return branches[0]
        scalar = ("null", "boolean", "integer", "number", "string")
        return next((b for b in branches if isinstance(b, Mapping) and b.get("type") in scalar), branches[-1])

    def _resolve(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return True
        found = self._root
        for part in reference[1:].split("/")[1:]:
            step = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping):
                found = found.get(step, True)
            elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            else:
                return True
        return found

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        known: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        names = [n for n in required if isinstance(n, str)] if isinstance(required, list) else list(known)
        if depth >= _DEEP and not isinstance(required, list):
            names = []
        least = schema.get("minProperties")
        if isinstance(least, int):
            spare = [n for n in known if n not in names] + [f"key{n}" for n in range(min(least, 64))]
            names += spare[: max(0, least - len(names))]
        others = schema.get("additionalProperties", True)
        return {n: self.value(known.get(n, others), n, depth + 1) for n in dict.fromkeys(names)}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        least = schema.get("minItems")
        count = least if isinstance(least, int) else (1 if depth < _DEEP else 0)
        most = schema.get("maxItems")
        if isinstance(most, int):
            count = min(count, most)
        tuple_part = schema.get("prefixItems")
        fixed = tuple_part if isinstance(tuple_part, list) else []
        if fixed and not isinstance(least, int):
            count = max(count, len(fixed)) if not isinstance(most, int) else min(len(fixed), most)
        items = schema.get("items", True)
        if items is False:
            count = min(count, len(fixed))
        singular = name.removesuffix("s")
        return [
            self.value(fixed[n] if n < len(fixed) else items, singular, depth + 1, n) for n in range(min(count, 1000))
        ]


def _without(schema: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != keyword}


def _merged(base: Mapping[str, Any], more: Any) -> Mapping[str, Any]:
    """Return a schema that asks for both; the narrower bound of the two counts."""
    if not isinstance(more, Mapping):
        return base
    both: dict[str, Any] = {**more, **base}
    for keyword, value in more.items():
        if keyword not in base:
            continue
        mine = base[keyword]
        if keyword in ("properties", "$defs", "definitions") and isinstance(mine, Mapping):
            both[keyword] = {**value, **mine} if isinstance(value, Mapping) else mine
        elif keyword == "required" and isinstance(mine, list) and isinstance(value, list):
            both[keyword] = [*mine, *(name for name in value if name not in mine)]
        elif keyword == "enum" and isinstance(mine, list) and isinstance(value, list):
            both[keyword] = [option for option in mine if option in value] or mine
        elif keyword in ("allOf", "anyOf", "oneOf") and isinstance(value, list):
            both["allOf"] = [*both.get("allOf", []), {keyword: value}] if keyword != "allOf" else [*mine, *value]
        elif keyword in ("minimum", "exclusiveMinimum", "minLength", "minItems") and _are_numbers(mine, value):
            both[keyword] = max(mine, value)
        elif keyword in ("maximum", "exclusiveMaximum", "maxLength", "maxItems") and _are_numbers(mine, value):
            both[keyword] = min(mine, value)
    return both


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if isinstance(kind, str):
        return kind
    return next((implied for implied, keywords in _IMPLIED_TYPES if any(k in schema for k in keywords)), "string")


def _number(schema: Mapping[str, Any], index: int, *, is_integer: bool) -> int | float:
    """Return the `index`-th multiple of the unit inside the bounds, or the middle of bounds too narrow for one."""
    step = schema.get("multipleOf")
    is_stepped = is_integer or _are_numbers(step)
    unit: int | float = step if step and _are_numbers(step) else 1
    lows = [schema[keyword] for keyword in ("minimum", "exclusiveMinimum") if _are_numbers(schema.get(keyword))]
    highs = [schema[keyword] for keyword in ("maximum", "exclusiveMaximum") if _are_numbers(schema.get(keyword))]
    low: int | float = max(lows) if lows else min(unit, *highs, unit)
    first = (-(-low // unit) if lows else low // unit) * unit
    if first == schema.get("exclusiveMinimum"):
        first += unit
    if highs and first == schema.get("exclusiveMaximum") and not lows:
        first -= unit
    wanted: int | float = first + index * unit
    is_over = bool(highs) and (wanted > min(highs) or wanted == schema.get("exclusiveMaximum"))
    if not is_over:
        return wanted
    if is_stepped:
        return first - index * unit if not lows else first
    middle: float = (low + min(highs)) / 2
    return middle


def _string(schema: Mapping[str, Any], name: str, index: int) -> str:
    text = _FORMATS.get(str(schema.get("format"))) or _NAMED.get(name.lower(), _PLAIN)
    if isinstance(rule := schema.get("pattern"), str):
        text = pattern.example(rule) or text
    elif index:
        text = f"{text}{index}"
    least, most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(least, int) and len(text) < least:
        text += (text[-1:] or "a") * (min(least, 100_000) - len(text))
    return text[:most] if isinstance(most, int) and most >= 0 else text
