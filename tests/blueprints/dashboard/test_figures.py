"""Numbers as pages show them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask_babel import force_locale

from omniroute.blueprints.dashboard.figures import counted, duration, grouped, money, percent, short, size, uptime
from tests.blueprints.dashboard.conftest import Pages


@pytest.fixture(autouse=True)
def _on_a_page(pages: Pages) -> Iterator[None]:
    with pages.app.app.test_request_context("/dashboard"):
        yield


def test_what_is_unknown_is_a_dash() -> None:
    assert {str(show(None)) for show in (grouped, short, percent, money, duration, size)} == {"–"}


def test_in_english() -> None:
    assert [grouped(0), grouped(1234567)] == ["0", "1,234,567"]
    assert [short(999), short(1500), short(263_000), short(2_300_000)] == ["999", "1.5K", "263K", "2.3M"]
    assert [percent(1.0), percent(0.9999), percent(0.5), percent(0.0)] == ["100%", "99.9%", "50%", "0%"]
    assert [money(0), money(12.5), money(0.0042), money(0.00001), money(1234.5)] == [
        "$0.00",
        "$12.50",
        "$0.0042",
        "<\u2009$0.0001",
        "$1,234.50",
    ]
    assert [duration(250.4), duration(1234.5), duration(12_345.0)] == [
        "250 <small>ms</small>",
        "1.23 <small>s</small>",
        "12 <small>s</small>",
    ]
    assert [uptime(5), uptime(65), uptime(3700), uptime(90_000)] == ["5 s", "1 min", "1 h 1 min", "1 d 1 h"]
    assert [size(0), size(1536), size(5 << 20), size(300 << 30)] == ["0 B", "1.5 KiB", "5.0 MiB", "300 GiB"]
    assert [counted(1, "model"), counted(2600, "model")] == ["1 model", "2600 models"]


def test_as_other_languages_write_them() -> None:
    with force_locale("de"):
        assert grouped(1234567) == "1.234.567"
        assert money(1234.5) == "$1.234,50"
    with force_locale("fr"):
        assert percent(0.125) == "12,5%"
