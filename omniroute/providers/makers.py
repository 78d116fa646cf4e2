"""Whose model a bare model id is: the vendor is asked before those that resell it."""

from __future__ import annotations

import re
from typing import Final

_ROWS: Final = tuple(
    (re.compile(pattern), providers)
    for pattern, providers in (
        (r"(?:chat)?gpt-(?!oss)|o[134](?:-|$)|codex-", ("codex", "openai", "azure-openai")),
        (r"claude-", ("claude", "anthropic")),
        (r"gemini-|gemma-", ("gemini-cli", "antigravity", "gemini", "vertex")),
        (r"deepseek-", ("deepseek",)),
        (r"grok-", ("xai",)),
        (r"(?:open-)?(?:mistral|mixtral|ministral|codestral|devstral|magistral|pixtral)", ("mistral", "codestral")),
        (r"glm-", ("glm", "zai", "glmt", "glm-cn")),
        (r"kimi-|moonshot-", ("kimi-coding", "kimi-coding-apikey", "kimi", "moonshot", "moonshot-cn")),
        (r"minimax-", ("minimax", "minimax-cn")),
        (r"qwen|qwq-|coder-model", ("qwen", "bailian-coding-plan", "alibaba", "alibaba-cn")),
        (r"command-", ("cohere",)),
        (r"sonar", ("perplexity",)),
        (r"jamba-", ("ai21",)),
        (r"ernie-", ("qianfan",)),
        (r"hunyuan-", ("tencent",)),
        (r"doubao-", ("doubao", "volcengine")),
        (r"solar-", ("upstage",)),
        (r"reka-", ("reka",)),
        (r"nova-", ("amazon-nova", "bedrock")),
        (r"step-", ("stepfun",)),
    )
)


def makers_of(model_id: str) -> tuple[str, ...]:
    """Return the ids of the providers that make a model or are their maker's own services; empty when nobody knows."""
    name = model_id.rpartition("/")[2].lower()
    return next((providers for pattern, providers in _ROWS if pattern.match(name)), ())
