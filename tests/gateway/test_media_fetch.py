"""Media that a request names by URL, fetched for targets that read none: what is let in, and what is said otherwise."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from omniroute.errors import CallerError, UpstreamUnreachable, UrlBlocked
from omniroute.gateway import media_fetch
from omniroute.gateway.dialects import Surface
from omniroute.gateway.egress import Egress
from omniroute.gateway.media_fetch import MAX_BYTES, MediaFetch
from omniroute.gateway.transport import HttpTransport
from omniroute.records import NodeType
from omniroute.settings import Settings
from tests.fakes.upstream import Act, FakeUpstream, Received, answer, fake_upstream, hang_up, raw, stream
from tests.gateway.callers import rendered
from tests.gateway.conftest import Bench

Make = Callable[..., Bench]

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
HOST = "images.example"


Fetcher = Callable[..., MediaFetch]


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    """Make a fetcher for which every allowed name leads to this machine."""

    def check(url: str) -> tuple[str, ...]:
        if "internal" in url:
            raise UrlBlocked("The address is in a private network.", extras={"reason": "private"})
        if "nowhere" in url:
            raise UpstreamUnreachable("The provider's host name does not resolve.")
        return ("127.0.0.1",)

    def no_guard(host: str, port: int, *, is_local: bool, is_operator: bool) -> tuple[str, ...]:
        raise AssertionError(f"{host}:{port} was looked up again ({is_local}, {is_operator})")

    transport = HttpTransport(guard=no_guard, now=time.monotonic)

    def make(reached: list[str] | None = None) -> MediaFetch:
        def checked(url: str) -> tuple[str, ...]:
            if reached is not None:
                reached.append(url)
            return check(url)

        return MediaFetch(transport, check_url=checked, now=time.monotonic)

    yield make
    transport.close()


def url_at(host: FakeUpstream, path: str = "/a.png", name: str = HOST) -> str:
    return f"http://{name}:{host.port}{path}"


def moved(place: str) -> Act:
    return answer(b"", status=302, headers={"Location": place})


def test_what_stands_there_comes_back_as_base64(fetcher: Fetcher) -> None:
    with fake_upstream(answer(PNG, content_type="application/octet-stream")) as host:
        url = url_at(host)
        assert fetcher().fetch((url,)) == {url: ("image/png", base64.b64encode(PNG).decode())}
        sent = host.received[0]
        assert sent.head.startswith(b"GET /a.png HTTP/1.1\r\n")
        assert sent.headers["host"] == f"{HOST}:{host.port}"
        assert not {"authorization", "cookie", "x-api-key", "referer"} & set(sent.headers)


def test_every_redirect_is_checked_again(fetcher: Fetcher) -> None:
    reached: list[str] = []
    with fake_upstream(moved("/b.png"), answer(PNG)) as host:
        fetcher(reached).fetch((url_at(host),))
        assert reached == [url_at(host), url_at(host, "/b.png")]
    with fake_upstream(moved("http://internal.example/secret")) as host:
        with pytest.raises(CallerError) as caught:
            fetcher().fetch((url_at(host),))
        assert (caught.value.http_status, caught.value.error_code) == (422, "url_blocked")
        assert host.opened == 1
    with fake_upstream(moved("/again")) as host, pytest.raises(CallerError, match="redirects too often"):
        fetcher().fetch((url_at(host),))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (answer(b"<html>", content_type="text/html"), "does not hold"),
        (answer(b"{}", content_type="application/json"), "does not hold"),
        (answer(b"?", content_type=""), "does not hold"),
        (answer(PNG, status=404), "status 404"),
        (answer(PNG, headers={"Content-Encoding": "gzip"}), "compressed"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"), "more than 20 MiB"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), "broke off"),
        (hang_up, "did not answer"),
    ],
)
def test_what_cannot_be_read_is_the_callers_to_mend(act: Act, words: str, fetcher: Fetcher) -> None:
    with fake_upstream(act) as host, pytest.raises(CallerError) as caught:
        fetcher().fetch((url_at(host),))
    assert words in caught.value.message
    assert (caught.value.http_status, caught.value.error_code) == (400, "invalid_value")
    assert HOST not in caught.value.message


def test_what_does_not_say_its_length_is_read_no_further_than_allowed(fetcher: Fetcher) -> None:
    sent = 0

    def endless(sock: Any, _request: Received) -> bool:
        nonlocal sent
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        for _ in range(200):
            sock.sendall(piece)
            sent += 1 << 20
        return False

    with fake_upstream(endless) as host, pytest.raises(CallerError, match="more than 20 MiB"):
        fetcher().fetch((url_at(host),))
    assert sent < MAX_BYTES + (8 << 20)


def test_a_name_without_address_is_no_failure_of_the_provider(fetcher: Fetcher) -> None:
    with fake_upstream(answer(PNG)) as host, pytest.raises(CallerError, match="did not answer"):
        fetcher().fetch((url_at(host, name="nowhere.example"),))


def test_many_are_too_many(monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher) -> None:
    with fake_upstream(answer(PNG)) as host:
        with pytest.raises(CallerError, match="at most 50"):
            fetcher().fetch(tuple(url_at(host, f"/{number}") for number in range(51)))
        monkeypatch.setattr(media_fetch, "_MOST_CHARACTERS", 100)
        with pytest.raises(CallerError, match="together"):
            fetcher().fetch(tuple(url_at(host, f"/{number}") for number in range(3)))


# --- in a request --------------------------------------------------------------------------------------------------


def looking_at(url: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return {"model": "up/m", "messages": [{"role": "user", "content": parts}]}


GEMINI_SAYS = {"candidates": [{"content": {"role": "model", "parts": [{"text": "a dot"}]}, "finishReason": "STOP"}]}


def test_t24_an_image_by_url_reaches_gemini_inline_and_is_fetched_once(bench_of: Make, fetcher: Fetcher) -> None:
    broken, good = answer(b"{}", status=500), answer(json.dumps(GEMINI_SAYS).encode())
    with fake_upstream(answer(PNG)) as host, fake_upstream(broken) as first, fake_upstream(good) as second:
        bench = bench_of(first, second, node_type=NodeType.GEMINI)
        bench.inference._media = fetcher()
        told = bench.call(looking_at(url_at(host)))
        assert told.status == 200
        sent = json.loads(second.received[0].body)
        part = next(part for part in sent["contents"][0]["parts"] if "inlineData" in part)
        assert part["inlineData"] == {"mimeType": "image/png", "data": base64.b64encode(PNG).decode()}
        assert len(host.received) == 1


def test_targets_that_read_urls_get_them(bench_of: Make, fetcher: Fetcher) -> None:
    said = {"content": [{"type": "text", "text": "a dot"}], "stop_reason": "end_turn", "usage": {}}
    with fake_upstream(answer(PNG)) as host, fake_upstream(answer(json.dumps(said).encode())) as upstream:
        bench = bench_of(upstream, node_type=NodeType.ANTHROPIC)
        bench.inference._media = fetcher()
        bench.call(looking_at(url_at(host)))
        assert url_at(host).encode() in upstream.received[0].body
        assert host.received == []


@pytest.mark.parametrize(
    ("surface", "status"),
    [(Surface.OPENAI_CHAT, 422), (Surface.OPENAI_RESPONSES, 422), (Surface.ANTHROPIC_MESSAGES, 422)],
)
@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/x.png",
        "https://[::1]/x.png",
        "https://10.1.2.3/x.png",
        "https://169.254.169.254/latest/meta-data/",
        "https://metadata.google.internal/x",
        "https://2130706433/x.png",
        "https://rebound.example/x.png",
        "https://user:pass@public.example/x.png",
        "https://public.example:22/x.png",
    ],
)
def test_forbidden_addresses_are_refused_in_the_clients_dialect(
    bench_of: Make, settings: Settings, surface: Surface, status: int, url: str
) -> None:
    egress = Egress(settings, resolver=lambda host, _: ["93.184.216.34", "10.0.0.7"] if "rebound" in host else [])
    image: dict[Surface, dict[str, Any]] = {
        Surface.OPENAI_CHAT: looking_at(url),
        Surface.OPENAI_RESPONSES: {
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}],
        },
        Surface.ANTHROPIC_MESSAGES: {
            "max_tokens": 9,
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": url}}]},
            ],
        },
    }
    with fake_upstream(answer(json.dumps(GEMINI_SAYS).encode())) as upstream:
        bench = bench_of(upstream, node_type=NodeType.GEMINI)
        bench.inference._media = MediaFetch(bench.http, check_url=egress.check_foreign, now=time.monotonic)
        with pytest.raises(CallerError) as caught:
            bench.call({**image[surface], "model": "up/m"}, surface)
        seen, headers, body = rendered(surface, caught.value)
        assert (seen, headers["X-OmniRoute-Error-Code"]) == (status, "url_blocked")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert upstream.received == []
        assert (bench.log.only.outcome, bench.log.only.error_code) == ("failed", "url_blocked")


def test_a_stream_is_no_image(fetcher: Fetcher) -> None:
    with (
        fake_upstream(stream(b"data: x\n\n")) as host,
        pytest.raises(CallerError, match=r"does not hold|holds") as caught,
    ):
        fetcher().fetch((url_at(host),))
    assert caught.value.http_status == 400
