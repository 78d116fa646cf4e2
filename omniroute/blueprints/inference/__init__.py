"""Inference routes: parse the HTTP side of a call, hand it to the gateway, return what comes back.

No cookies, no sessions, no policy: the guard has admitted the caller before a view runs, and renders what a view raises
in the dialect of the path.
"""
