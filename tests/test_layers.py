"""The arrows of the architecture: imports point inwards only, and each ring keeps its hands off what is not its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "omniroute"

# Known to all. In this order: each may import those before it.
COMMON = ("", "errors", "secret", "ids", "records", "settings", "logging_setup")
# The composition root: may import anything.
COMPOSITION = ("factory", "container", "__main__")
# Flask extensions without an application: a leaf that the database models and the edges hang on.
UNBOUND = "extensions"
# Inner rings last. A part may import its own ring only where `SIBLINGS` says so.
RINGS = (
    ("blueprints", "cli", "runtime"),
    ("gateway", "services"),
    ("storage", "providers"),
    ("routing", "formats", "money", "clients"),
)
SIBLINGS = frozenset(
    {("gateway", "services"), ("services", "gateway"), ("cli", "runtime"), ("runtime", "cli"), ("money", "formats")}
)
FORBIDDEN = frozenset({("blueprints", "storage")})
EDGES = ("blueprints", "cli", "runtime")

FLASK_CONTEXT = frozenset({"request", "g", "current_app", "session", "has_request_context"})
SQL = frozenset({"sqlalchemy", "sqlite3", "psycopg", "alembic", "flask_sqlalchemy", "flask_migrate"})
SOCKETS = frozenset({"socket", "ssl", "gevent", "requests", "urllib3", "http", "httptools", "geventhttpclient"})
WEB = frozenset({"flask", "werkzeug", "flask_login", "flask_wtf", "click", "gunicorn"})
CLOCK = frozenset({"time"})
OUTSIDE = {
    "routing": SQL | SOCKETS | WEB | CLOCK,
    "formats": SQL | SOCKETS | WEB | CLOCK,
    "money": SQL | SOCKETS | WEB | CLOCK,
    "clients": SQL | SOCKETS | WEB | CLOCK,
    "providers": SQL | SOCKETS | WEB,
    "gateway": SQL,
    "services": WEB - {"werkzeug"},  # cookies are read and written with its parser
    "storage": WEB - {"flask"},
    "blueprints": SQL,
    "cli": SQL,
}
# What needs a reason to stand outside a rule: path and module, then the reason.
EXCEPTIONS: dict[tuple[str, str], str] = {}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: where, and its full dotted path."""

    path: Path
    line: int
    module: str
    name: str | None

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


def imports_of(path: Path, module: str) -> Iterator[Import]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, None)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*base, *([source] if source else [])])
            for alias in node.names:
                yield Import(path, node.lineno, source, alias.name)


def part_of(dotted: str) -> str:
    """Return the first name below the package, "" for the package itself."""
    pieces = dotted.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def ring_of(part: str) -> int | None:
    return next((number for number, ring in enumerate(RINGS) if part in ring), None)


def objection(part: str, used: Import) -> str | None:
    """Return why a module of `part` may not have this import, or None."""
    top = used.module.split(".")[0]
    if top == "flask" and used.name in FLASK_CONTEXT and part not in (*EDGES, *COMPOSITION):
        return f"flask.{used.name} belongs to the edges"
    if top != PACKAGE:
        return f"{top} does not belong in {part}" if top in OUTSIDE.get(part, frozenset()) else None
    # The package offers create_app, which is the factory's.
    target = "factory" if used.dotted == f"{PACKAGE}.create_app" else part_of(used.dotted)
    if part in COMPOSITION or target == part:
        return None
    if part == UNBOUND:
        return None if target in COMMON else f"{part} hangs on no other part"
    if target == UNBOUND and part in ("storage", *EDGES):
        return None
    if part in COMMON:
        # The package itself offers create_app, which imports the factory when it is called.
        allowed = target in COMMON[: COMMON.index(part)] or (part == "" and target in ("factory", *COMMON))
        return None if allowed else f"{part or PACKAGE} is known to all and may not know {target}"
    if target in COMMON or not _is_module(used, target):
        return None
    if target in COMPOSITION:
        return None if part in EDGES else f"{part} may not reach back to {target}"
    own, other = ring_of(part), ring_of(target)
    if own is None or other is None:
        return f"{part if own is None else target} has no place in the rings"
    if other < own:
        return f"{part} may not import {target}: the arrow points outwards"
    if (part, target) in FORBIDDEN or (other == own and (part, target) not in SIBLINGS):
        return f"{part} may not import {target}"
    return None


def _is_module(used: Import, target: str) -> bool:
    """`from omniroute import __version__` names no module."""
    return not (used.module == PACKAGE and target.startswith("__"))


def violations(root: Path) -> list[str]:
    found = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        relative = path.relative_to(root)
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        for used in imports_of(path, module):
            if (relative.as_posix(), used.module) in EXCEPTIONS:
                continue
            why = objection(part_of(module), used)
            if why:
                found.append(f"{relative}:{used.line}: imports {used.dotted}: {why}")
    return found


def test_imports_point_inwards() -> None:
    assert violations(ROOT) == []


def test_every_top_level_module_has_a_place() -> None:
    parts = {p.stem for p in (ROOT / PACKAGE).glob("*.py")} | {p.parent.name for p in (ROOT / PACKAGE).glob("*/*.py")}
    known = {*COMMON, *COMPOSITION, UNBOUND, "__init__"} | {part for ring in RINGS for part in ring}
    assert parts <= known


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("routing/plan.py", "from omniroute.formats import sse"),
        ("formats/sse.py", "import omniroute.routing.attempts"),
        ("formats/sse.py", "from ..routing import attempts"),
        ("formats/openai_chat/stream.py", "from ...gateway import streaming"),
        ("formats/sse.py", "def later():\n    from omniroute.storage import database"),
        ("formats/sse.py", "from flask import Response"),
        ("routing/plan.py", "import time"),
        ("routing/plan.py", "from time import monotonic"),
        ("providers/spec.py", "import sqlalchemy as sa"),
        ("providers/spec.py", "from omniroute.storage.database import Database"),
        ("providers/auth/oauth.py", "import requests"),
        ("storage/database.py", "from omniroute.services import keys"),
        ("storage/database.py", "from omniroute.providers import catalog"),
        ("gateway/inference.py", "from flask import g"),
        ("gateway/inference.py", "from omniroute.container import container"),
        ("services/keys.py", "from omniroute.blueprints.management import bodies"),
        ("services/keys.py", "from omniroute import cli"),
        ("services/keys.py", "from omniroute import create_app"),
        ("blueprints/management/keys.py", "from omniroute.storage.repositories import keys"),
        ("blueprints/management/keys.py", "from omniroute.cli import group"),
        ("settings.py", "from omniroute.logging_setup import configure"),
        ("errors.py", "from omniroute.secret import Secret"),
        ("cli/doctor.py", "import sqlite3"),
        ("extensions.py", "from omniroute.storage.models import base"),
        ("gateway/inference.py", "from omniroute.extensions import db"),
        ("helpers/text.py", "from omniroute.storage import database"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, path: str, source: str) -> None:
    planted = tmp_path / PACKAGE / path
    planted.parent.mkdir(parents=True)
    planted.write_text(source + "\n")

    found = violations(tmp_path)

    assert len(found) == 1
    assert found[0].startswith(f"{PACKAGE}/{path}:")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("blueprints/inference/chat.py", "from flask import request\nfrom omniroute.container import container"),
        ("gateway/inference.py", "from omniroute.formats import sse\nfrom omniroute.routing import attempts"),
        ("services/keys.py", "from omniroute.storage.database import Database\nimport requests"),
        ("storage/database.py", "import sqlalchemy\nfrom omniroute import errors, records"),
        ("storage/models/base.py", "from omniroute.extensions import Base"),
        ("formats/sse.py", "from . import splice\nfrom omniroute.errors import InvalidJson"),
        ("cli/server.py", "from omniroute import __version__, create_app\nfrom omniroute.factory import build"),
        ("settings.py", "from omniroute.secret import Secret"),
        ("factory.py", "from omniroute.storage.database import Database\nfrom flask import g"),
        ("__init__.py", "def create_app():\n    from omniroute.factory import build"),
    ],
)
def test_an_inward_import_is_accepted(tmp_path: Path, path: str, source: str) -> None:
    allowed = tmp_path / PACKAGE / path
    allowed.parent.mkdir(parents=True)
    allowed.write_text(source + "\n")

    assert violations(tmp_path) == []
