"""Anthropic Messages (docs.anthropic.com, "Messages" API reference)."""
