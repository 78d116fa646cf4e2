"""The request limit of the sandbox."""

from __future__ import annotations

from omniroute.providers.sandbox.window import RateWindow


def test_window_lets_so_many_through_and_says_when_it_ends() -> None:
    window = RateWindow(2, 10.0)
    assert [window.take("a", now) for now in (100.0, 103.0, 104.0, 109.0)] == [None, None, 6.0, 1.0]


def test_window_starts_anew_when_it_has_ended() -> None:
    window = RateWindow(1, 10.0)
    assert [window.take("a", now) for now in (0.0, 9.5, 10.0, 19.0, 20.5)] == [None, 0.5, None, 1.0, None]


def test_credentials_do_not_share_a_window() -> None:
    window = RateWindow(1, 10.0)
    assert window.take("a", 0.0) is None
    assert window.take("b", 0.0) is None
    assert window.take("a", 1.0) == 9.0
