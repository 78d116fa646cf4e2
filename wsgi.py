"""Entry point for WSGI servers and for `flask`: `gunicorn -c ecosystem/gunicorn.conf.py wsgi:app`.

gevent patches the standard library before anything else is imported; a module that was imported earlier would keep
sockets and locks that block every other request of the worker.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

from omniroute.runtime.wsgi import app

__all__ = ["app"]
