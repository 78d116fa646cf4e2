"""OpenAI Responses (platform.openai.com, "Responses" API reference): items in, items out, named events."""
