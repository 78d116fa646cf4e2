"""Every text of the pages is there in every language, with its placeholders, and none is left over."""

from __future__ import annotations

import gettext

import pytest
import texts

from omniroute.services.setting_definitions import LANGUAGES


def test_nothing_is_missing_or_stale() -> None:
    assert list(texts.faults()) == []


def test_the_languages_of_the_settings_are_those_of_the_catalogues() -> None:
    assert {tag.replace("-", "_") for tag in LANGUAGES} == {"en", *texts.LOCALES}


@pytest.mark.parametrize("locale", texts.LOCALES)
def test_the_compiled_catalogue_is_that_of_the_texts(locale: str) -> None:
    path = texts.path_of(locale).with_suffix(".mo")
    assert path.exists(), "make compiles the catalogues"
    with path.open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message in texts.stored(locale):
        if message.id and isinstance(message.id, str):
            assert compiled.gettext(message.id) == message.string
