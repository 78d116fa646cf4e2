"""Gemini `generateContent` and `streamGenerateContent` (ai.google.dev, "Gemini API" reference)."""
