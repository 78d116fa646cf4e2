"""Who is tried, in which order, and what a failure means for the next try.

Pure: values in, values out. No sockets, SQL, Flask or clock; time and chance are arguments. Knows no wire format.
"""
