"""OmniRoute: a self-hosted AI gateway.

Importing this package is free of side effects and cheap, so that `omniroute --version` and the remote commands of the
CLI start at once; Flask and the database are imported by :func:`create_app`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from omniroute.settings import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> Flask:
    """Build the WSGI application; without `settings` they are read from the environment."""
    from omniroute.factory import build

    return build(settings)
