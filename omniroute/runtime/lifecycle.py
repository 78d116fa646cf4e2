"""What a worker runs beside its requests, from its start to its end.

Two ways in: the hooks of the tuned gunicorn profile (`gunicorn_conf`), or a bare `gunicorn -k gevent wsgi:app`, where
importing the application under gunicorn starts the same things. Importing it anywhere else (the CLI, a test, a WSGI
debugger) starts nothing.
"""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import gevent

from omniroute import __version__
from omniroute.errors import OmniRouteError
from omniroute.runtime import memory
from omniroute.runtime.jobs import Jobs
from omniroute.runtime.leadership import Leadership
from omniroute.services.metrics import Metrics

if TYPE_CHECKING:
    from flask import Flask

    from omniroute.container import Container

log = logging.getLogger(__name__)

_POLL_S: Final = 0.5
_DRAIN_LOOK_S: Final = 0.1
_IDLE_SWEEP_S: Final = 15.0
_DRAIN_SPOOLS_S: Final = 10.0
_LAST_WORDS_S: Final = 1.0
_STOPS_ACCEPTING_S: Final = 1.5
"""gunicorn's worker looks once a second whether it shall stop accepting."""
_RECYCLED_GRACE_S: Final = 3700
"""A recycled worker waits for its streams; none lasts longer than the total stream limit and a little."""


@dataclass(slots=True)
class WorkerLife:
    """The greenlets and callbacks of one worker."""

    container: Container
    worker: Any = None
    """gunicorn's worker object; None without the hooks."""
    greenlets: list[gevent.Greenlet[..., None]] = field(default_factory=list)
    jobs: Jobs | None = None
    leadership: Leadership | None = None
    previous_handlers: dict[int, Any] = field(default_factory=dict)
    is_ending: bool = False
    is_replaced: bool = False
    """It ends because the server was told to begin anew."""


_life: WorkerLife | None = None


def start_if_served(app: Flask) -> None:
    """Start at import under a bare gunicorn, where no hook will."""
    is_gunicorn = os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")
    if is_gunicorn and os.environ.get("OMNIROUTE_RUNTIME") != "hooks":
        start(app, None)
        atexit.register(stop, app)


def start(app: Flask, worker: Any) -> None:
    """Start what a worker needs; once per process, after the fork."""
    global _life  # noqa: PLW0603 -- the life of this process
    from omniroute.container import container_of

    own = container_of(app)
    life = _life = WorkerLife(own, worker)
    gc.set_threshold(20_000, 20, 50)  # a full collection stalls every stream; requests leave nothing for it
    own.request_log.start()
    own.routing.start()
    life.greenlets = [
        gevent.spawn(own.snapshots.poll_forever, interval_s=_POLL_S, sleep=gevent.sleep),
        gevent.spawn(_sweep_idle_connections, own),
        gevent.spawn(_watch_memory, life),
        gevent.spawn(own.alias_hits.flush_forever, sleep=gevent.sleep),
        gevent.spawn(_drain_spools, own),
        gevent.spawn(own.in_flight.serve_forever),
    ]
    if isinstance(own.metrics, Metrics):
        life.greenlets.append(gevent.spawn(own.metrics.flush_forever, sleep=gevent.sleep))
    if own.settings.scheduler == "auto":
        life.jobs = Jobs(own.maintenance)
        runtime = own.settings.data_dir / "runtime"
        life.leadership = Leadership(own.database, runtime, on_won=life.jobs.start, on_lost=life.jobs.stop)
        life.leadership.start()
    logging.getLogger("gunicorn.error").addFilter(_is_no_drained_handler)
    for number in (signal.SIGTERM, signal.SIGINT):
        life.previous_handlers[number] = signal.getsignal(number)
        signal.signal(number, _on_signal)


def stop(app: Flask) -> None:  # noqa: ARG001 -- a hook
    """End the worker's own work: settle what is open, flush the log, close the database. Idempotent."""
    global _life
    life, _life = _life, None
    if life is None:
        return
    life.container.inference.end_all()
    _wait_for_last_words(life)
    gevent.killall(life.greenlets, block=True, timeout=2)
    life.container.in_flight.withdraw()
    if life.leadership is not None:
        life.leadership.stop()
    life.container.jobs.stop()
    life.container.routing.stop()
    if life.container.inference.admission is not None:
        life.container.inference.admission.close()
    with suppress(OmniRouteError):  # a few hits of aliases are worth no delay
        life.container.alias_hits.flush()
    life.container.request_log.stop()
    life.container.body_capture.stop()
    if isinstance(life.container.metrics, Metrics):
        life.container.metrics.flush()
    life.container.transport.http.close()
    life.container.database.dispose()


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Begin to drain, then let gunicorn's own handler stop the accepting. A second signal skips the wait."""
    life = _life
    previous: Any = signal.SIG_DFL
    if life is not None:
        previous = life.previous_handlers.get(number, signal.SIG_DFL)
        if life.is_ending:
            life.container.inference.end_all()
        else:
            life.is_ending = True
            life.is_replaced = _marker(life.container.settings.data_dir, "replaced", os.getpid()).exists()
            life.container.log_feed.close()
            if not life.is_replaced:  # its successors serve already: what still reaches it is served as well
                life.container.inference.drain()
            gevent.get_hub().loop.run_callback_threadsafe(lambda: gevent.spawn(_drain, life))
    if callable(previous):
        previous(number, frame)


def _drain(life: WorkerLife) -> None:
    """Wait for the requests in flight, end the rest when the time is over, then let the worker go."""
    settings = life.container.settings
    inference = life.container.inference
    give_up_at = time.monotonic() + settings.shutdown_timeout_ms / 1000
    if life.is_replaced:
        gevent.sleep(_STOPS_ACCEPTING_S)
    while _is_busy(life) and time.monotonic() < give_up_at:
        gevent.sleep(_DRAIN_LOOK_S)
    inference.end_all()
    _wait_for_last_words(life)
    if life.worker is not None:
        # Only idle kept-alive connections are left; gunicorn would wait for them until its own limit.
        life.worker.cfg.set("graceful_timeout", 0)


def _is_busy(life: WorkerLife) -> bool:
    """Say whether a request is in progress: a call, one whose body still arrives, an answer that is still written."""
    return bool(life.container.inference.runs) or getattr(life.worker, "in_progress", 0) > 0


def _wait_for_last_words(life: WorkerLife) -> None:
    """Give the handlers of ended runs the moment that they need to say so and to settle."""
    until = time.monotonic() + _LAST_WORDS_S
    while life.container.inference.runs and time.monotonic() < until:
        gevent.sleep(_DRAIN_LOOK_S)


def _is_no_drained_handler(record: logging.LogRecord) -> bool:
    """Leave out gunicorn's report of a handler that is not in error.

    One was idle at the end of the drain, another's client took no bytes for too long: a trace for each fills disks.
    """
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return not isinstance(error, gevent.GreenletExit | TimeoutError)


def _drain_spools(own: Container) -> None:
    """Deliver what dead workers of this host have left: at once, since it may be whom this one replaces, then on."""
    while True:
        try:
            own.maintenance.drain()
        except OmniRouteError:
            log.warning("What ended workers have left in their spools cannot be delivered now")
        gevent.sleep(_DRAIN_SPOOLS_S)


def _sweep_idle_connections(own: Container) -> None:
    while True:
        gevent.sleep(_IDLE_SWEEP_S)
        own.transport.http.close_idle()


def _watch_memory(life: WorkerLife) -> None:
    memory.watch(
        limit_bytes=life.container.settings.memory_mb * 1024 * 1024,
        now=time.monotonic,
        sleep=gevent.sleep,
        measure=memory.resident_bytes,
        recycle=lambda: _recycle(life),
        kill=lambda: os.kill(os.getpid(), signal.SIGKILL),
    )


def _recycle(life: WorkerLife) -> None:
    log.warning("worker %d is above its memory limit and makes room for a fresh one", os.getpid())
    if life.worker is None:
        os.kill(os.getpid(), signal.SIGTERM)  # without the hooks: drain, and gunicorn starts another
        return
    life.container.log_feed.close()
    _marker(life.container.settings.data_dir, "recycled", os.getpid()).touch(mode=0o600)
    os.kill(os.getppid(), signal.SIGTTIN)  # one worker more, until this one has gone
    life.worker.cfg.set("graceful_timeout", _RECYCLED_GRACE_S)
    life.worker.alive = False  # gunicorn stops accepting, and closes kept-alive connections after their next answer
    give_up_at = time.monotonic() + _RECYCLED_GRACE_S
    while _is_busy(life) and time.monotonic() < give_up_at:
        gevent.sleep(_DRAIN_LOOK_S)
    gevent.sleep(_LAST_WORDS_S)
    life.worker.cfg.set("graceful_timeout", 0)  # only idle kept-alive connections are left


def _marker(data_dir: Path, what: str, pid: int) -> Path:
    """Return the file that says what a worker ends for; the master takes it away."""
    return data_dir / "runtime" / f"{what}-{pid}"


# --- the master process ----------------------------------------------------------------------------------------------

_announced: Path | None = None
_data_dir: Path | None = None


def announce(server: Any) -> None:
    """Say where the server is, and leave that for the CLI to find."""
    global _announced, _data_dir  # noqa: PLW0603 -- facts of the master process
    from omniroute.cli.welcome import welcome
    from omniroute.container import container_of
    from omniroute.services.first_start import write_cli_token

    own = container_of(server.app.wsgi())
    settings = own.settings
    _data_dir = settings.data_dir
    runtime = settings.data_dir / "runtime"
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    for stale in (*runtime.glob("replaced-*"), *runtime.glob("recycled-*")):  # of a server that was killed
        stale.unlink(missing_ok=True)
    write_cli_token(runtime)
    facts = {"pid": os.getpid(), "address": settings.local_url, "version": __version__, "startedAt": time.time()}
    _announced = runtime / "server.json"
    temporary = runtime / f"server.json.{os.getpid()}"
    temporary.write_text(json.dumps(facts), encoding="utf-8")
    temporary.replace(_announced)
    (runtime / "server.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    print(welcome(settings), flush=True)  # noqa: T201 -- for the terminal


def rebuild(server: Any) -> None:
    """Build the application anew for the workers to come; what cannot be built leaves them the one that works."""
    import omniroute

    if _data_dir is not None:
        for pid in server.WORKERS:
            _marker(_data_dir, "replaced", pid).touch(mode=0o600)
    try:
        app = omniroute.create_app()
    except (OmniRouteError, OSError) as error:
        log.error("the application cannot be built anew, the one of before goes on: %s", error)  # noqa: TRY400
        return
    server.app.callable = app
    if (module := sys.modules.get("omniroute.runtime.wsgi")) is not None:
        vars(module)["app"] = app  # or that of before would never be forgotten
    gc.collect()
    gc.freeze()
    log.info("built the application anew; the workers are being replaced")


def farewell() -> None:
    """Take back what :func:`announce` left, unless another server has written it since."""
    if _announced is None:
        return
    try:
        if json.loads(_announced.read_text(encoding="utf-8")).get("pid") == os.getpid():
            _announced.unlink()
            (_announced.parent / "server.pid").unlink(missing_ok=True)
    except (OSError, ValueError):
        sys.stderr.write("the server's run file could not be removed\n")


def forget_recycled(server: Any, pid: int) -> None:
    """Take back the extra worker that a recycled one had asked for, and what was said about one that has ended."""
    if _data_dir is None:
        return
    _marker(_data_dir, "replaced", pid).unlink(missing_ok=True)
    marker = _marker(_data_dir, "recycled", pid)
    if marker.exists():
        marker.unlink(missing_ok=True)
        server.num_workers = max(1, server.num_workers - 1)
