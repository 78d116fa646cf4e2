"""In which language a page is written: the visitor's choice, the server's setting, or what the browser asks for."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from babel import Locale
from flask import Flask, g, request
from flask_babel import Babel, get_locale, get_translations
from markupsafe import Markup

from omniroute.container import container
from omniroute.services.setting_definitions import LANGUAGES

COOKIE: Final = "omniroute_language"
COOKIE_LIFETIME_S: Final = 365 * 86400
NAMES: Final = {
    "en": "English",
    "de": "Deutsch",
    "es": "Español",
    "fr": "Français",
    "ja": "日本語",
    "nl": "Nederlands",
    "pt-BR": "Português (Brasil)",
    "zh-Hans": "简体中文",
}
"""The languages by their own names."""

_AUTO: Final = "auto"
_ALSO_ASKED_AS: Final = {"pt": "pt-BR", "zh": "zh-Hans", "zh-cn": "zh-Hans", "zh-sg": "zh-Hans"}


def init_app(app: Flask) -> None:
    """Have pages of an application speak the language of who reads them."""
    Babel(app, default_locale="en", default_timezone="UTC", locale_selector=_chosen)
    # A page has hundreds of texts, all in one language: what Flask-Babel and Jinja do anew for each took a tenth of it.
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]
        _gettext, _ngettext, newstyle=True
    )
    app.jinja_env.globals.update({"_": _template_text, "gettext": _template_text})
    app.jinja_env.globals.update(page_language=tag, page_direction=direction, languages=NAMES)


def _gettext(text: str) -> str:
    return str(_translations().ugettext(text))


def _ngettext(singular: str, plural: str, count: int) -> str:
    return str(_translations().ungettext(singular, plural, count))


def _template_text(text: str, /, **variables: Any) -> Markup:
    """Return a text of a template; what is put into it is escaped."""
    texts: dict[str, Markup] | None = g.get("page_texts")
    if texts is None:
        texts = g.page_texts = {}
    found = texts.get(text)
    if found is None:
        found = texts[text] = Markup(_gettext(text))  # noqa: S704 - written by us, in the template or in a catalogue
    return found % variables if variables or "%" in found else found


def _translations() -> Any:
    """Return the catalogue of the current page."""
    found = g.get("page_translations")
    if found is None:
        found = g.page_translations = get_translations()
    return found


def tag() -> str:
    """Return the language of the current page as a BCP 47 tag."""
    return str(get_locale() or "en").replace("_", "-")


def direction() -> str:
    """Return the direction in which the language of the current page is written."""
    locale = get_locale()
    return locale.text_direction if locale is not None else "ltr"


def _chosen() -> Locale:
    return _locale(_wanted())


@cache
def _locale(language: str) -> Locale:
    """Return the locale of a language: always the same object, so that what is kept by it is found at once."""
    return Locale.parse(language, sep="-")


def locale_name(language: str) -> str:
    """Return the name that Babel has for a language tag."""
    return str(_locale(language))


def _wanted() -> str:
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return chosen
    usual = str(container().in_force.value("appearance", "language"))
    return usual if usual != _AUTO else _asked_for()


def _asked_for() -> str:
    """Return the first language of the browser that there is, by its whole tag or by its language alone."""
    by_name = {language.lower(): language for language in LANGUAGES}
    for asked, quality in request.accept_languages:
        name = asked.lower()
        found = by_name.get(name) or _ALSO_ASKED_AS.get(name)
        base = name.partition("-")[0]
        found = found or by_name.get(base) or _ALSO_ASKED_AS.get(base)
        if found is not None and quality > 0:
            return found
    return "en"
