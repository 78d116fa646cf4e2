"""The WSGI application as gunicorn loads it. gevent must have been patched in before this module is imported."""

from __future__ import annotations

from gevent import monkey

if not monkey.is_module_patched("socket"):
    monkey.patch_all()

from omniroute import create_app  # noqa: E402 -- nothing may be imported before the patch
from omniroute.runtime import lifecycle  # noqa: E402

app = create_app()
lifecycle.start_if_served(app)
