"""What happens to health: outcomes of attempts and of whole requests, and what operators and readings say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from omniroute.routing.failures import Failure
from omniroute.routing.marks import Key
from omniroute.routing.options import Account, AuthClass


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt at a model on an account failed.

    Attributes:
        started_at: epoch seconds; who started before a rest began was hit by the same limit, not by a new one.
        in_flight: requests that ran at the account when it failed, this one included; 0 is not known.
    """

    account: Account
    model: str
    failure: Failure
    started_at: float
    in_flight: int = field(default=0, kw_only=True)


class AttemptServed(Struct, frozen=True, gc=False):
    """An attempt served.

    Attributes:
        started_at: epoch seconds; a success that began before a rest did says nothing about that rest.
        paused_until: until when the provider's limit headers say that nothing is left; None when something is.
    """

    account: Account
    model: str
    started_at: float = math.inf
    paused_until: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderFailed:
    """A request failed at a provider from end to end: after its retries, and on all connections that it tried there.

    Attributes:
        failure: the one that counts most for the breaker, where several happened.
    """

    provider: str
    auth: AuthClass
    failure: Failure
    started_at: float = field(default=math.inf, kw_only=True)


class ProviderServed(Struct, frozen=True, gc=False):
    """A request was served by a provider."""

    provider: str
    started_at: float = math.inf


@dataclass(frozen=True, slots=True)
class ProbeEnded:
    """A probe of what rests ended without a verdict: the client left, or the request itself was at fault."""

    scope: str


class ClearedBy(StrEnum):
    """Who or what ends a rest early."""

    OPERATOR = "operator"
    TEST = "test"
    """A test of the connection that went well."""
    READING = "reading"
    """A reading of quota or credit that shows room."""
    CATALOGUE = "catalogue"
    """A fresh list of models that has the missing one."""
    EDIT = "edit"
    """The connection was changed."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """Rows that may go: each does so if what ends it has a say about it."""

    keys: tuple[Key, ...]
    by: ClearedBy


Event: TypeAlias = AttemptFailed | AttemptServed | ProviderFailed | ProviderServed | ProbeEnded | Cleared
