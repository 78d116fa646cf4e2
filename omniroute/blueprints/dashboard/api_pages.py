"""`/docs/api`: the description of the API as pages, without a script."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flask import Blueprint, render_template, request
from markupsafe import Markup, escape

from omniroute.blueprints.api_reference import Described, Tag, tags_of
from omniroute.blueprints.openapi import described
from omniroute.blueprints.refusals import REASONS
from omniroute.errors import NotFound

blueprint = Blueprint("api_pages", __name__)

_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_CODE = re.compile(r"`([^`]+)`")
_LONGEST_SEARCH = 100


@blueprint.get("/docs/api")
def index() -> str:
    """Show all operations in short, or those that hold a text."""
    document = described()
    wanted = request.args.get("q", "").strip()[:_LONGEST_SEARCH]
    return render_template(
        "docs/api.html",
        info=document["info"],
        schemes=document["components"]["securitySchemes"],
        reasons=REASONS,
        tags=[(tag, _found(tag, wanted.casefold())) for tag in tags_of(document)],
        wanted=wanted,
    )


@blueprint.get("/docs/api/<tag>")
def show(tag: str) -> str:
    """Show the operations of one noun with all that they take and give."""
    tags = tags_of(described())
    found = next((one for one in tags if one.slug == tag), None)
    if found is None:
        raise NotFound("The API has nothing of this name.")
    return render_template("docs/api_tag.html", tag=found, tags=tags)


@blueprint.app_template_filter("prose")
def prose(text: str) -> Markup:
    """Return a text of the description as HTML: paragraphs, bold words and code."""
    paragraphs: Sequence[str] = [part for part in text.split("\n\n") if part.strip()]
    return Markup("\n").join(Markup("<p>{}</p>").format(_inline(part)) for part in paragraphs)


@blueprint.app_template_filter("inline")
def _inline(text: str) -> Markup:
    marked = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(_BOLD.sub(r"<strong>\1</strong>", marked))  # noqa: S704 - escaped above, and only tags of ours since


def _found(tag: Tag, wanted: str) -> list[Described]:
    if not wanted:
        return list(tag.operations)
    return [one for one in tag.operations if wanted in f"{one.method} {one.path} {one.id} {one.summary}".casefold()]
