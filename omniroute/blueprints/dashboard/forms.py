"""The forms of the pages."""

from __future__ import annotations

from typing import Any, Final

from flask_wtf import FlaskForm
from wtforms import HiddenField, PasswordField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Length

from omniroute.services.passwords import LONGEST

DAYS: Final = {"": None, "7": 7, "30": 30, "90": 90, "365": 365}
SCOPES: Final = {"inference": ("chat",), "manage": ("chat", "manage")}


class LoginForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF ships no types
    """The login page. The guard has checked origin or token before a view sees the form."""

    password = PasswordField("Password", validators=[DataRequired("Enter the password."), Length(max=LONGEST)])
    next = HiddenField()


class KeyForm(FlaskForm):  # type: ignore[misc]
    """A new API key, with the few fields that most keys need."""

    name = StringField(
        "Name", validators=[DataRequired("Give the key a name, for example the machine it is for."), Length(max=200)]
    )
    expires = SelectField(
        "Expires",
        choices=[
            SelectChoice("", "never"),
            SelectChoice("7", "in 7 days"),
            SelectChoice("30", "in 30 days"),
            SelectChoice("90", "in 90 days"),
            SelectChoice("365", "in a year"),
        ],
    )
    scope = SelectField(
        "Opens", choices=[SelectChoice("inference", "inference"), SelectChoice("manage", "inference and management")]
    )
    models = StringField("Models", validators=[Length(max=2000)])

    def fields(self, now: float) -> dict[str, Any]:
        """Return the fields as the service takes them."""
        days = DAYS[self.expires.data or ""]
        values: dict[str, Any] = {"name": self.name.data.strip(), "scopes": SCOPES[self.scope.data]}
        if days is not None:
            values["expiresAt"] = now + days * 86400
        patterns = (self.models.data or "").replace(",", " ").split()
        if patterns:
            values["allowedModels"] = tuple(patterns)
        return values
