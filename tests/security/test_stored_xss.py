"""Names that come from outside are text on our pages."""

from __future__ import annotations

from omniroute.records import RequestRecord
from tests.harness import NOW, Gateway

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def test_hostile_names_are_escaped_on_every_page(gateway: Gateway) -> None:
    gateway.issue(HOSTILE)
    gateway.log_requests(
        [
            RequestRecord(
                request_id="req_1",
                time=NOW - 5,
                endpoint="/v1/chat/completions",
                client_format="openai-chat",
                requested_model=HOSTILE,
                provider=HOSTILE,
                error_code=HOSTILE,
                status=404,
            )
        ]
    )
    client = gateway.logged_in(host='localhost"><script>x</script>:20128')
    for path in ("/dashboard", "/dashboard/requests"):
        body = client.get(path).get_data(as_text=True)
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        assert "<script>x" not in body
        assert "&lt;script&gt;alert(1)" in body


def test_pages_hold_no_inline_script_or_style(gateway: Gateway) -> None:
    client = gateway.logged_in()
    for path in ("/dashboard", "/nothing-here"):
        body = client.get(path).get_data(as_text=True)
        assert " style=" not in body
        assert "<style" not in body
        assert " onclick=" not in body
        for part in body.split("<script")[1:]:
            assert part.lstrip().startswith("src=")
