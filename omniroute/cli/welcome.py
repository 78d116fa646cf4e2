"""What the terminal shows once a server accepts requests: its address, the login page, and a request to paste."""

from __future__ import annotations

from omniroute.secret import Secret
from omniroute.services.first_start import announcement
from omniroute.settings import Settings


def welcome(settings: Settings, first_password: Secret | None = None) -> str:
    """Return the text; `first_password` only if this very start has generated it."""
    return "\n".join(
        (
            f"OmniRoute listens on {settings.local_url}",
            f"Dashboard            {login_url(settings)}",
            f"Data directory       {settings.data_dir}",
            *([announcement(first_password.reveal(), login_url(settings))] if first_password is not None else []),
            "",
            "Try it; the sandbox needs no account:",
            "",
            first_request(settings),
            "",
        )
    )


def login_url(settings: Settings) -> str:
    """Return where people log in: the public address if one is set, else the one that works on this machine."""
    base = settings.base_url if "base_url" in settings.sources else settings.local_url
    return f"{base}{'' if base.endswith(settings.base_path) else settings.base_path}/login"


def first_request(settings: Settings) -> str:
    """Return a command line that streams an answer from the sandbox."""
    key = "" if _is_keyless(settings) else ' -H "Authorization: Bearer $OMNIROUTE_API_KEY"'
    body = '{"model": "sandbox/story", "stream": true, "messages": [{"role": "user", "content": "Tell me a story."}]}'
    command = (
        f"  curl -N {settings.local_url}/v1/chat/completions{key} \\\n"
        f"    -H 'Content-Type: application/json' \\\n    -d '{body}'"
    )
    if key:
        command += "\n\nAn API key comes from: omniroute keys create NAME"
    return command


def _is_keyless(settings: Settings) -> bool:
    """Say whether this machine may ask without a key, as `services.access` will decide it."""
    from urllib.parse import urlsplit

    from omniroute.settings import is_loopback_host

    if settings.require_api_key or settings.loopback_keyless == "false":
        return False
    return settings.loopback_keyless == "true" or is_loopback_host(urlsplit(settings.base_url).hostname or "")
