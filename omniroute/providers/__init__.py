"""What providers are and how to speak to them.

Belongs here: the rows, how a request to a provider is built, what its answers mean, its credential flows.
Must not be here: sockets (only `gateway.transport` opens them), SQL, Flask, policy about who is tried next.
"""
