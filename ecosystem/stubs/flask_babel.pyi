"""What the pages use of Flask-Babel, which ships no types."""

from collections.abc import Callable

from babel import Locale
from flask import Flask

class Babel:
    def __init__(
        self,
        app: Flask | None = None,
        *,
        default_locale: str = ...,
        default_timezone: str = ...,
        locale_selector: Callable[[], str | None] | None = None,
    ) -> None: ...

class LazyString:
    def __str__(self) -> str: ...

def get_locale() -> Locale | None: ...
def gettext(string: str, /, **variables: object) -> str: ...
def ngettext(singular: str, plural: str, num: int, /, **variables: object) -> str: ...
def lazy_gettext(string: str, /, **variables: object) -> LazyString: ...
def lazy_ngettext(singular: str, plural: str, num: int, /, **variables: object) -> LazyString: ...
