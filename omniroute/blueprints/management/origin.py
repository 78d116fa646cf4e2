"""Who asks for a change, as services write it to the audit log."""

from __future__ import annotations

from omniroute.blueprints import guard
from omniroute.blueprints.management.auth import visitor
from omniroute.services.keys import Origin


def origin() -> Origin:
    """Return the caller of the current request with the facts that the audit log keeps."""
    who = visitor()
    return Origin(guard.actor(), who.address, who.user_agent, who.request_id)
