"""The list of providers in the documentation is the list of the program."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from omniroute.providers.catalog import load
from omniroute.providers.spec import Provider

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_is_in_the_table() -> None:
    source = ROOT / "ecosystem" / "provider_table.py"
    spec = importlib.util.spec_from_file_location("provider_table", source)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.rewritten(page, load()) == page, "run: python ecosystem/provider_table.py"
    assert len(re.findall(r"^\| `[a-z0-9.-]+` \|", page, re.MULTILINE)) >= len(load().providers)


def test_every_field_of_a_row_is_explained() -> None:
    page = (ROOT / "ecosystem" / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")
    own = set(Provider.__dataclass_fields__) - {"is_operator"}
    assert not [name for name in own if f"`{name}`" not in page]
