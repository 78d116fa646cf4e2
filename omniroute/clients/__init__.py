"""Other people's tools, and what makes each of them use this gateway.

Belongs here: which file a tool reads, what stands in it, how a key is named there; merging that into what is already in
the file. Must not be here: reading and writing files, asking, HTTP. Values in, texts out.
"""
