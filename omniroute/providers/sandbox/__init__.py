"""A provider without an account: it speaks the vendors' wire formats and says the same thing every time.

Belongs here: reading a request as a vendor would, the simulated models, their answers and errors byte for byte.
Must not be here: sockets, clocks, sleeping. An answer is a :class:`Script`; whoever plays it owns the time
(`gateway.transport` inside the gateway, `runtime.sandbox_server` on its own).

To add a model: a `Kind` and a listed row in `models.py`, and what it says in `answer.py`, or in `special.py` for one
with a single peculiarity. To add a dialect: a request and an answer module, its paths in `routes.py`, its turn in
`service.py`. A request module refuses what its vendor refuses, in the vendor's words: that proves translations.
"""

from __future__ import annotations

from omniroute.providers.sandbox.models import LISTED
from omniroute.providers.sandbox.script import NEVER, Dialect, Ending, Frame, Options, Script
from omniroute.providers.sandbox.service import respond

__all__ = ["LISTED", "NEVER", "Dialect", "Ending", "Frame", "Options", "Script", "respond"]
