"""One application for all tests of a module: what a test makes of combos, keys and channels is taken away after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omniroute.settings import Settings
from tests.blueprints.app import whole_app
from tests.blueprints.dashboard.conftest import ORIGIN, PASSWORD, Pages


@contextmanager
def opened(place: Path, **environ: str) -> Iterator[Pages]:
    """Open the whole application with somebody in front of it who is logged in."""
    with whole_app(Settings.load({"DATA_DIR": str(place / "data"), "HOME": str(place), **environ}, place)) as app:
        client = app.client()
        answer = client.post("/login", data={"password": PASSWORD}, headers=ORIGIN)
        assert answer.status_code == 303
        yield Pages(app, client)


def empty(pages: Pages) -> None:
    """Take away all combos and keys but the admin's, what was said, and how channels were tuned."""
    for combo in pages.api("GET", "/api/combos?limit=200")["combos"]:
        pages.api("DELETE", f"/api/combos/{combo['id']}?force=true")
    for key in pages.api("GET", "/api/keys?limit=200")["keys"]:
        if key["name"] != "admin":
            pages.api("DELETE", f"/api/keys/{key['id']}")
    for channel in ("auto", "auto/fast"):
        pages.api("PUT", f"/api/combos/auto/{channel}", {"weights": None, "exploration": None, "exclude": None})
    pages.client.get("/dashboard/account")  # takes the messages that nobody has read
