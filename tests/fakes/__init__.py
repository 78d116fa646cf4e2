"""Hand-written stand-ins with real sockets and scripted behaviour."""
