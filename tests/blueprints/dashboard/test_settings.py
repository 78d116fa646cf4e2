"""The tabs of the settings: drawn from the API, saved by heading, and every wrong value at its field."""

from __future__ import annotations

from omniroute.blueprints.dashboard.settings import groups, texts
from omniroute.services.setting_definitions import BY_NAME, FLAGS, Kind, in_section
from omniroute.settings import Settings
from tests.blueprints.app import whole_app
from tests.blueprints.dashboard.conftest import ORIGIN, PASSWORD, Pages, field_of, text_of

PATH = "/dashboard/settings"


def save(pages: Pages, group: str, form: dict[str, str], expect: int = 303) -> str:
    answer = pages.post(f"{PATH}/values/{group}", form, expect=expect)
    return pages.after(answer) if expect == 303 else text_of(answer)


def values(pages: Pages, section: str) -> dict[str, object]:
    found: dict[str, object] = pages.api("GET", "/api/settings")["settings"][section]
    return found


def test_every_setting_has_words_and_stands_under_one_heading() -> None:
    shown = [name for group in groups.GROUPS.values() for name in group.names] + list(groups.ELSEWHERE)
    assert sorted(shown) == sorted(BY_NAME)
    assert set(texts.TEXTS) == {*BY_NAME, *(row.name for row in in_section(FLAGS))}
    for row in BY_NAME.values():
        if row.kind is Kind.WORD and row.name != "language":
            assert set(texts.CHOICES[row.name]) == set(row.choices), row.name
    for group in groups.GROUPS.values():
        assert all(BY_NAME[name].section == group.section for name in group.names)


def test_every_tab_is_shown(pages: Pages) -> None:
    for tab in (*groups.TABS, "nowhere"):
        page = pages.get(f"{PATH}?tab={tab}")
        for group in groups.GROUPS.values():
            for name in group.names if group.section == tab else ():
                assert f'name="{name}"' in page
                assert texts.label(name) in page


def test_only_what_was_changed_is_saved(pages: Pages) -> None:
    pages.api("PATCH", "/api/settings", {"timeZone": "Europe/Berlin"})  # by somebody else, after the form was shown
    form = {"instanceName": "studio", "was.instanceName": "", "timeZone": "UTC", "was.timeZone": "UTC"}
    form |= {"modelPrefix": "alias", "was.modelPrefix": "alias"}
    page = save(pages, "server", form)
    assert "Saved: Name of this server." in page
    assert field_of(page, "instanceName") == "studio"
    assert values(pages, "general")["timeZone"] == "Europe/Berlin"
    assert "Nothing was changed." in save(pages, "server", {**form, "was.instanceName": "studio"})


def test_a_stored_value_says_its_default_and_goes_back_to_it(pages: Pages) -> None:
    save(pages, "times", {"connectTimeoutMs": "5000"})
    page = pages.get(f"{PATH}?tab=advanced")
    assert "Default: 10000" in page
    assert 'name="path" value="advanced.connectTimeoutMs"' in page
    page = pages.after(pages.post(f"{PATH}/reset", {"path": "advanced.connectTimeoutMs"}))
    assert "Connecting, ms is what it was at first." in page
    assert field_of(page, "connectTimeoutMs") == "10000"
    assert "(code " in pages.after(pages.post(f"{PATH}/reset", {"path": "nowhere.nothing"}))


def test_wrong_values_keep_what_was_typed_and_mark_the_field(pages: Pages) -> None:
    for group, name, wrong in (
        ("server", "timeZone", "Nowhere/None"),
        ("times", "connectTimeoutMs", "soon"),
        ("times", "streamReadinessMaxTimeoutMs", "5"),
        ("look", "refreshIntervalSec", "-4"),
        ("thinking", "thinkingMaxTokens", "99999999"),
    ):
        section = groups.GROUPS[group].section
        before = values(pages, section)
        page = save(pages, group, {name: wrong, "was.blurEmails": "", **unchanged(group, but=name)}, 400)
        assert field_of(page, name) == wrong
        assert f'id="f-{name}-fault"' in page
        assert "Nothing was saved." in page
        assert values(pages, section) == before


def unchanged(group: str, *, but: str) -> dict[str, str]:
    """Return the fields of a form that shows nothing and changes nothing."""
    names = [name for name in groups.GROUPS[group].names if name != but and BY_NAME[name].kind is not Kind.FLAG]
    return {key: "" for name in names for key in (name, f"was.{name}")}


def test_what_the_environment_fixes_is_shown_with_its_variable_and_cannot_be_changed(settings: Settings) -> None:
    from dataclasses import replace

    fixed = replace(settings, call_log_max_rows=5000, sources={"call_log_max_rows": "CALL_LOG_MAX_ROWS"})
    with whole_app(fixed) as app:
        client = app.client()
        client.post("/login", data={"password": PASSWORD}, headers=ORIGIN)
        pages = Pages(app, client)
        page = pages.get(f"{PATH}?tab=general")
        assert "Fixed by CALL_LOG_MAX_ROWS." in page
        assert 'id="f-callLogMaxRows" name="callLogMaxRows" type="text" value="5000"' in page
        assert "Nothing was changed." in save(
            pages, "retention", {"callLogMaxRows": "1", **unchanged("retention", but="callLogMaxRows")}
        )
        refused = pages.after(pages.post(f"{PATH}/reset", {"path": "general.callLogMaxRows"}))
        assert "(code fixed_by_environment)" in refused


def test_the_menu_leaves_out_what_is_ticked(pages: Pages) -> None:
    answer = pages.client.post(
        f"{PATH}/values/menu", data={"hiddenMenuItems": ["audit", "quota"], "was.hiddenMenuItems": ""}, headers=ORIGIN
    )
    page = pages.after(answer)
    assert 'data-name="audit"' not in page
    assert 'data-name="logs"' in page
    assert values(pages, "appearance")["hiddenMenuItems"] == ["audit", "quota"]
    assert 'id="hide-audit" name="hiddenMenuItems" value="audit" checked' in page


def test_the_look_is_chosen_by_swatch_and_box(pages: Pages) -> None:
    form = {"accent": "rose", "was.accent": "blue", "was.blurEmails": "true", **unchanged("look", but="accent")}
    page = save(pages, "look", form)
    assert 'data-accent="rose"' in page
    assert values(pages, "appearance")["blurEmails"] is False


def test_the_system_prompt_and_its_models(pages: Pages) -> None:
    form = {
        "systemPromptEnabled": "true",
        "systemPromptText": "Be brief.\r\nBe kind.",
        "systemPromptModels": "gpt-*\r\n\r\nclaude-* ",
        "systemPromptPosition": "after",
    }
    page = save(pages, "prompt", form)
    found = pages.api("GET", "/api/settings/system-prompt")
    assert found == {
        "enabled": True,
        "position": "after",
        "text": "Be brief.\nBe kind.",
        "appliesTo": ["gpt-*", "claude-*"],
    }
    assert "gpt-*\nclaude-*" in page


def test_no_such_heading(pages: Pages) -> None:
    pages.post(f"{PATH}/values/nothing", {}, expect=404)


def test_the_search_finds_settings_and_places(pages: Pages) -> None:
    for wanted, found in (
        ("heartbeat", "tab=advanced#times"),
        ("CALL_LOG_MAX_ROWS", "tab=general#retention"),
        ("vacuum", "tab=general#storage"),
        ("brute force", "tab=security#locked"),
        ("backups that", "/dashboard/backups#rules"),
        ("zzz", "No setting found"),
    ):
        assert found in pages.get(f"{PATH}?q={wanted}")


def test_flags(pages: Pages) -> None:
    page = pages.after(pages.post(f"{PATH}/flags", {"sseComments": "true", "midStreamContinuation": "true"}))
    assert "Saved: Hedging." in page
    chosen = {flag["key"]: flag["value"] for flag in pages.api("GET", "/api/settings/feature-flags")["flags"]}
    assert chosen["hedging"] is False
    same = {"sseComments": "true", "midStreamContinuation": "true"}
    assert "Nothing was changed." in pages.after(pages.post(f"{PATH}/flags", same))
    assert "All flags are what they were at first." in pages.after(pages.post(f"{PATH}/flags", {"action": "reset"}))


def test_resilience_by_profile_and_by_field(pages: Pages) -> None:
    page = pages.after(pages.post(f"{PATH}/resilience", {"profile": "conservative"}))
    assert "The profile is in force" in page
    assert field_of(page, "connectionCooldown.oauth.baseCooldownMs") == "10000"
    now = pages.api("GET", "/api/resilience/fields")["fields"]
    shown = {row["path"]: "true" if row["value"] is True else str(row["value"] or 0) for row in now if row["value"]}
    before = {f"was.{row['path']}": shown.get(row["path"], "" if row["value"] is False else "0") for row in now}
    plain = {row["path"]: shown.get(row["path"], "0") for row in now if row["value"] is not False}
    assert "Nothing was changed." in pages.after(pages.post(f"{PATH}/resilience", {**plain, **before}))
    changed = {**plain, **before, "providerBreaker.oauth.failureThreshold": "9", "requestQueue.maxWaitMs": ""}
    del changed["waitForCooldown.enabled"]
    assert "The settings of resilience are saved." in pages.after(pages.post(f"{PATH}/resilience", changed))
    found = pages.api("GET", "/api/resilience")
    assert found["profile"] == "conservative"
    assert found["providerBreaker"]["oauth"]["failureThreshold"] == 9
    assert found["waitForCooldown"]["enabled"] is False
    assert found["requestQueue"]["maxWaitMs"] == 15_000
    wrong = {**plain, **before, "providerBreaker.local.resetTimeoutMs": "never"}
    page = text_of(pages.post(f"{PATH}/resilience", wrong, expect=400))
    assert field_of(page, "providerBreaker.local.resetTimeoutMs") == "never"
    assert 'id="f-providerBreaker-local-resetTimeoutMs-fault"' in page


def test_models_without_a_price(pages: Pages) -> None:
    pages.post(f"{PATH}/spending", {"unpriced": "allow"})
    assert values(pages, "budgets") == {"unpriced": "allow"}
    page = text_of(pages.post(f"{PATH}/spending", {"unpriced": "maybe"}, expect=400))
    assert 'id="f-unpriced-fault"' in page
