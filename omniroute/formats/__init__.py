"""Wire formats: how requests, answers, streams and errors are spelt.

Pure: bytes and values in, bytes and values out. No sockets, SQL, Flask or clock. One package per format; formats do not
import each other and know nothing of routing.
"""
