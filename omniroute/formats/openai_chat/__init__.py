"""OpenAI Chat Completions (platform.openai.com, "Chat" API reference)."""
