"""The tuned gunicorn profile: `gunicorn -c python:omniroute.runtime.gunicorn_conf omniroute.runtime.wsgi:app`.

The application is loaded once and shared by all workers (about half the memory); everything that owns a socket, thread,
greenlet, lock or database connection is made after the fork, by the hooks below.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402
from email.utils import formatdate  # noqa: E402
from functools import lru_cache  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from gunicorn import util as gunicorn_util  # type: ignore[import-untyped]  # noqa: E402

from omniroute.runtime import lifecycle  # noqa: E402
from omniroute.services import metrics  # noqa: E402
from omniroute.settings import Settings  # noqa: E402

_is_reload = os.environ.get("OMNIROUTE_RUNTIME") == "hooks"
os.environ["OMNIROUTE_RUNTIME"] = "hooks"
_settings = Settings.load(os.environ, Path.cwd())
if not _is_reload:  # counters begin anew with the server, not with a reload of its workers
    metrics.clear(_settings.data_dir / "runtime" / "metrics")
    metrics.clear(_settings.data_dir / "runtime" / "in-flight")
_DRAIN_MARGIN_S = 10

bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "gevent"
# More than the application's own limit, so that it can say "overloaded" instead of leaving callers in the backlog.
worker_connections = _settings.worker_connections + max(50, _settings.worker_connections // 5)
backlog = 2048
preload_app = True
timeout = 60
graceful_timeout = _settings.shutdown_timeout_ms // 1000 + _DRAIN_MARGIN_S
keepalive = 30  # also how long a client may take to send its headers
max_requests = 0
# Names with an underscore could imitate their hyphen forms in the WSGI environment.
header_map = "drop"
# gunicorn itself believes no forwarding header: whom to believe is OMNIROUTE_TRUST_PROXY's to say, and the guard reads
# it. "*" with nothing to grant is gunicorn's quickest way of saying so; it admits one name that clients send.
forwarded_allow_ips = "*"
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = "X_SESSION_ID"
control_socket_disable = True
accesslog = None
errorlog = "-"
loglevel = "warning"
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 -- heartbeat files, no content
umask = 0o077


@lru_cache(maxsize=2)
def _formatted(second: int) -> str:
    return formatdate(second, localtime=False, usegmt=True)


def _http_date(timestamp: float | None = None) -> str:
    """Return the date of an answer; formatting it anew for each would cost ten microseconds."""
    return _formatted(int(time.time() if timestamp is None else timestamp))


gunicorn_util.http_date = _http_date


def when_ready(server: Any) -> None:
    """All is loaded and bound, no worker yet: say hello, and keep shared pages shared."""
    lifecycle.announce(server)
    gc.collect()
    gc.freeze()


def on_reload(server: Any) -> None:
    """SIGHUP: the workers that come next serve an application that was built anew."""
    lifecycle.rebuild(server)


def pre_request(worker: Any, req: Any) -> None:
    """A request has its headers: counted until its answer has been written."""
    del req
    worker.in_progress = getattr(worker, "in_progress", 0) + 1


def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
    """A request is over, one way or the other."""
    del req, environ, resp
    worker.in_progress -= 1


def post_worker_init(worker: Any) -> None:
    """A worker is about to serve."""
    lifecycle.start(worker.wsgi, worker)


def child_exit(server: Any, worker: Any) -> None:
    """A worker has ended: if it had asked for a successor, the number of workers goes back."""
    lifecycle.forget_recycled(server, worker.pid)


def worker_exit(server: Any, worker: Any) -> None:
    """A worker is going: flush what it holds."""
    del server
    lifecycle.stop(worker.wsgi)


def on_exit(server: Any) -> None:
    """The server is gone."""
    del server
    lifecycle.farewell()
