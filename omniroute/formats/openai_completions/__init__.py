"""OpenAI's legacy text completions, `/v1/completions`: a client's format only, answered by chat models."""
