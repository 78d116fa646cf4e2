"""Access tokens: made and shown once, revoked, never seen again."""

from __future__ import annotations

import re

from tests.blueprints.dashboard.conftest import Pages, field_of, text_of

PATH = "/dashboard/settings/access-tokens"


def test_a_new_token_is_shown_once_with_the_line_that_uses_it(pages: Pages) -> None:
    assert "No token yet" in pages.get(PATH)
    answer = pages.post(PATH, {"name": "ci", "scope": "write", "expiresInDays": "30"}, expect=201)
    assert answer.headers["Cache-Control"] == "no-store"
    page = text_of(answer)
    found = re.search(r'<code id="new-token">([^<]+)</code>', page)
    assert found is not None
    assert re.search(r"omniroute connect http://\S+ --key-stdin", page)
    later = pages.get(PATH)
    assert found[1] not in later
    assert "ci" in later
    assert "Write" in later
    [token] = pages.api("GET", "/api/cli/tokens")["tokens"]
    assert token["expiresAt"] is not None
    assert token["tokenPrefix"] in later


def test_a_token_may_have_no_end(pages: Pages) -> None:
    pages.post(PATH, {"name": "vps", "scope": "read", "expiresInDays": ""}, expect=201)
    assert pages.api("GET", "/api/cli/tokens")["tokens"][0]["expiresAt"] is None


def test_wrong_values_keep_what_was_typed(pages: Pages) -> None:
    page = text_of(pages.post(PATH, {"name": "", "scope": "write", "expiresInDays": "90"}, expect=400))
    assert 'id="f-name-fault"' in page
    assert '<option value="write" selected>' in page
    page = text_of(pages.post(PATH, {"name": "ci", "scope": "root", "expiresInDays": "soon"}, expect=400))
    assert field_of(page, "name") == "ci"
    assert 'id="f-scope-fault"' in page
    assert 'id="f-expiresInDays-fault"' in page


def test_a_token_is_revoked(pages: Pages) -> None:
    pages.post(PATH, {"name": "ci", "scope": "read", "expiresInDays": "30"}, expect=201)
    [token] = pages.api("GET", "/api/cli/tokens")["tokens"]
    assert "The token is revoked." in pages.after(pages.post(f"{PATH}/revoke", {"tokenId": token["id"]}))
    page = pages.get(PATH)
    assert "revoked" in page
    assert f'value="{token["id"]}"' not in page, "a token that has ended has no button"
    assert "(code not_found)" in pages.after(pages.post(f"{PATH}/revoke", {"tokenId": "tok_none"}))
