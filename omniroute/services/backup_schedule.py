"""When backups are made by themselves: five fields of cron, in the time zone of the server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Protocol

from omniroute.settings import cron_of

OFF: Final = "off"
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEK: Final = len(_DAYS)


class Trigger(Protocol):
    """The part of a trigger of APScheduler's that is used here."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the next moment from `now` on."""
        ...


def trigger_of(schedule: str, zone: tzinfo | None = None) -> Trigger | None:
    """Return what fires by a schedule; None for `off`.

    Args:
        schedule: as cron has it: Sunday is 0 or 7, and where both a day of the month and one of the week are given,
            either of them counts. APScheduler's own reading differs in both.
        zone: by default that of the server (`TZ`).

    Raises:
        ValueError: it is no schedule.
    """
    text = cron_of(schedule)
    if text == OFF:
        return None
    from apscheduler.triggers.combining import OrTrigger
    from apscheduler.triggers.cron import CronTrigger

    if zone is None:
        from tzlocal import get_localzone

        zone = get_localzone()
    minute, hour, day, month, weekday = text.split()
    times: dict[str, Any] = {"minute": minute, "hour": hour, "month": month, "timezone": zone}
    of_month, of_week = {"day": day}, {"day_of_week": _weekdays(weekday)}
    if "*" in (day[0], weekday[0]):
        trigger: Trigger = CronTrigger(**times, **of_month, **of_week)
        return trigger
    either: Trigger = OrTrigger([CronTrigger(**times, **of_month), CronTrigger(**times, **of_week)])
    return either


def next_moment(schedule: str, after: float, zone: tzinfo | None = None) -> float | None:
    """Return the first moment after a time (epoch seconds) at which a schedule fires."""
    trigger = trigger_of(schedule, zone)
    if trigger is None:
        return None
    start = datetime.fromtimestamp(after, UTC) + timedelta(microseconds=1)
    found = trigger.get_next_fire_time(None, start)
    return found.timestamp() if found is not None else None


def _weekdays(field: str) -> str:
    """Return the days of a field by name, which both readings agree on."""
    days: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            low, high = 0, _WEEK - 1
        else:
            low = _number(first)
            high = _number(last) if last else (_WEEK - 1 if step else low)
        days.update(day % _WEEK for day in range(low, high + 1, int(step or 1)))
    return ",".join(_DAYS[day] for day in sorted(days))


def _number(name: str) -> int:
    return _DAYS.index(name) if name in _DAYS else int(name)
