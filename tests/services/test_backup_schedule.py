"""When backups are made by themselves: schedules as cron reads them, late runs, changes while the server runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.records import Snapshot
from omniroute.runtime.jobs import Jobs
from omniroute.services.audit import Audit
from omniroute.services.backup_schedule import next_moment, trigger_of
from omniroute.services.backups import RETENTION_DAYS, SCHEDULE, SECTION, Backups, Reason
from omniroute.services.keys import SYSTEM
from omniroute.services.maintenance import BACKUP, Maintenance
from omniroute.settings import Settings, cron_of
from omniroute.storage.database import Database
from omniroute.storage.schema import ensure_schema
from omniroute.storage.state import StateStore
from tests.harness import NOW, Clock

BERLIN = ZoneInfo("Europe/Berlin")
DAY_S = 86_400.0


def local(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("0 3 * * *", "2027-01-15T02:59", "2027-01-15T03:00"),
        ("0 3 * * *", "2027-01-15T03:00", "2027-01-16T03:00"),
        ("*/20 * * * *", "2027-01-15T10:05", "2027-01-15T10:20"),
        ("0 0 1 * *", "2027-01-15T00:00", "2027-02-01T00:00"),
        ("0 0 1 jan *", "2027-01-15T00:00", "2028-01-01T00:00"),
        ("0 0 29 2 *", "2027-01-15T00:00", "2028-02-29T00:00"),
        # Days of the week as cron counts them: the 15th of January 2027 is a Friday.
        ("0 4 * * 0", "2027-01-15T00:00", "2027-01-17T04:00"),
        ("0 4 * * 7", "2027-01-15T00:00", "2027-01-17T04:00"),
        ("0 4 * * 1", "2027-01-15T00:00", "2027-01-18T04:00"),
        ("0 4 * * 1-5", "2027-01-15T05:00", "2027-01-18T04:00"),
        ("0 4 * * 5-7", "2027-01-15T05:00", "2027-01-16T04:00"),
        ("0 4 * * sat,SUN", "2027-01-16T05:00", "2027-01-17T04:00"),
        ("0 4 * * */3", "2027-01-15T00:00", "2027-01-16T04:00"),
        # A day of the month or one of the week, where both are given.
        ("0 4 13 * 1", "2027-01-15T00:00", "2027-01-18T04:00"),
        ("0 4 16 * 1", "2027-01-15T00:00", "2027-01-16T04:00"),
        # The hour that does not exist in spring is made up for; the one that comes twice in autumn counts once.
        ("30 2 * * *", "2027-03-27T12:00", "2027-03-28T03:30"),
    ],
)
def test_schedules_are_read_as_cron_reads_them(schedule: str, after: str, expected: str) -> None:
    found = next_moment(schedule, local(after), BERLIN)
    assert found is not None
    assert datetime.fromtimestamp(found, BERLIN) == datetime.fromtimestamp(local(expected), BERLIN)


def test_off_never_fires_and_neither_does_a_day_that_never_comes() -> None:
    assert trigger_of("off") is None
    assert next_moment("OFF", NOW) is None
    assert next_moment("0 0 30 2 *", NOW, BERLIN) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "daily",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "a * * * *",
        "-1 * * * *",
        "١ * * * *",
        "off off",
    ],
)
def test_what_is_no_schedule_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whatever it says
        cron_of(wrong)


@given(
    st.tuples(st.integers(0, 59), st.integers(0, 23), st.integers(1, 28), st.integers(1, 12), st.integers(0, 7)),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.floats(1_600_000_000, 2_000_000_000),
)
def test_the_next_moment_fits_the_schedule_and_is_later(
    fields: tuple[int, ...], stars: list[bool], after: float
) -> None:
    words = ["*" if is_star else str(field) for field, is_star in zip(fields, stars, strict=True)]
    found = next_moment(" ".join(words), after, UTC)
    assert found is not None
    assert found > after
    moment = datetime.fromtimestamp(found, UTC)
    assert moment.second == 0
    for word, value in zip(words[:2] + words[3:4], (moment.minute, moment.hour, moment.month), strict=True):
        assert word in ("*", str(value))
    of_month, of_week = (
        words[2] in ("*", str(moment.day)),
        words[4] in ("*", str(moment.isoweekday() % 7)) or (words[4] == "7" and moment.isoweekday() == 7),
    )
    either = "*" not in (words[2], words[4])
    assert (of_month or of_week) if either else (of_month and of_week)


# --- the job ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2027, 1, 15, 12, tzinfo=UTC).timestamp())


class Snapshots:
    """Configuration as a test chooses it."""

    def __init__(self) -> None:
        self.current = Snapshot(1)

    def choose(self, **values: Any) -> None:
        self.current = Snapshot(1, settings={(SECTION, name): value for name, value in values.items()})


@pytest.fixture
def snapshots() -> Snapshots:
    return Snapshots()


@pytest.fixture
def database(settings: Settings, clock: Clock) -> Iterator[Database]:
    made = Database(f"sqlite:///{settings.data_dir / 'storage.sqlite'}", now=clock)
    ensure_schema(made, backup=lambda reason: None, log=logging.getLogger("test"))
    yield made
    made.dispose()


@pytest.fixture
def backups(settings: Settings, database: Database, clock: Clock, snapshots: Snapshots) -> Backups:
    made = Backups(settings=settings, database=database, now=clock)
    made.use(snapshots=snapshots, audit=Audit(database=database, now=clock))
    return made


@pytest.fixture
def maintenance(settings: Settings, database: Database, clock: Clock, backups: Backups) -> Maintenance:
    return Maintenance(
        settings=settings, database=database, state=StateStore(database, clock), backups=backups, now=clock
    )


def test_a_backup_is_due_once_however_many_moments_have_passed(
    maintenance: Maintenance, backups: Backups, clock: Clock, snapshots: Snapshots
) -> None:
    job, interval_s = maintenance.jobs()[BACKUP]
    assert interval_s == DAY_S
    assert maintenance.is_due(BACKUP, interval_s), "there is none at all"
    maintenance.run(BACKUP, job)
    assert not maintenance.is_due(BACKUP, interval_s)
    clock.pass_(14 * 3600)
    assert not maintenance.is_due(BACKUP, interval_s), "it is two o'clock in the night"
    clock.pass_(3600)
    assert maintenance.is_due(BACKUP, interval_s), "it is three"
    clock.pass_(9 * DAY_S)
    maintenance.run(BACKUP, job)
    assert not maintenance.is_due(BACKUP, interval_s)
    assert [item.reason for item in backups.list_all()] == [Reason.SCHEDULED] * 2
    snapshots.choose(backupCron="off")
    clock.pass_(9 * DAY_S)
    assert not maintenance.is_due(BACKUP, interval_s)
    assert BACKUP not in maintenance.intervals()
    snapshots.choose(backupCron="0 3 * * 0")
    assert maintenance.is_due(BACKUP, interval_s)
    assert maintenance.intervals()[BACKUP] == 7 * DAY_S


def test_a_failed_backup_stays_due(maintenance: Maintenance, settings: Settings, clock: Clock) -> None:
    job, interval_s = maintenance.jobs()[BACKUP]
    maintenance.run(BACKUP, job)
    clock.pass_(DAY_S)
    directory = settings.data_dir / "backups"
    moved = directory.rename(settings.data_dir / "elsewhere")
    directory.write_text("in the way")
    with pytest.raises(Exception, match="could not be written"):
        maintenance.run(BACKUP, job)
    assert maintenance.is_due(BACKUP, interval_s)
    directory.unlink()
    moved.rename(directory)
    maintenance.run(BACKUP, job)
    assert not maintenance.is_due(BACKUP, interval_s)


def test_the_leader_follows_the_schedule(maintenance: Maintenance, snapshots: Snapshots, backups: Backups) -> None:
    jobs = Jobs(maintenance)
    snapshots.choose(backupCron="0 3 * * *")
    for name, (job, _) in maintenance.jobs().items():
        maintenance.run(name, job)
    made = len(backups.list_all())
    jobs.start()
    try:
        scheduler = jobs._scheduler
        first = scheduler.get_job(BACKUP).trigger
        jobs.follow_schedule()
        assert scheduler.get_job(BACKUP).trigger is first
        snapshots.choose(backupCron="*/5 * * * *")
        jobs.follow_schedule()
        assert "*/5" in str(scheduler.get_job(BACKUP).trigger)
        snapshots.choose(backupCron="off")
        jobs.follow_schedule()
        assert scheduler.get_job(BACKUP) is None
        snapshots.choose(backupCron="0 3 1 * 1")
        jobs.follow_schedule()
        assert scheduler.get_job(BACKUP) is not None
        assert {job.id for job in scheduler.get_jobs()} == {*maintenance.jobs(), "schedule"}
    finally:
        jobs.stop()
        gevent.sleep(0)
    jobs.follow_schedule()
    assert len(backups.list_all()) == made, "nothing was due"


def test_a_leader_makes_up_for_what_was_missed_once(maintenance: Maintenance, backups: Backups, clock: Clock) -> None:
    for name, (job, _) in maintenance.jobs().items():
        maintenance.run(name, job)
    clock.pass_(3 * DAY_S)
    before = len(backups.list_all())
    for _ in range(2):
        jobs = Jobs(maintenance)
        jobs.start()
        try:
            with gevent.Timeout(20):
                while maintenance.is_due(BACKUP, 0):
                    gevent.sleep(0.01)
        finally:
            jobs.stop()
            gevent.sleep(0.05)
    assert len(backups.list_all()) == before + 1


# --- rules -----------------------------------------------------------------------------------------------------------


def test_a_stored_schedule_that_is_none_gives_way_to_the_default(backups: Backups, snapshots: Snapshots) -> None:
    snapshots.choose(backupCron="whenever")
    assert backups.policy().schedule == "0 3 * * *"


def test_rules_that_were_chosen_count(backups: Backups, snapshots: Snapshots, clock: Clock) -> None:
    for _ in range(4):
        backups.create()
        clock.pass_(DAY_S)
    snapshots.choose(backupKeepLatest=3)
    assert backups.prune() == 1
    snapshots.choose(**{RETENTION_DAYS: 2})
    assert backups.prune() == 1
    assert len(backups.list_all()) == 2
    assert SCHEDULE == "backupCron"


def test_before_changes_there_is_one_an_hour(backups: Backups, clock: Clock) -> None:
    assert backups.before_change(SYSTEM) is not None
    clock.pass_(3599)
    assert backups.before_change(SYSTEM) is None
    clock.pass_(1)
    assert backups.before_change(SYSTEM) is not None
    assert {item.reason for item in backups.list_all()} == {Reason.PRE_CHANGE}


def test_a_failure_of_what_follows_does_not_fail_the_backup(backups: Backups, caplog: Any) -> None:
    def fail() -> None:
        raise OSError("no room")

    backups.after_each(fail)
    assert backups.create() is not None
    assert "What follows a backup failed" in caplog.text


def test_what_killed_processes_left_goes(backups: Backups, settings: Settings, clock: Clock) -> None:
    made = backups.create()
    assert made is not None
    gone, alive = 2**22 + 1, Path("/proc/self").resolve().name
    directory = settings.data_dir / "backups"
    for name in (f".db_x.sqlite.{gone}.part", f".db_x.sqlite.{gone}.part-journal", ".db_gone.sqlite.facts"):
        (directory / name).write_text("left")
    (directory / f".db_y.sqlite.{alive}.part").write_text("in the making")
    (directory / f".work-{gone}-abc").mkdir()
    (directory / f".work-{gone}-abc" / "staged.sqlite").write_text("left")
    (directory / f".work-{alive}-abc").mkdir()
    (directory / "notes.txt").write_text("mine")
    clock.at = datetime.now(UTC).timestamp()
    assert backups.tidy() == 3
    left = {file.name for file in directory.iterdir()}
    assert left == {made.id, f".{made.id}.facts", f".db_y.sqlite.{alive}.part", f".work-{alive}-abc", "notes.txt"}
    clock.pass_(2 * DAY_S)
    assert backups.tidy() == 2, "numbers of processes come again"
