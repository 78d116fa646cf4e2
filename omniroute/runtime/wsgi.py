"""The WSGI application as gunicorn loads it. gevent must have been patched in before this module is imported."""

from __future__ import annotations

from gevent import monkey

if not monkey.is_module_patched("socket"):
    monkey.patch_all()

# Nothing may be imported before the patch.
from omniroute import create_app
from omniroute.runtime import lifecycle

app = create_app()
lifecycle.start_if_served(app)
