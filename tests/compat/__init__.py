"""The compatibility lab: real clients, unmodified, through a real server, over the sandbox in every upstream dialect.

A cell of the matrix is a client and an upstream; a scenario is what is tried in it. Each pair is one test. What
installs the clients lies in `ecosystem/compat`; nothing here talks to anything but this machine.
"""
