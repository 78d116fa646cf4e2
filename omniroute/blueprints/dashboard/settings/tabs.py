"""What the tabs share: each gives its context, and is shown again with what was typed where that was refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import url_for
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import page
from omniroute.blueprints.dashboard.settings import texts, values
from omniroute.blueprints.dashboard.settings.groups import GROUPS, TABS


class Forms(dict[str, FormState]):
    """The forms of a tab by name; one that was not sent is empty."""

    def __missing__(self, name: str) -> FormState:
        return FormState()


Context = Callable[[Forms], dict[str, Any]]
_CONTEXTS: Final[dict[str, Context]] = {}
_NOT_ALLOWED: Final = frozenset({401, 403})


def tab(name: str) -> Callable[[Context], Context]:
    """Register what gives the context of a tab."""

    def register(context: Context) -> Context:
        _CONTEXTS[name] = context
        return context

    return register


def show(
    name: str,
    status: int = 200,
    forms: Mapping[str, FormState] | None = None,
    *,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """Return the page of a tab.

    Args:
        name: of the tab.
        status: of the answer.
        forms: those that are shown with what was typed, by name.
        extra: further context.
    """
    given = Forms(forms or {})
    rows = values.rows_of(api.get("/api/settings/fields")["fields"])
    for group in GROUPS.values():
        if group.section == name and group.name not in given:
            given[group.name] = values.form_of(rows[one] for one in group.names)
    own = _CONTEXTS[name](given)
    return page(
        f"dashboard/settings/{name}.html",
        blocks=("work",),
        status=status,
        **{
            "forms": given,
            "rows": rows,
            "groups": GROUPS,
            "tab": name,
            "tabs": [(one, label, url_for("dashboard.settings", tab=one)) for one, label in TABS.items()],
            "shown_choice": texts.choice,
            "wanted": "",
            **own,
            **(extra or {}),
        },
    )


def ask(path: str, **query: Any) -> Any:
    """Return a document of the API; None where the visitor may not see it."""
    try:
        return api.get(path, **query)
    except Refused as refused:
        if refused.http_status in _NOT_ALLOWED:
            return None
        raise


def at(name: str, anchor: str = "") -> str:
    """Return the address of a tab, or of a heading of it."""
    return url_for("dashboard.settings", tab=name, _anchor=anchor or None)
