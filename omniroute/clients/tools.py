"""The tools, one entry each. What stands here was read in their own documents; see `Tool.source`."""

from __future__ import annotations

from typing import Any, Final

from omniroute.clients.spec import ClientModel, Edit, Format, OwnEntries, Tool, Wanted

_PROVIDER: Final = "omniroute"
_NAME: Final = "OmniRoute"
_DEFAULT_CONTEXT: Final = 128_000
_DEFAULT_OUTPUT: Final = 8192


def _key(wanted: Wanted) -> str:
    return f"${wanted.key_variable}"


def _export(wanted: Wanted) -> str:
    return f"export {wanted.key_variable}=…        # a key of `omniroute keys add`"


def _same_key(wanted: Wanted, name: str) -> str:
    return f"export {name}={_key(wanted)}        # {name} is the only place where it looks for a key"


# --- Claude Code -----------------------------------------------------------------------------------------------------


def _claude_environment(wanted: Wanted) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": wanted.base_url,
        "ANTHROPIC_AUTH_TOKEN": _key(wanted),
        "ANTHROPIC_MODEL": wanted.model.id,
        # It asks a small model for titles and the like; without this it asks for one by Anthropic's name.
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": wanted.model.id,
    }


def _claude_edits(wanted: Wanted) -> tuple[Edit, ...]:
    variables = {name: value for name, value in _claude_environment(wanted).items() if name != "ANTHROPIC_AUTH_TOKEN"}
    # The helper's output is used as the key, so that the file holds the variable's name and not the key.
    members = {"env": variables, "apiKeyHelper": f"printenv {wanted.key_variable}"}
    return (Edit(".claude/settings.json", Format.JSON, members, variable="CLAUDE_CONFIG_DIR"),)


# --- Codex -----------------------------------------------------------------------------------------------------------


def codex_provider(wanted: Wanted) -> dict[str, Any]:
    """Return the block that tells Codex of the gateway."""
    provider = {
        "name": _NAME,
        "base_url": wanted.v1,
        "env_key": wanted.key_variable,
        "wire_api": "responses",
    }
    return {"model_providers": {_PROVIDER: provider}}


def codex_choice(wanted: Wanted) -> dict[str, Any]:
    """Return what makes Codex use a model of the gateway: top-level members of its file, or of a profile's."""
    chosen: dict[str, Any] = {"model": wanted.model.id, "model_provider": _PROVIDER}
    if wanted.model.context is not None:
        # It takes a window for models that it does not know; too large a one ends turns before it makes room.
        chosen["model_context_window"] = wanted.model.context
    return chosen


def _codex_edits(wanted: Wanted) -> tuple[Edit, ...]:
    members = codex_choice(wanted) | codex_provider(wanted)
    return (Edit(".codex/config.toml", Format.TOML, members, variable="CODEX_HOME"),)


def codex_profile_edits(wanted: Wanted, name: str) -> tuple[Edit, ...]:
    """Return the changes for a profile: the provider for all, the choice in a file of its own (`codex --profile`)."""
    return (
        Edit(".codex/config.toml", Format.TOML, codex_provider(wanted), variable="CODEX_HOME"),
        Edit(f".codex/{name}.config.toml", Format.TOML, codex_choice(wanted), variable="CODEX_HOME"),
    )


def _codex_arguments(wanted: Wanted) -> tuple[str, ...]:
    provider = codex_provider(wanted)["model_providers"][_PROVIDER]
    settings = {f"model_providers.{_PROVIDER}.{name}": value for name, value in provider.items()}
    settings["model_provider"] = _PROVIDER
    return (
        "--model",
        wanted.model.id,
        *(part for name, value in settings.items() for part in ("-c", f'{name}="{value}"')),
    )


# --- tools that list models ------------------------------------------------------------------------------------------


def _opencode_edits(wanted: Wanted) -> tuple[Edit, ...]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": _NAME,
        "options": {"baseURL": wanted.v1, "apiKey": f"{{env:{wanted.key_variable}}}"},
        "models": {model.id: _opencode_model(model) for model in wanted.models},
    }
    members = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {_PROVIDER: provider},
        "model": f"{_PROVIDER}/{wanted.model.id}",
    }
    own = (("provider", _PROVIDER, "models"),)
    return (Edit(".config/opencode/opencode.json", Format.JSON, members, replaced=own),)


def _opencode_model(model: ClientModel) -> dict[str, Any]:
    described: dict[str, Any] = {"name": model.name, "tool_call": True, "attachment": model.reads_images}
    if model.context is not None:
        described["limit"] = {"context": model.context, "output": model.max_output or _DEFAULT_OUTPUT}
    return described


def _crush_edits(wanted: Wanted) -> tuple[Edit, ...]:
    models = [
        {
            "id": model.id,
            "name": model.name,
            "context_window": model.context or _DEFAULT_CONTEXT,
            "default_max_tokens": model.max_output or _DEFAULT_OUTPUT,
        }
        for model in wanted.models
    ]
    provider = {
        "name": _NAME,
        "type": "openai-compat",
        "base_url": wanted.v1,
        "api_key": _key(wanted),
        "models": models,
    }
    return (Edit(".config/crush/crush.json", Format.JSON, {"providers": {_PROVIDER: provider}}),)


def _openclaw_edits(wanted: Wanted) -> tuple[Edit, ...]:
    models = [
        {
            "id": model.id,
            "name": model.name,
            "input": ["text", "image"] if model.reads_images else ["text"],
            "contextWindow": model.context or _DEFAULT_CONTEXT,
            "maxTokens": model.max_output or _DEFAULT_OUTPUT,
        }
        for model in wanted.models
    ]
    provider = {
        "baseUrl": wanted.v1,
        "apiKey": f"${{{wanted.key_variable}}}",
        "api": "openai-completions",
        "models": models,
    }
    members = {
        "models": {"mode": "merge", "providers": {_PROVIDER: provider}},
        "agents": {"defaults": {"model": {"primary": f"{_PROVIDER}/{wanted.model.id}"}}},
    }
    return (Edit(".openclaw/openclaw.json", Format.JSON, members),)


def _qwen_edits(wanted: Wanted) -> tuple[Edit, ...]:
    entries = tuple(
        {"id": model.id, "name": model.name, "envKey": wanted.key_variable, "baseUrl": wanted.v1}
        for model in wanted.models
    )
    members = {"security": {"auth": {"selectedType": "openai"}}, "model": {"name": wanted.model.id}}
    lists = (OwnEntries(("modelProviders", "openai"), entries, "baseUrl", wanted.v1),)
    return (Edit(".qwen/settings.json", Format.JSON, members, lists),)


def _continue_edits(wanted: Wanted) -> tuple[Edit, ...]:
    entries = tuple(
        {
            "name": f"{_NAME} {model.id}",
            "provider": "openai",
            "model": model.id,
            "apiBase": wanted.v1,
            "apiKey": f"${{{{ secrets.{wanted.key_variable} }}}}",
            "roles": ["chat", "edit", "apply"],
        }
        for model in wanted.models
    )
    members = {"name": "Local Config", "version": "1.0.0", "schema": "v1"}
    lists = (OwnEntries(("models",), entries, "apiBase", wanted.v1),)
    return (Edit(".continue/config.yaml", Format.YAML, members, lists),)


def _goose_edits(wanted: Wanted) -> tuple[Edit, ...]:
    provider = {
        "name": f"custom_{_PROVIDER}",
        "engine": "openai",
        "display_name": _NAME,
        "description": "Every model of this gateway",
        "api_key_env": wanted.key_variable,
        "base_url": f"{wanted.v1}/chat/completions",
        "models": [{"name": model.id, "context_limit": model.context or _DEFAULT_CONTEXT} for model in wanted.models],
        "supports_streaming": True,
    }
    choice = {"GOOSE_PROVIDER": f"custom_{_PROVIDER}", "GOOSE_MODEL": wanted.model.id}
    return (
        Edit(f".config/goose/custom_providers/custom_{_PROVIDER}.json", Format.JSON, provider),
        Edit(".config/goose/config.yaml", Format.YAML, choice),
    )


# --- tools with one model --------------------------------------------------------------------------------------------


def _aider_edits(wanted: Wanted) -> tuple[Edit, ...]:
    members = {"openai-api-base": wanted.v1, "model": f"openai/{wanted.model.id}"}
    return (Edit(".aider.conf.yml", Format.YAML, members),)


def _gemini_environment(wanted: Wanted) -> dict[str, str]:
    return {"GOOGLE_GEMINI_BASE_URL": wanted.base_url, "GEMINI_API_KEY": _key(wanted), "GEMINI_MODEL": wanted.model.id}


def _gemini_edits(wanted: Wanted) -> tuple[Edit, ...]:
    variables = {name: value for name, value in _gemini_environment(wanted).items() if name != "GEMINI_API_KEY"}
    return (
        Edit(".gemini/.env", Format.ENV, variables),
        Edit(".gemini/settings.json", Format.JSON, {"security": {"auth": {"selectedType": "gemini-api-key"}}}),
    )


def _roo_edits(wanted: Wanted) -> tuple[Edit, ...]:
    profile = {
        "apiProvider": "openai",
        "openAiBaseUrl": wanted.v1,
        "openAiModelId": wanted.model.id,
        "id": _PROVIDER,
        "openAiCustomModelInfo": {
            "maxTokens": wanted.model.max_output or _DEFAULT_OUTPUT,
            "contextWindow": wanted.model.context or _DEFAULT_CONTEXT,
            "supportsImages": wanted.model.reads_images,
            "supportsPromptCache": False,
        },
    }
    members = {"providerProfiles": {"currentApiConfigName": _PROVIDER, "apiConfigs": {_PROVIDER: profile}}}
    return (Edit(".roo/omniroute-settings.json", Format.JSON, members),)


def _form(wanted: Wanted, where: str) -> tuple[str, ...]:
    return (
        where,
        f"  Base URL   {wanted.v1}",
        f"  API key    the value of {wanted.key_variable}",
        f"  Model      {wanted.model.id}",
    )


TOOLS: Final[tuple[Tool, ...]] = (
    Tool(
        "claude",
        "Claude Code",
        "claude",
        "npm install -g @anthropic-ai/claude-code",
        "https://code.claude.com/docs/en/llm-gateway",
        lambda wanted: (_export(wanted), "claude"),
        _claude_edits,
        _claude_environment,
    ),
    Tool(
        "codex",
        "Codex",
        "codex",
        "npm install -g @openai/codex",
        "https://developers.openai.com/codex/config-advanced",
        lambda wanted: (_export(wanted), "codex"),
        _codex_edits,
        lambda wanted: {wanted.key_variable: _key(wanted)},
        _codex_arguments,
    ),
    Tool(
        "opencode",
        "OpenCode",
        "opencode",
        "npm install -g opencode-ai",
        "https://opencode.ai/docs/providers",
        lambda wanted: (_export(wanted), f"opencode --model {_PROVIDER}/{wanted.model.id}"),
        _opencode_edits,
        lambda wanted: {wanted.key_variable: _key(wanted)},
        lambda wanted: ("--model", f"{_PROVIDER}/{wanted.model.id}"),
    ),
    Tool(
        "openclaw",
        "OpenClaw",
        "openclaw",
        "npm install -g openclaw",
        "https://docs.openclaw.ai/gateway/configuration",
        lambda wanted: (_export(wanted), "openclaw gateway restart"),
        _openclaw_edits,
    ),
    Tool(
        "cline",
        "Cline",
        None,
        "The extension saoudrizwan.claude-dev of VS Code",
        "https://docs.cline.bot/provider-config/openai-compatible",
        lambda wanted: _form(wanted, "In Cline's settings choose the API provider 'OpenAI Compatible' and fill in:"),
    ),
    Tool(
        "continue",
        "Continue",
        "cn",
        "The extension Continue.continue of VS Code, or npm install -g @continuedev/cli",
        "https://docs.continue.dev/reference",
        lambda wanted: (
            f"Continue takes secrets from ~/.continue/.env: {wanted.key_variable}=…",
            "It reads its file again by itself; choose a model below the chat.",
        ),
        _continue_edits,
    ),
    Tool(
        "roo",
        "Roo Code",
        None,
        "The extension RooVeterinaryInc.roo-cline of VS Code",
        "https://docs.roocode.com/features/settings-management",
        lambda wanted: (
            "In Roo Code's settings: About, Import, and choose ~/.roo/omniroute-settings.json.",
            f"Then enter the API key by hand: the value of {wanted.key_variable}.",
        ),
        _roo_edits,
    ),
    Tool(
        "cursor",
        "Cursor",
        None,
        "https://cursor.com",
        "https://docs.cursor.com/settings/api-keys",
        lambda wanted: (
            *_form(wanted, "In Cursor's settings, Models, switch 'Override OpenAI Base URL' on and fill in:"),
            "Cursor calls the address from its own servers: it must be reachable from the internet, with TLS.",
        ),
    ),
    Tool(
        "aider",
        "Aider",
        "aider",
        "pip install aider-install && aider-install",
        "https://aider.chat/docs/llms/openai-compat.html",
        lambda wanted: (_export(wanted), _same_key(wanted, "OPENAI_API_KEY"), "aider"),
        _aider_edits,
    ),
    Tool(
        "goose",
        "Goose",
        "goose",
        "https://block.github.io/goose/docs/getting-started/installation",
        "https://block.github.io/goose/docs/getting-started/providers",
        lambda wanted: (_export(wanted), "goose session"),
        _goose_edits,
    ),
    Tool(
        "qwen",
        "Qwen Code",
        "qwen",
        "npm install -g @qwen-code/qwen-code",
        "https://qwenlm.github.io/qwen-code-docs/en/users/configuration/model-providers/",
        lambda wanted: (_export(wanted), "qwen"),
        _qwen_edits,
    ),
    Tool(
        "gemini",
        "Gemini CLI",
        "gemini",
        "npm install -g @google/gemini-cli",
        "https://geminicli.com/docs/get-started/configuration/",
        lambda wanted: (_export(wanted), _same_key(wanted, "GEMINI_API_KEY"), "gemini"),
        _gemini_edits,
        _gemini_environment,
    ),
    Tool(
        "crush",
        "Crush",
        "crush",
        "npm install -g @charmland/crush",
        "https://github.com/charmbracelet/crush",
        lambda wanted: (_export(wanted), "crush"),
        _crush_edits,
    ),
)

BY_ID: Final = {tool.id: tool for tool in TOOLS}
LAUNCHED: Final = ("claude", "codex", "gemini", "opencode")
"""Those that need no file to use the gateway, or bring their own beside it."""
