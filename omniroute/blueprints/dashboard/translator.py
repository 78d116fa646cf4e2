"""The translator: try a translation, send a request and see its whole way, run the test bench, watch live traffic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import request
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import (
    translator_bench,
    translator_monitor,
    translator_playground,
    translator_tester,
)
from omniroute.blueprints.dashboard.blueprint import blueprint

_TABS: Final[Mapping[str, Callable[[], Response]]] = {
    "playground": translator_playground.show,
    "tester": translator_tester.show,
    "bench": translator_bench.show,
    "monitor": translator_monitor.show,
}
_FORMS: Final[Mapping[str, Callable[[], Response]]] = {
    "playground": translator_playground.translate,
    "tester": translator_tester.send,
    "bench": translator_bench.start,
    "monitor": translator_monitor.switch,
}


@blueprint.get("/dashboard/translator")
def translator() -> Response:
    """Show a tab of the translator."""
    return _chosen(_TABS, request.args.get("tab", ""))()


@blueprint.post("/dashboard/translator")
def use_translator() -> Response:
    """Do what the form of a tab asks for."""
    return _chosen(_FORMS, request.form.get("tab", ""))()


def _chosen(views: Mapping[str, Any], tab: str) -> Callable[[], Response]:
    found: Callable[[], Response] = views.get(tab) or views["playground"]
    return found
