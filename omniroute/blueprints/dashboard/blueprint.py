"""The blueprint to which the modules of pages attach their views."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

blueprint: Final = Blueprint("dashboard", __name__)
