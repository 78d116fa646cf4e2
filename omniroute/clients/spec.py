"""What a tool is, what is wanted of it, and the changes that come of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Format(StrEnum):
    """How a file is written."""

    JSON = "json"
    TOML = "toml"
    YAML = "yaml"
    ENV = "env"


@dataclass(frozen=True, slots=True)
class ClientModel:
    """A model as tools want to know it.

    Attributes:
        context: its window in tokens; None where nobody said.
    """

    id: str
    name: str
    context: int | None = None
    max_output: int | None = None
    reads_images: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a tool is to be told.

    Attributes:
        base_url: of the gateway, without a version behind it.
        key_variable: the environment variable that holds the API key; the key itself is never written.
        model: the one to begin with.
        models: all that the tool may offer, `model` among them.
    """

    base_url: str
    key_variable: str
    model: ClientModel
    models: tuple[ClientModel, ...]

    @property
    def v1(self) -> str:
        """The base URL of tools that put only the endpoint behind it."""
        return f"{self.base_url}/v1"


@dataclass(frozen=True, slots=True)
class OwnEntries:
    """Entries of a list: those of ours are replaced, all others stay.

    Attributes:
        path: names that lead to the list.
        member: what tells an entry of ours, together with `value`.
    """

    path: tuple[str, ...]
    entries: tuple[Mapping[str, Any], ...]
    member: str
    value: str


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of one file.

    Attributes:
        path: below the home directory; the first part may be replaced by what `variable` says.
        members: what must stand in it; objects are merged member by member, everything else is replaced.
        lists: lists in which only our entries change.
        replaced: names that lead to objects which are ours alone, and so are replaced whole.
        variable: an environment variable that names the directory of the file instead.
    """

    path: str
    format: Format
    members: Mapping[str, Any]
    lists: tuple[OwnEntries, ...] = ()
    replaced: tuple[tuple[str, ...], ...] = ()
    variable: str | None = None


def _no_edits(_wanted: Wanted) -> tuple[Edit, ...]:
    return ()


def _no_environment(_wanted: Wanted) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that can use the gateway.

    Attributes:
        program: what it is started with; None for what is no program of its own.
        install: how to get it.
        edits: the changes of its files.
        environment: what its process needs to use the gateway without any file: for `launch`. Values may name the key
            as `$NAME`, which the one who starts it replaces.
        arguments: what its command line needs beside that, given the model.
        steps: what a person does by hand: instead of a file, or after it.
        source: the document that says so.
    """

    id: str
    name: str
    program: str | None
    install: str
    source: str
    steps: Callable[[Wanted], tuple[str, ...]]
    edits: Callable[[Wanted], tuple[Edit, ...]] = _no_edits
    environment: Callable[[Wanted], dict[str, str]] = _no_environment
    arguments: Callable[[Wanted], tuple[str, ...]] = lambda _wanted: ()
