"""Entries of the model list in the shapes of Gemini's and Ollama's APIs."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from omniroute.providers.spec import Model

_GEMINI_METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens")


def gemini_model(name: str, model: Model, context: int) -> dict[str, Any]:
    """Return a model as `GET /v1beta/models` lists it (ai.google.dev/api/models)."""
    return {
        "name": f"models/{name}",
        "baseModelId": name,
        "version": "1",
        "displayName": model.name or model.id,
        "description": f"{model.name or model.id} through OmniRoute",
        "inputTokenLimit": context,
        "outputTokenLimit": model.max_output or min(context, 8192),
        "supportedGenerationMethods": _GEMINI_METHODS,
        "thinking": "reasoning" in model.capabilities,
    }


def ollama_tag(name: str, model: Model, listed_day: str) -> dict[str, Any]:
    """Return a model as `GET /api/tags` lists it. There is no file here: its size is 0, its digest that of its name."""
    return {
        "name": name,
        "model": name,
        "modified_at": listed_day,
        "size": 0,
        "digest": sha256(name.encode()).hexdigest(),
        "details": _details(model),
    }


def ollama_show(name: str, model: Model, context: int, listed_day: str) -> dict[str, Any]:
    """Return a model as `POST /api/show` describes it; `model_info` carries the window."""
    capabilities = ["completion"]
    for ours, theirs in (("tools", "tools"), ("vision", "vision"), ("reasoning", "thinking")):
        if ours in model.capabilities:
            capabilities.append(theirs)
    return {
        "modelfile": f"FROM {name}",
        "parameters": f"num_ctx {context}",
        "template": "",
        "details": _details(model),
        "model_info": {
            "general.architecture": "omniroute",
            "general.basename": model.id,
            "omniroute.context_length": context,
        },
        "capabilities": capabilities,
        "modified_at": listed_day,
    }


def _details(model: Model) -> dict[str, Any]:
    family = model.id.rpartition("/")[2].partition("-")[0]
    return {
        "parent_model": "",
        "format": "remote",
        "family": family,
        "families": [family],
        "parameter_size": "",
        "quantization_level": "",
    }
