"""Ollama's own API (docs.ollama.com/api): `/api/chat`, and `/api/generate` as a chat of one message."""
