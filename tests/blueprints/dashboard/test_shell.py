"""What surrounds every page, without a script."""

from __future__ import annotations

import brotli
import pytest

from tests.blueprints.dashboard.conftest import Pages


def test_the_current_page_is_marked_in_the_menu(pages: Pages) -> None:
    page = pages.get("/dashboard")
    assert page.count('aria-current="page"') == 2  # the menu, and the bar of phones
    assert 'data-name="home" aria-current="page"' in page


def test_hidden_items_leave_the_menu_and_stay_findable(pages: Pages) -> None:
    pages.api("PATCH", "/api/settings", {"appearance": {"hiddenMenuItems": ["audit"]}})
    assert 'data-name="audit"' not in pages.get("/dashboard")
    assert 'href="/dashboard/audit"' in pages.get("/dashboard/search?q=audit")


def test_the_search_finds_what_there_is(pages: Pages) -> None:
    pages.api("POST", "/api/keys", {"name": "zebra-laptop"})
    combo = pages.api("POST", "/api/combos", {"name": "zebra-combo", "models": ["sandbox/echo"]})
    answer = pages.client.get("/dashboard/search?q=zebra", headers={"Accept": "application/json"})
    found = {(one["label"], one["href"]) for one in answer.get_json()["results"]}
    assert ("zebra-combo", f"/dashboard/combos/{combo['id']}") in found
    assert "zebra-laptop" in {label for label, _href in found}
    page = pages.get("/dashboard/search?q=<script>alert(1)</script>")
    assert "Nothing found" in page
    by_id = pages.client.get("/dashboard/search?q=req_0123", headers={"Accept": "application/json"}).get_json()
    assert by_id["results"][0]["href"] == "/dashboard/logs/requests/req_0123"


@pytest.mark.parametrize(
    ("asked", "spoken"),
    [("de-AT,de;q=0.9", "de"), ("pt", "pt-BR"), ("zh-CN", "zh-Hans"), ("xx", "en"), ("fr;q=0.2, ja;q=0.9", "ja")],
)
def test_the_language_is_the_browsers(pages: Pages, asked: str, spoken: str) -> None:
    assert f'<html lang="{spoken}"' in pages.get("/dashboard", **{"Accept-Language": asked})


def test_the_language_of_the_server_and_that_of_the_visitor_come_first(pages: Pages) -> None:
    pages.api("PATCH", "/api/settings", {"appearance": {"language": "nl"}})
    assert '<html lang="nl"' in pages.get("/dashboard", **{"Accept-Language": "de"})
    answer = pages.post("/dashboard/language", {"language": "es", "next": "/dashboard/account"})
    assert answer.headers["Location"] == "/dashboard/account"
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert '<html lang="es"' in pages.get("/dashboard", **{"Accept-Language": "de"})
    away = pages.post("/dashboard/language", {"language": "tlh", "next": "https://evil.test/"})
    assert away.headers["Location"] == "/dashboard"
    assert "Set-Cookie" not in away.headers


def test_it_can_be_installed(pages: Pages) -> None:
    stranger = pages.app.client()
    manifest = stranger.get("/manifest.webmanifest")
    assert manifest.mimetype == "application/manifest+json"
    document = manifest.get_json()
    assert document["start_url"] == "/dashboard"
    for icon in document["icons"]:
        with stranger.get(icon["src"]) as drawn:
            assert drawn.mimetype == "image/svg+xml"
    with stranger.get("/sw.js") as script:
        assert "javascript" in str(script.mimetype)
    assert "does not answer" in stranger.get("/offline").get_data(as_text=True)


def test_pages_and_their_files_are_compressed_and_answers_to_programs_are_not(pages: Pages) -> None:
    headers = {"Accept-Encoding": "br, gzip"}
    page = pages.client.get("/dashboard", headers=headers)
    assert page.headers["Content-Encoding"] == "br"
    assert b"<!doctype html>" in brotli.decompress(page.data)
    with pages.client.get("/static/css/omniroute.css", headers=headers) as style:
        assert style.headers["Content-Encoding"] == "br"
        assert style.headers["Cache-Control"].endswith("max-age=31536000")
    assert "Content-Encoding" not in pages.client.get("/api/keys", headers=headers).headers


def test_a_block_that_has_not_changed_costs_nothing(pages: Pages) -> None:
    first = pages.block("/dashboard", "now")
    assert first.status_code == 200
    assert b"<html" not in first.data
    again = pages.client.get(
        "/dashboard", headers={"HX-Request": "true", "HX-Target": "now", "If-None-Match": first.headers["ETag"]}
    )
    assert (again.status_code, again.data) == (304, b"")
    assert "HX-Target" in first.headers["Vary"]
    assert b"<html" in pages.block("/dashboard", "nothing-of-the-kind").data


def test_an_unknown_page_keeps_the_menu_for_those_who_are_logged_in(pages: Pages) -> None:
    answer = pages.client.get("/dashboard/none-such", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert 'id="menu"' in answer.get_data(as_text=True)
    stranger = pages.app.client().get("/dashboard/none-such", headers={"Accept": "text/html"})
    assert 'id="menu"' not in stranger.get_data(as_text=True)


def test_no_page_can_be_framed_or_run_foreign_code(pages: Pages) -> None:
    answer = pages.client.get("/dashboard")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (
        pages.client.post(
            "/dashboard/language", data={"language": "de"}, headers={"Origin": "http://evil.test"}
        ).status_code
        == 403
    )
