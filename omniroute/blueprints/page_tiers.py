"""The rows of the pages in the table of tiers (`tiers.py`): one per rule, in the order of the menu."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from omniroute.blueprints.route import GET, POST, Family, Route, Tier


def _page(rule: str, *, is_form: bool = False, is_upload: bool = False) -> Iterator[Route]:
    """Give the rows of a page; with `is_form` what is sent to its own address too."""
    yield Route(GET, rule, Tier.D, Family.PAGE)
    if is_form:
        yield Route(POST, rule, Tier.D, Family.PAGE, is_upload=is_upload)


def _action(rule: str, *, is_upload: bool = False) -> Iterator[Route]:
    """Give the row of what a form does that is shown elsewhere."""
    yield Route(POST, rule, Tier.D, Family.PAGE, is_upload=is_upload)


PAGES: Final[tuple[Route, ...]] = (
    # frame
    Route(GET, "/static/<path:filename>", Tier.P, Family.PAGE),
    Route(GET, "/bootstrap/static/<path:filename>", Tier.P, Family.PAGE),
    Route(GET, "/manifest.webmanifest", Tier.P, Family.PAGE),
    Route(GET, "/sw.js", Tier.P, Family.PAGE),
    Route(GET, "/offline", Tier.P, Family.PAGE),
    Route(GET, "/login", Tier.P, Family.PAGE),
    Route(POST, "/login", Tier.P, Family.PAGE, checks_origin=True),
    Route(POST, "/logout", Tier.P, Family.PAGE, checks_origin=True),
    Route(GET, "/", Tier.P, Family.PAGE),
    *_page("/docs/api"),
    *_page("/docs/api/<tag>"),
    *_page("/dashboard/search"),
    *_action("/dashboard/language"),
    *_page("/dashboard/account"),
    *_action("/dashboard/account/password"),
    *_action("/dashboard/account/sessions"),
    # home
    *_page("/dashboard"),
)
