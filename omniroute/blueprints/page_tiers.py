"""The rows of the pages in the table of tiers (`tiers.py`): one per rule, in the order of the menu."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from omniroute.blueprints.route import GET, POST, Family, Route, Tier


def _page(rule: str, *, is_form: bool = False, is_upload: bool = False) -> Iterator[Route]:
    """Give the rows of a page; with `is_form` what is sent to its own address too."""
    yield Route(GET, rule, Tier.D, Family.PAGE)
    if is_form:
        yield Route(POST, rule, Tier.D, Family.PAGE, is_upload=is_upload)


def _action(rule: str, *, is_upload: bool = False) -> Iterator[Route]:
    """Give the row of what a form does that is shown elsewhere."""
    yield Route(POST, rule, Tier.D, Family.PAGE, is_upload=is_upload)


PAGES: Final[tuple[Route, ...]] = (
    # frame
    Route(GET, "/static/<path:filename>", Tier.P, Family.PAGE),
    Route(GET, "/bootstrap/static/<path:filename>", Tier.P, Family.PAGE),
    Route(GET, "/manifest.webmanifest", Tier.P, Family.PAGE),
    Route(GET, "/sw.js", Tier.P, Family.PAGE),
    Route(GET, "/offline", Tier.P, Family.PAGE),
    Route(GET, "/login", Tier.P, Family.PAGE),
    Route(POST, "/login", Tier.P, Family.PAGE, checks_origin=True),
    Route(POST, "/logout", Tier.P, Family.PAGE, checks_origin=True),
    Route(GET, "/", Tier.P, Family.PAGE),
    *_page("/docs/api"),
    *_page("/docs/api/<tag>"),
    *_page("/dashboard/search"),
    *_action("/dashboard/language"),
    *_page("/dashboard/account"),
    *_action("/dashboard/account/password"),
    *_action("/dashboard/account/sessions"),
    # home, and the guide to it
    *_page("/dashboard"),
    *_page("/dashboard/setup"),
    *_action("/dashboard/setup/password"),
    *_action("/dashboard/setup/provider"),
    *_action("/dashboard/setup/combo"),
    *_action("/dashboard/setup/client"),
    *_page("/dashboard/setup/first/<key_id>"),
    # providers
    *_page("/dashboard/providers"),
    *_page("/dashboard/providers/add"),
    *_page("/dashboard/providers/custom", is_form=True),
    *_page("/dashboard/providers/import", is_form=True),
    *_action("/dashboard/providers/test"),
    *_page("/dashboard/providers/jobs/<job_id>"),
    *_page("/dashboard/providers/<provider>", is_form=True),
    *_page("/dashboard/providers/<provider>/connect", is_form=True),
    *_page("/dashboard/providers/<provider>/keys", is_form=True),
    *_page("/dashboard/providers/<provider>/remove", is_form=True),
    *_page("/dashboard/providers/<provider>/connections/<connection_id>", is_form=True),
    *_action("/dashboard/providers/<provider>/connections/<connection_id>/reset"),
    *_page("/dashboard/providers/<provider>/models/<path:model>", is_form=True),
    *_action("/dashboard/providers/<provider>/custom-models"),
    *_action("/dashboard/providers/<provider>/strategy"),
    *_action("/dashboard/providers/<provider>/parameters"),
    *_action("/dashboard/providers/<provider>/proxy"),
    *_action("/dashboard/providers/<provider>/block"),
    *_action("/dashboard/providers/<provider>/endpoint"),
    *_action("/dashboard/providers/<provider>/delete"),
    # api manager
    *_page("/dashboard/keys"),
    *_page("/dashboard/keys/new", is_form=True),
    *_page("/dashboard/keys/<key_id>", is_form=True),
    *_action("/dashboard/keys/<key_id>/switch"),
    *_action("/dashboard/keys/<key_id>/regenerate"),
    *_action("/dashboard/keys/<key_id>/reveal"),
    *_action("/dashboard/keys/<key_id>/budget"),
    *_action("/dashboard/keys/<key_id>/token-limits"),
    *_action("/dashboard/keys/<key_id>/delete"),
    # combos
    *_page("/dashboard/combos"),
    *_action("/dashboard/combos/reorder"),
    *_action("/dashboard/combos/templates"),
    *_page("/dashboard/combos/models"),
    *_page("/dashboard/combos/new", is_form=True),
    *_page("/dashboard/combos/<combo_id>"),
    *_page("/dashboard/combos/<combo_id>/edit", is_form=True),
    *_action("/dashboard/combos/<combo_id>/switch"),
    *_action("/dashboard/combos/<combo_id>/default"),
    *_action("/dashboard/combos/<combo_id>/duplicate"),
    *_action("/dashboard/combos/<combo_id>/delete"),
    *_action("/dashboard/combos/<combo_id>/test"),
    *_action("/dashboard/combos/<combo_id>/reset"),
    # auto combo
    *_page("/dashboard/auto-combo", is_form=True),
    *_action("/dashboard/auto-combo/reset"),
    # endpoints
    *_page("/dashboard/endpoints"),
    # health
    *_page("/dashboard/health"),
    *_action("/dashboard/health/backup"),
    *_action("/dashboard/health/breakers"),
    *_action("/dashboard/health/cooldowns"),
    *_action("/dashboard/health/lockouts"),
    *_action("/dashboard/health/addresses"),
    # settings
    *_page("/dashboard/settings"),
    *_action("/dashboard/settings/values/<group>"),
    *_action("/dashboard/settings/reset"),
    *_action("/dashboard/settings/spending"),
    *_action("/dashboard/settings/database"),
    *_action("/dashboard/settings/purge"),
    *_action("/dashboard/settings/server"),
    *_action("/dashboard/settings/login"),
    *_action("/dashboard/settings/addresses"),
    *_action("/dashboard/settings/bans"),
    *_action("/dashboard/settings/accounts"),
    *_action("/dashboard/settings/provider-rules"),
    *_action("/dashboard/settings/combo-defaults"),
    *_action("/dashboard/settings/aliases"),
    *_action("/dashboard/settings/mappings"),
    *_action("/dashboard/settings/chains"),
    *_action("/dashboard/settings/resilience"),
    *_action("/dashboard/settings/flags"),
    *_action("/dashboard/settings/proxies"),
    *_action("/dashboard/settings/proxy-places"),
    *_action("/dashboard/settings/proxy-test"),
    *_action("/dashboard/settings/import"),
    # access tokens
    *_page("/dashboard/settings/access-tokens", is_form=True),
    *_action("/dashboard/settings/access-tokens/revoke"),
    # backups
    *_page("/dashboard/backups"),
    *_action("/dashboard/backups/make"),
    *_page("/dashboard/backups/restore", is_form=True),
    *_action("/dashboard/backups/delete"),
    *_action("/dashboard/backups/rules"),
    *_action("/dashboard/backups/clean-up"),
    *_action("/dashboard/backups/import", is_upload=True),
    # usage, costs, quota
    *_page("/dashboard/usage"),
    *_page("/dashboard/costs"),
    *_action("/dashboard/costs/budgets"),
    *_action("/dashboard/costs/budgets/remove"),
    *_action("/dashboard/costs/pricing"),
    *_action("/dashboard/costs/pricing/reset"),
    *_action("/dashboard/costs/pricing/import"),
    *_page("/dashboard/quota"),
    *_action("/dashboard/quota/refresh"),
    # logs, audit
    *_page("/dashboard/logs"),
    *_action("/dashboard/logs/cancel"),
    *_page("/dashboard/logs/requests/<log_id>"),
    *_page("/dashboard/audit"),
    # translator, playground, cli tools
    *_page("/dashboard/translator", is_form=True),
    *_action("/dashboard/translator/way"),
    *_page("/dashboard/playground", is_form=True),
    *_page("/dashboard/cli-tools"),
    *_action("/dashboard/cli-tools/apply"),
    *_action("/dashboard/cli-tools/undo"),
)
