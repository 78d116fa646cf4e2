"""A gunicorn profile to copy and change: `gunicorn -c ecosystem/gunicorn.conf.py wsgi:app`.

It takes over the profile that `omniroute server` uses; what is set below the import wins. Host, port, number of
workers and the like are settings of OmniRoute (ecosystem/docs/configuration.md) and need no change here.
"""

# First, because it patches the standard library for gevent before anything else can import sockets and locks.
from omniroute.runtime.gunicorn_conf import *  # noqa: F403 -- every name there is a gunicorn setting or hook

# Your own settings follow here, for example `backlog = 4096`.
