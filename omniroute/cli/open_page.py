"""`omniroute open`: a page of the dashboard."""

from __future__ import annotations

import click

from omniroute.cli.session import Session, pass_session


@click.command("open")
@click.argument("page", default="")
@click.option("--url", "only_url", is_flag=True, help="Print the address instead of opening it.")
@pass_session
def command(session: Session, page: str, only_url: bool) -> None:
    """Open the dashboard of the active server in the browser, or its page PAGE, such as `requests`."""
    target = session.target
    base = target.base_url
    if target.is_here:
        from omniroute.cli.running import address_of

        settings = session.local_settings()
        base = address_of(settings) + settings.base_path
    address = f"{base.rstrip('/')}/dashboard{'/' + page.strip('/') if page.strip('/') else ''}"
    if only_url or click.launch(address) != 0:
        click.echo(address)
