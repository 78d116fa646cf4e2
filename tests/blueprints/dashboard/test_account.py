"""The page of password and sessions."""

from __future__ import annotations

from tests.blueprints.dashboard.conftest import PASSWORD, Pages, text_of

NEW = "another good password"


def test_the_password_is_changed_and_other_sessions_end(pages: Pages) -> None:
    other = pages.app.client()
    other.post("/login", data={"password": PASSWORD}, headers={"Origin": "http://localhost:20128"})
    form = {"currentPassword": PASSWORD, "newPassword": NEW, "repeated": NEW}
    page = pages.after(pages.post("/dashboard/account/password", form))
    assert "The password is changed. Other sessions ended: 1." in page
    assert other.get("/dashboard").status_code == 302
    assert NEW not in page


def test_what_is_wrong_stands_at_its_field(pages: Pages) -> None:
    differing = {"currentPassword": PASSWORD, "newPassword": NEW, "repeated": NEW + "x"}
    page = text_of(pages.post("/dashboard/account/password", differing, expect=400))
    assert "is not the same as the new password" in page
    assert 'aria-invalid="true"' in page
    wrong = {"currentPassword": "guess", "newPassword": NEW, "repeated": NEW}
    page = text_of(pages.post("/dashboard/account/password", wrong, expect=400))
    assert "Nothing was saved." in page
    assert "guess" not in page


def test_sessions_are_ended_one_by_one_or_all(pages: Pages) -> None:
    for _ in range(2):
        pages.app.client().post("/login", data={"password": PASSWORD}, headers={"Origin": "http://localhost:20128"})
    sessions = pages.api("GET", "/api/auth/sessions")["sessions"]
    assert len(sessions) == 3
    page = pages.after(pages.post("/dashboard/account/sessions", {"sessionId": sessions[0]["id"]}))
    assert "The session is ended." in page
    page = pages.after(pages.post("/dashboard/account/sessions"))
    assert "Other sessions ended: 1." in page
    assert "End all others" not in page


def test_a_session_that_is_gone_is_said(pages: Pages) -> None:
    page = pages.after(pages.post("/dashboard/account/sessions", {"sessionId": "nothing"}))
    assert 'role="alert"' in page
