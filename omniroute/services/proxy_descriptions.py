"""Descriptions of outbound proxies: what callers send, and what it makes of a stored proxy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from omniroute.errors import ValidationFailed
from omniroute.ids import new_id
from omniroute.records import Proxy, ProxyType
from omniroute.secret import Secret

LONGEST_FIELD: Final = 255
"""Of user names and passwords: SOCKS5 has no room for more."""

Given = Mapping[str, Any]
"""A proxy as a caller describes it: the `id` of a stored one, or `type`, `host`, `port`, `username` and `password`."""

_MASK_SIGN: Final = "…"
_PLACE: Final = ("type", "host", "port")
_KEPT: Final = object()
"""Stands for a password that is not spoken of."""


def redacted_url(proxy: Proxy) -> str:
    """Return a proxy's address without its password."""
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    user = "" if proxy.username is None else f"{proxy.username}:***@"
    return f"{proxy.type.value}://{user}{host}:{proxy.port}"


def composed(given: Given, old: Proxy | None) -> Proxy:
    """Return a proxy as it is described; a masked password stands for the one of the old.

    Raises:
        ValidationFailed: what is said does not fit together.
    """
    username = given.get("username") or None
    password = _password(given, old)
    if password is not None and username is None:
        raise _invalid("username", "is needed beside a password")
    if username is not None and ":" in username:
        raise _invalid("username", "must not hold a colon")
    if any(len((text or "").encode()) > LONGEST_FIELD for text in (username, password and password.reveal())):
        raise _invalid("password", f"and user name have at most {LONGEST_FIELD} bytes each")
    proxy_id = new_id("proxy") if old is None else old.id
    base = old or Proxy(proxy_id, proxy_id, ProxyType.HTTP, "", 0)
    return replace(
        base,
        type=ProxyType(given["type"]),
        host=given["host"].strip("[]").lower(),
        port=int(given["port"]),
        username=username,
        password=password,
        is_unreadable=False if password is not None else base.is_unreadable and given.get("password") is _KEPT,
    )


def _password(given: Given, old: Proxy | None) -> Secret | None:
    value = given.get("password")
    if value is None or value == "":
        return None
    if value is not _KEPT and (old is None or old.password is None or value != str(old.password)):
        if _MASK_SIGN in value:
            raise _invalid("password", "is the masked form; send the password itself")
        return Secret(value)
    if old is None or (old.password is None and not old.is_unreadable):
        return None
    if (given["type"], given["host"].strip("[]").lower(), int(given["port"])) != (old.type, old.host, old.port):
        raise _invalid("password", "has to be given again: the stored one is for another host")
    return old.password


def described(proxy: Proxy) -> dict[str, Any]:
    """Return what a description has to say to change nothing."""
    has_password = proxy.password is not None or proxy.is_unreadable
    return {
        "type": proxy.type.value,
        "host": proxy.host,
        "port": proxy.port,
        "username": proxy.username,
        "password": _KEPT if has_password else None,
    }


def is_described(given: Given) -> bool:
    """Say whether a description says where the proxy is, or only names a stored one.

    Raises:
        ValidationFailed: it does neither.
    """
    missing = [name for name in _PLACE if given.get(name) is None]
    if len(missing) == len(_PLACE) and given.get("id") is not None:
        return False
    if missing:
        raise _invalid(missing[0], "is required")
    return True


def is_same(given: Given, old: Proxy) -> bool:
    """Say whether a description is what an answer showed of a proxy."""
    shown = None if old.password is None else str(old.password)
    place = (given["type"], given["host"].strip("[]").lower(), int(given["port"]))
    return place == (old.type, old.host, old.port) and (
        (given.get("username") or None, given.get("password") or None) == (old.username, shown)
    )


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])
