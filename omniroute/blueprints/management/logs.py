"""`/api/logs/console` and `/api/usage/logs/stream`: the logs as they grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import EVENT_STREAM, Answer, Query, Time, operation
from omniroute.blueprints.management import usage
from omniroute.blueprints.management.bodies import answer, iso_time, query_flag, query_integer
from omniroute.blueprints.management.event_stream import Poll, streamed
from omniroute.blueprints.management.usage import query_choice, query_text, query_time
from omniroute.container import container
from omniroute.services.log_feed import MOST_LINES, Level, Line, Wanted

blueprint = Blueprint("management_logs", __name__)

_DEFAULT: Final = 100
_EVENTS: Final = {"type": "string", "description": "Server-sent events: each has one document as its data."}


class LogLineDocument(TypedDict):
    """One event of the application log. `fields` is what it says beside its message."""

    time: Time
    level: str
    logger: str
    message: str
    requestId: str | None
    traceback: list[str]
    fields: dict[str, Any]


class ConsoleDocument(TypedDict):
    """The last lines of the application log, the oldest first. `isCut`: further back nobody has looked."""

    lines: list[LogLineDocument]
    isCut: bool


@blueprint.get("/api/logs/console")
@operation(
    also={200: Answer((ConsoleDocument,), others={EVENT_STREAM: _EVENTS})},
    query=(
        Query("level", "The least level of a line (debug).", choices=tuple(Level)),
        Query("since", "Only lines from this time on."),
        Query("until", "Only lines before this time."),
        Query("requestId", "Only lines of this request."),
        Query("q", "Only lines whose logger or message holds this text."),
        Query("limit", "How many of the last lines (100).", "integer", minimum=0, maximum=MOST_LINES),
        Query("follow", "Go on with what is written, as server-sent events.", "boolean"),
    ),
    refusals=(429,),
)
def console() -> Response:
    """Show the last lines of the application log of all workers, and with `follow` what is written from then on.

    A stream has an event `line` for each line, comments while nothing happens, and an event `end` when the server
    stops or the credential does.
    """
    wanted = Wanted(
        level=Level(query_choice("level", tuple(Level)) or Level.DEBUG),
        since=query_time("since"),
        until=query_time("until"),
        request_id=query_text("requestId"),
        q=query_text("q"),
    )
    limit = query_integer(request, "limit", default=_DEFAULT, minimum=0, maximum=MOST_LINES)
    feed = container().log_feed
    if query_flag(request, "follow"):
        return streamed("line", lambda: _polled(feed.follow(wanted, limit).poll, shown), feed.line_seats.take)
    excerpt = feed.newest(wanted, limit)
    return answer(ConsoleDocument(lines=[shown(line) for line in excerpt.lines], isCut=excerpt.is_cut))


@blueprint.get("/api/usage/logs/stream")
@operation(also={200: Answer(_EVENTS, media_type=EVENT_STREAM)}, query=usage.FILTERS, refusals=(429,))
def requests() -> Response:
    """Tell of requests as they are settled, whichever worker serves them.

    An event `request` for each that the filters let pass, comments while nothing happens, and an event `end` when the
    server stops or the credential does.
    """
    filters, feed = usage.filters_of(request), container().log_feed
    return streamed(
        "request", lambda: _polled(feed.follow_requests(filters).poll, usage.log_row), feed.request_seats.take
    )


def _polled(poll: Callable[[], list[Any]], show: Callable[[Any], Any]) -> Poll:
    return lambda: [show(item) for item in poll()]


def shown(line: Line) -> LogLineDocument:
    """Return a line as management answers show it."""
    return {
        "time": iso_time(line.time),
        "level": line.level,
        "logger": line.logger,
        "message": line.message,
        "requestId": line.request_id,
        "traceback": list(line.traceback),
        "fields": dict(line.fields),
    }
