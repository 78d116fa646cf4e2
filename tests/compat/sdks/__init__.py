"""The official SDKs of Python: one module each, all with the same few things to do (`conversation.Sdk`)."""
