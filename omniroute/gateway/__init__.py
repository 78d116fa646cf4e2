"""One request from its parse to its settlement: resolve, plan, drive, relay, settle.

Belongs here: the order in which things happen to an inference request, and the only code that opens a connection to a
provider. Must not be here: Flask, SQL, wire formats (`formats`), who is tried next (`routing`).
"""
