"""The texts that scripts of pages show: they stand in each page as JSON, in its language."""

from __future__ import annotations

from typing import Final

from flask_babel import LazyString, get_locale
from flask_babel import lazy_gettext as _l
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

_TEXTS: Final[dict[str, LazyString]] = {
    "copied": _l("Copied"),
    "copy_by_hand": _l("The browser did not copy it. Select it and press Ctrl+C."),
    "now": _l("now"),
    "dismiss": _l("Dismiss"),
    "confirm": _l("Confirm"),
    "cancel": _l("Cancel"),
    "close": _l("Close"),
    "type_name": _l("Type “{name}” to confirm"),
    "stale": _l("Not refreshed since {time}; trying again"),
    "failed": _l("That did not work. Try again."),
    "failed_id": _l("That did not work. Request {id}"),
    "session_ended": _l("The session has ended."),
    "log_in": _l("Log in"),
    "moved": _l("{name} is now {place} of {total}"),
    "order_saved": _l("The order is saved."),
    "time": _l("Time"),
    "palette": _l("Go to"),
    "palette_hint": _l("Page, provider, model, key or request id"),
    "shortcuts": _l("Keyboard shortcuts"),
    "shortcut_palette": _l("Go to a page, provider, model, key or request"),
    "shortcut_search": _l("Search"),
    "shortcut_help": _l("Show these shortcuts"),
    "shortcut_home": _l("Home"),
    "shortcut_providers": _l("Providers"),
    "shortcut_combos": _l("Combos"),
    "shortcut_usage": _l("Usage"),
    "shortcut_logs": _l("Logs"),
    "shortcut_health": _l("Health"),
    "shortcut_keys": _l("API Manager"),
    "shortcut_settings": _l("Settings"),
    "shortcut_escape": _l("Close what is open"),
}


_written: dict[str, Markup] = {}


def all_texts() -> Markup:
    """Return the texts by name in the language of the current page, as JSON that may stand in a page."""
    language = str(get_locale())
    found = _written.get(language)
    if found is None:
        texts = {name: str(text) for name, text in _TEXTS.items()}
        found = _written[language] = Markup(htmlsafe_json_dumps(texts))  # noqa: S704 - escaped for script blocks
    return found
