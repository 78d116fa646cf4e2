"""Errors of `/v1/completions`: those of the vendor's chat format."""

from __future__ import annotations

from omniroute.formats.openai_chat.errors import render, render_in_stream, status_of

__all__ = ["render", "render_in_stream", "status_of"]
