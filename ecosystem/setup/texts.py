"""Collect the texts of the pages into the catalogues of all languages: `texts.py [--check]`.

New texts are added untranslated, those that are gone are dropped, and nothing is guessed. With `--check` nothing is
written: what is missing, stale or has lost a placeholder is listed, and the exit code is 1 if there is anything.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "omniroute" / "translations"
LOCALES = ("de", "es", "fr", "ja", "nl", "pt_BR", "zh_Hans")
"""English is what the texts are written in."""
_METHODS = [("blueprints/**.py", "python"), ("templates/**.html", "jinja2")]
_KEYWORDS = {"_": None, "_l": None, "gettext": None, "lazy_gettext": None, "ngettext": (1, 2), "lazy_ngettext": (1, 2)}
_OPTIONS = {"templates/**.html": {"trimmed": "true", "silent": "false"}}
_PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w+\}")


def collected() -> Catalog:
    """Return the texts of the pages."""
    catalog = Catalog(project="OmniRoute", charset="utf-8")
    found = extract_from_dir(
        str(ROOT / "omniroute"), method_map=_METHODS, options_map=_OPTIONS, keywords=_KEYWORDS, strip_comment_tags=True
    )
    for _file, _line, message, comments, context in found:
        catalog.add(message, None, auto_comments=comments, context=context)
    return catalog


def path_of(locale: str) -> Path:
    """Return the place of a catalogue."""
    return DIRECTORY / locale / "LC_MESSAGES" / "messages.po"


def stored(locale: str) -> Catalog:
    """Return the catalogue of a language as it is."""
    path = path_of(locale)
    if not path.exists():
        return Catalog(locale=locale, project="OmniRoute", charset="utf-8")
    with path.open("rb") as file:
        return read_po(file, locale=locale)


def update(locale: str, texts: Catalog) -> None:
    """Bring the catalogue of a language up to date with the texts."""
    catalog = stored(locale)
    catalog.update(texts, no_fuzzy_matching=True)
    catalog.obsolete.clear()
    catalog.header_comment = "# Texts of the dashboard."
    path = path_of(locale)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A date in each file would make every change of one text a change of all files.
    catalog.creation_date = catalog.revision_date = datetime(2026, 1, 1, tzinfo=UTC)
    catalog.last_translator = catalog.language_team = "OmniRoute"
    catalog.fuzzy = False
    with path.open("wb") as file:
        write_po(file, catalog, width=120, no_location=True, sort_output=True, ignore_obsolete=True)


def faults() -> Iterator[str]:
    """Give what is wrong with the catalogues, a line each."""
    texts = collected()
    wanted = {message.id for message in texts if message.id}
    for locale in LOCALES:
        catalog = stored(locale)
        known = {message.id: message for message in catalog if message.id}
        yield from (f"{locale}: missing: {text!r}" for text in sorted(map(str, wanted - known.keys())))
        yield from (f"{locale}: stale: {text!r}" for text in sorted(map(str, known.keys() - wanted)))
        for message in known.values():
            yield from (f"{locale}: {fault}: {message.id!r}" for fault in _faults_of(message, catalog.num_plurals))


def _faults_of(message: Message, plurals: int) -> Iterator[str]:
    forms = message.string if isinstance(message.string, tuple | list) else (message.string,)
    if message.fuzzy:
        yield "is a guess"
    if not all(forms) or (message.pluralizable and len(forms) != plurals):
        yield "is not translated"
        return
    ids = message.id if isinstance(message.id, tuple | list) else (message.id,)
    needed = set(_PLACEHOLDER.findall(ids[-1]))
    for form in forms:
        found = set(_PLACEHOLDER.findall(str(form)))
        if found - needed or (needed - found and not message.pluralizable):
            yield f"has other placeholders than {sorted(needed)}"


def main(arguments: list[str]) -> int:
    """Do what the arguments say."""
    if arguments == ["--check"]:
        found = list(faults())
        print("\n".join(found) or "All texts are translated.")
        return 1 if found else 0
    texts = collected()
    for locale in LOCALES:
        update(locale, texts)
    print(f"{len(texts)} texts in {len(LOCALES)} languages.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
