"""The page `api.md`: every operation of the HTTP API, from its own description."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from omniroute import create_app
from omniroute.blueprints.api_reference import Answer, Content, Described, Row, Shape, Tag, tags_of
from omniroute.blueprints.openapi import OpenApiDocument, describe
from omniroute.blueprints.openapi_texts import SECURITY_SCHEMES
from omniroute.blueprints.refusals import REASONS
from omniroute.secret import Secret
from omniroute.settings import Settings

_HEAD = """\
# HTTP API

<!-- Made by `make docs` from the code: change the docstrings and declarations of the views, not this page. -->

`GET /api/openapi.json` of a running server says the same in OpenAPI 3.1, and `/docs/api` shows it with examples.
"""


def document() -> OpenApiDocument:
    """Return the description of the API as a server with its defaults gives it."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(
            data_dir=Path(home) / "data",
            app_log_level="error",
            app_log_to_file=False,
            initial_password=Secret("not needed"),
        )
        return describe(create_app(settings))


def page(described: OpenApiDocument) -> str:
    """Return the page."""
    tags = tags_of(described)
    return "\n".join(
        (
            _HEAD,
            described["info"]["description"],
            *_credentials(),
            *_refusals(),
            *_contents(tags),
            *(line for tag in tags for line in _tag(tag)),
            *_shapes(tags),
        )
    )


def _credentials() -> Iterator[str]:
    yield from ("## Credentials", "", "| Where | What |", "|---|---|")
    for scheme in SECURITY_SCHEMES.values():
        place = scheme.get("name", "Authorization: Bearer …")
        yield f"| `{place}` ({scheme.get('in', 'header')}) | {_cell(scheme['description'])} |"
    yield ""


def _refusals() -> Iterator[str]:
    yield from ("## Refusals", "", "| Status | When |", "|---|---|")
    yield from (f"| {status} | {_cell(text)} |" for status, text in REASONS.items())
    yield ""


def _contents(tags: list[Tag]) -> Iterator[str]:
    yield from ("## Operations", "")
    yield from (f"- [{tag.name}](#{tag.slug}): {tag.text}" for tag in tags)
    yield ""


def _tag(tag: Tag) -> Iterator[str]:
    yield from (f"## {tag.name}", "", tag.text, "", "| Operation | Tier | What it does |", "|---|---|---|")
    for one in tag.operations:
        what = f"The same as `{one.alias_of}`." if one.alias_of else one.summary
        yield f"| `{one.method} {one.path}` | {one.tier} | {_cell(what)} |"
    yield ""
    for one in tag.operations:
        if not one.alias_of:
            yield from _operation(one)


def _operation(one: Described) -> Iterator[str]:
    yield from (f"### `{one.method} {one.path}`", "", one.summary, "")
    if one.text:
        yield from (one.text, "")
    if one.parameters:
        yield from ("| Parameter | In | Type | Meaning |", "|---|---|---|---|")
        yield from (
            f"| {_name(row)} | {row.place} | {_cell(row.type_text)} | {_cell(row.text)} |" for row in one.parameters
        )
        yield ""
    for body in one.bodies:
        optional = ", optional" if one.is_body_optional else ""
        yield f"Body ({body.media_type}{optional}): {_link(body)}"
        yield ""
        if body.rows:
            yield from _rows(body.rows)
    done = [answer for answer in one.answers if not answer.is_refusal]
    refused = [answer.status for answer in one.answers if answer.is_refusal]
    yield from (f"- {_answer(answer)}" for answer in done)
    yield f"- Refusals: {', '.join(refused)}."
    yield ""


def _answer(answer: Answer) -> str:
    said = " or ".join(_link(content) for content in answer.contents)
    return f"{answer.status}: {said}" if said else f"{answer.status}: {answer.text}"


def _link(content: Content) -> str:
    parts = (f"[{part.text}](#schema-{part.schema.lower()})" if part.schema else part.text for part in content.type)
    media_type = "" if content.media_type == "application/json" else f" as `{content.media_type}`"
    text = "".join(parts).replace("|", "\\|")
    return f"{text}{media_type}" + (f". {content.text}" if content.text else "")


def _shapes(tags: list[Tag]) -> Iterator[str]:
    yield from ("## Schemas", "")
    shapes: dict[str, Shape] = {shape.name: shape for tag in tags for shape in tag.shapes}
    for name in sorted(shapes):
        shape = shapes[name]
        yield from (f"### Schema {name}", "")
        if shape.text:
            yield from (shape.text, "")
        if shape.rows:
            yield from _rows(shape.rows)


def _rows(rows: tuple[Row, ...]) -> Iterator[str]:
    yield from ("| Member | Type | Meaning |", "|---|---|---|")
    yield from (f"| {_name(row)} | {_cell(row.type_text)} | {_cell(row.text)} |" for row in rows)
    yield ""


def _name(row: Row) -> str:
    return f"`{row.name}`" + (" (required)" if row.is_required else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
