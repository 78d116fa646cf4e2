"""Groups of commands that also answer to other names of the same command."""

from __future__ import annotations

from typing import Any

import click


class AliasGroup(click.Group):
    """A group whose commands have other spellings, which its help does not list twice.

    @click.group("keys", cls=AliasGroup, aliases={"create": "add"})
    """

    def __init__(self, *args: Any, aliases: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.aliases = aliases or {}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name or another spelling of it."""
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))
