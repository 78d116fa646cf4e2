"""The small gateway, for the tests of what must hold."""

from __future__ import annotations

from tests.harness import gateway, make_gateway

__all__ = ["gateway", "make_gateway"]
