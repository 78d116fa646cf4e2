"""What a provider and a model are: plain facts with conservative defaults.

Three separate facts: the *format* that an address speaks, the *provider* (addresses, key header, kinds of credential)
and the *model* (window, capabilities, price). A capability that no row states is not assumed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from omniroute.formats.wire import WireFormat
from omniroute.records import PriceStep


class Tier(StrEnum):
    """What using a provider costs, in the order in which equal choices are preferred."""

    SUBSCRIPTION = "subscription"
    CHEAP = "cheap"
    API_KEY = "api_key"
    FREE = "free"
    LOCAL = "local"


class AuthKind(StrEnum):
    """A kind of credential that a provider accepts."""

    API_KEY = "apikey"
    NONE = "none"
    OAUTH = "oauth"
    AWS = "aws"
    GCP = "gcp"


class ProviderStatus(StrEnum):
    """Whether a row is known to work."""

    OK = "ok"
    UNVERIFIED = "unverified"
    DISCONTINUED = "discontinued"


class ModelKind(StrEnum):
    """What a model does; the `type` of the model lists."""

    CHAT = "chat"
    EMBEDDING = "embedding"
    IMAGE = "image"
    AUDIO = "audio"
    RERANK = "rerank"
    MODERATION = "moderation"
    VIDEO = "video"
    MUSIC = "music"
    SEARCH = "search"
    OCR = "ocr"


@dataclass(frozen=True, slots=True)
class Price:
    """List price as decimal text in USD per million tokens; None is not published, "0" is free of charge.

    Attributes:
        per_request, per_image, per_second: USD for one.
        per_character: USD per million characters.
    """

    input: str | None = None
    output: str | None = None
    cache_read: str | None = None
    cache_write: str | None = None
    cache_write_1h: str | None = None
    reasoning: str | None = None
    audio_input: str | None = None
    audio_output: str | None = None
    per_request: str | None = None
    per_image: str | None = None
    per_second: str | None = None
    per_character: str | None = None
    tiers: tuple[PriceStep, ...] = ()

    @property
    def is_zero(self) -> bool:
        """Whether it says that nothing is charged, for tokens or anything else."""
        units = (self.per_request, self.per_image, self.per_second, self.per_character)
        return self.input == "0" and self.output == "0" and all(price in (None, "0") for price in units)


@dataclass(frozen=True, slots=True)
class Model:
    """One model at one provider.

    Attributes:
        id: the provider's own id, without our prefix; may contain slashes.
        context: window in tokens; None when nobody states it.
        formats: the formats it is served in, when that is fewer than its provider speaks.
        billing: `metered`, or `subscription`/`free` where the price is the list price and nothing is charged per token.
        unstated: words of `capabilities` and `input` of which nobody says whether they hold; None where that is to be
            told from which of the two is empty.
    """

    id: str
    name: str | None = None
    kind: ModelKind = ModelKind.CHAT
    subtype: str | None = None
    context: int | None = None
    max_output: int | None = None
    capabilities: tuple[str, ...] = ()
    input: tuple[str, ...] = ()
    formats: tuple[WireFormat, ...] = ()
    price: Price | None = None
    billing: str = "metered"
    unstated: tuple[str, ...] | None = None

    def lacks(self, capability: str) -> bool:
        """Say whether it is stated that the model cannot do something."""
        if self.unstated is not None:
            return capability not in self.capabilities and capability not in self.unstated
        return bool(self.capabilities) and capability not in self.capabilities

    @property
    def is_free(self) -> bool:
        """Whether a call is known to cost nothing."""
        return self.billing == "free" or (self.price is not None and self.price.is_zero)


@dataclass(frozen=True, slots=True)
class Provider:
    """One row of the provider list.

    Attributes:
        prefix: what stands before the slash in a model name; the id and the aliases are accepted too.
        auth: kinds of credential, the usual one first.
        urls: absolute address for chat requests per format. `{name}` is filled from a connection's provider data,
            `{model}` with the model id.
        usage_url: where the provider says how much of an account's quota or credit is left; `usage_shape` says how.
        key_header: header name and template that carry the key; None when a key does not travel in a header.
        key_headers: the same for single formats, where they differ.
        headers: fixed headers of every request.
        defaults: values for `{name}` parts that a connection does not set.
        is_local: the service runs on the operator's machine or network; its base URL may be changed per connection.
        is_strict: a model that its list does not have is not tried.
        is_operator: the row comes from the operator's file, not from the built-in list.
    """

    id: str
    prefix: str
    name: str
    tier: Tier = Tier.API_KEY
    aliases: tuple[str, ...] = ()
    auth: tuple[AuthKind, ...] = (AuthKind.API_KEY,)
    base_url: str = ""
    urls: Mapping[WireFormat, str] = field(default_factory=dict)
    models_url: str | None = None
    usage_url: str | None = None
    usage_shape: str | None = None
    key_header: tuple[str, str] | None = ("Authorization", "Bearer {key}")
    key_headers: Mapping[WireFormat, tuple[str, str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    services: tuple[str, ...] = ("chat",)
    status: ProviderStatus = ProviderStatus.OK
    replaced_by: tuple[str, ...] = ()
    default_context: int | None = None
    env_key: str | None = None
    website: str | None = None
    is_local: bool = False
    is_strict: bool = False
    is_operator: bool = False
    note: str | None = None
    terms_note: str | None = None

    @property
    def is_implicit(self) -> bool:
        """Whether it is always connected, without a stored connection: the simulated provider."""
        return self.base_url == SANDBOX_BASE

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that may stand before the slash."""
        return (self.prefix, self.id, *self.aliases)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names that a connection has to supply or that have a default, apart from the model."""
        texts = (*self.urls.values(), *self.headers.values())
        found = dict.fromkeys(name for text in texts for name in _PLACEHOLDER.findall(text))
        found.pop("model", None)
        return tuple(found)


SANDBOX_ID: Final = "sandbox"
SANDBOX_BASE: Final = "sandbox:"

_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_REGION: Final = r"[a-z]{2,12}(?:-[a-z0-9]{1,20}){0,4}"

# A value that becomes part of a host or path is checked against the one pattern of its name, so that a connection can
# never move a catalogue row to another host.
PARAMETERS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        name: re.compile(pattern)
        for name, pattern in {
            "account": rf"[a-z0-9](?:[a-z0-9_-]{{0,61}}[a-z0-9])?(?:\.{_REGION}){{0,2}}",
            "accountId": r"[0-9a-f]{32}",
            "apiHost": rf"(?:{_LABEL}\.){{1,8}}hana\.ondemand\.com",
            "app": _LABEL,
            "deployment": r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
            "location": _REGION,
            "productId": r"[0-9]{1,12}",
            "project": r"[a-z][a-z0-9-]{4,28}[a-z0-9]",
            "region": _REGION,
            "resource": _LABEL,
            "resourceGroup": r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
            "tenant": r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}",
            "userId": r"[A-Za-z0-9._-]{1,100}",
            "workspace": _LABEL,
            "workspaceHost": rf"(?:{_LABEL}\.){{1,3}}(?:(?:cloud|gcp)\.databricks\.com|azuredatabricks\.net)",
        }.items()
    }
)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with every `{name}` replaced; raise KeyError with the first name that has no value."""
    if "{" not in template:
        return template
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
