"""Take pictures of the pages of a server with a month of made-up traffic: `screenshots.py [PAGE …]`.

Each page is shown wide in the light theme, wide in the dark one, and on a phone. Without names of pages all are taken.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402 -- found from the root of the clone

from omniroute.records import GrantWindow, QuotaReading, RequestRecord  # noqa: E402
from omniroute.settings import Settings  # noqa: E402
from omniroute.storage.database import Database, url_of  # noqa: E402
from omniroute.storage.repositories import quotas, request_log, usage  # noqa: E402
from tests.browser.visitors import chromium  # noqa: E402
from tests.e2e.processes import Server, running_sandbox, running_server, start_server  # noqa: E402

DIRECTORY = Path(__file__).parent / "images" / "pages"
DAYS = 30
REQUESTS = 9_000
BUDGETS = {"laptop": 40, "ci": 8, "phone app": None, "research": 120}
"""Keys, with what they may spend a month (US dollars)."""
LOOKS = (("light", "light", 1440, 900), ("dark", "dark", 1440, 1100), ("phone", "light", 390, 844))
ACCOUNTS = (
    ("anthropic", "team@example.com", "claude-sonnet-5"),
    ("openai", "work", "gpt-6"),
    ("gemini", "free tier", "gemini-3-flash"),
    ("openrouter", "backup", "deepseek/deepseek-v4"),
    ("groq", "fast", "llama-5-70b"),
)


def main(wanted: list[str]) -> int:
    """Start a server, fill it, and take the pictures."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="omniroute-pictures-") as scratch:
        home = Path(scratch)
        with running_sandbox(home / "sandbox.log") as sandbox:
            with running_server(home / "data", OMNIROUTE_INSTANCE_NAME="home lab") as first:
                world = _configure(first, sandbox.url)
            _fill(home / "data", world)
            server = start_server(home / "data", OMNIROUTE_INSTANCE_NAME="home lab")
            try:
                server.log_in()
                _ask(server, world)
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
                    for name, path in _pages(server):
                        if not wanted or name in wanted:
                            _take(browser, server, name, path)
                            print(name, flush=True)
                    browser.close()
            finally:
                server.stop()
    return 0


def _configure(server: Server, sandbox: str) -> dict[str, Any]:
    connections = []
    for provider, name, model in ACCOUNTS:
        body = {"provider": provider, "name": name, "apiKey": f"sk-example-{provider}-0123456789"}
        made = server.api("POST", "/api/providers", body)["connection"]
        connections.append({"id": made["id"], "provider": provider, "model": model})
    server.add_node(f"{sandbox}/v1", prefix="lab")
    models = [f"{one['provider']}/{one['model']}" for one in connections]
    coding = server.api("POST", "/api/combos", {"name": "coding", "models": models[:3], "strategy": "priority"})
    cheap = server.api("POST", "/api/combos", {"name": "cheap", "models": models[2:], "strategy": "cost-optimized"})
    server.api("POST", "/api/combos", {"name": "lab", "models": ["lab/fail-429", "lab/story", "sandbox/echo"]})
    server.api("PUT", "/api/combos/default", {"id": coding["id"]})
    server.api("PUT", "/api/models/alias", {"pattern": "gpt-4*", "target": "openai/gpt-6", "priority": 10})
    server.api("POST", "/api/model-combo-mappings", {"pattern": "claude-*", "comboId": coding["id"]})
    chain = {"name": "when all else fails", "match": ["coding"], "models": ["groq/llama-5-70b", "sandbox/echo"]}
    server.api("POST", "/api/fallback/chains", chain)
    office = {"name": "office", "type": "socks5", "host": "proxy.example", "port": 1080, "username": "lab"}
    proxy = server.api("POST", "/api/settings/proxies", office)["proxy"]["id"]
    place = {"level": "combo", "id": cheap["id"], "proxy": {"id": proxy}}
    server.api("PUT", "/api/settings/proxy", place)
    keys = []
    for name in BUDGETS:
        made = server.api("POST", "/api/keys", {"name": name})
        keys.append({"id": made["id"], "key": made["key"], "name": name})
    return {"connections": connections, "combos": [coding["id"], cheap["id"]], "keys": keys}


def _fill(data_dir: Path, world: dict[str, Any]) -> None:
    """Write a month of requests, the busier the nearer to noon, with a bad afternoon at one provider."""
    settings = Settings.load({"DATA_DIR": str(data_dir), "HOME": str(data_dir.parent)}, data_dir)
    database = Database(url_of(settings))
    rows = [request_log.read_line(request_log.line_of(one).rstrip(b"\n")).row for one in _records(world)]

    def store(sql: Any) -> None:
        request_log.insert_batch(sql, rows)
        usage.add(sql, rows)
        quotas.save(sql, _readings(world))

    database.write(store)
    database.dispose()


def _readings(world: dict[str, Any]) -> Iterator[QuotaReading]:
    """Say how quotas of four accounts went in the last two hours, the fastest in the first of them."""
    ids = [one["id"] for one in world["connections"]]
    now = time.time()
    for step in range(13):
        at, share = now - (12 - step) * 600, step / 12
        for connection, window, plan in (
            (ids[0], GrantWindow("5h", 0.3 + 0.52 * share, length_s=18_000.0, resets_at=now + 7_000), "max"),
            (ids[0], GrantWindow("7d", 0.44 + 0.02 * share, length_s=604_800.0, resets_at=now + 200_000), "max"),
            (
                ids[0],
                GrantWindow("7d_opus", 0.9 + 0.08 * share, None, None, None, 604_800.0, now + 200_000, "opus"),
                "max",
            ),
            (ids[3], GrantWindow("credits", None, None, 12.4 - 3 * share, "usd"), None),
            (
                ids[4],
                GrantWindow(
                    "requests/day:llama-5-70b",
                    0.1,
                    1000.0,
                    900.0 - 70 * share,
                    "requests",
                    86_400.0,
                    now + 30_000,
                    "llama-5-70b",
                ),
                None,
            ),
        ):
            yield QuotaReading(connection, window, at, "endpoint" if connection == ids[3] else "headers", plan)


def _records(world: dict[str, Any]) -> Iterator[RequestRecord]:
    rng = random.Random(7)  # noqa: S311 - the same pictures every time, not a secret
    now = time.time()
    for number in range(REQUESTS):
        age_s = DAYS * 86_400 * rng.random() ** 1.3
        moment = now - age_s
        if rng.random() > (0.25 if time.gmtime(moment).tm_hour < 7 else 1.0):
            continue
        at = min(int(rng.expovariate(1 / 1.1)), len(ACCOUNTS) - 1)
        connection, key = world["connections"][at], rng.choices(world["keys"], (6, 3, 1, 2))[0]
        is_failed = rng.random() < (0.22 if at == 1 and 3 * 86_400 < age_s < 3.4 * 86_400 else 0.012)
        tokens_in, tokens_out = int(rng.expovariate(1 / 9_000)) + 200, int(rng.expovariate(1 / 700)) + 5
        is_flat = connection["provider"] == "anthropic"
        yield RequestRecord(
            request_id=f"req_{number:026d}",
            time=moment,
            endpoint="/v1/messages" if at == 0 else "/v1/chat/completions",
            client_format="anthropic_messages" if at == 0 else "openai_chat",
            upstream_format="anthropic_messages" if at == 0 else "openai_chat",
            requested_model="coding" if at < 3 else "cheap",
            model=connection["model"],
            provider=connection["provider"],
            connection_id=connection["id"],
            combo_id=world["combos"][0 if at < 3 else 1],
            api_key_id=key["id"],
            status=529 if is_failed else 200,
            outcome="failed" if is_failed else "success",
            error_code="overloaded" if is_failed else None,
            tokens_in=tokens_in,
            tokens_out=0 if is_failed else tokens_out,
            cache_read=int(tokens_in * rng.random() * 0.8),
            cost_nano_usd=0 if is_failed else 900 * tokens_in + 6_000 * tokens_out,
            cost_kind="none" if is_failed else "subscription" if is_flat else "billed",
            duration_ms=rng.lognormvariate(8.2, 0.7),
            ttft_ms=rng.lognormvariate(6.2, 0.5),
            session_hash=f"{number // 15:016x}",
            stream=True,
        )


def _ask(server: Server, world: dict[str, Any]) -> None:
    """Send some real requests, so that there are decision records, rests and failures of today."""
    import requests

    for key in world["keys"]:
        if (limit := BUDGETS[key["name"]]) is not None:  # set now, it counts what was spent before
            server.api("POST", "/api/usage/budget", {"keyId": key["id"], "limit": limit, "period": "monthly"})
    headers = {"Authorization": f"Bearer {world['keys'][0]['key']}"}
    for model in ("sandbox/story", "lab", "sandbox/fail-429", "lab", "sandbox/tools", "sandbox/echo"):
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        requests.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
    time.sleep(1.5)  # the log writer's batch


def _pages(server: Server) -> Iterator[tuple[str, str]]:
    combo = server.api("GET", "/api/combos")["combos"][0]["id"]
    lab = next(one for one in server.api("GET", "/api/combos")["combos"] if one["name"] == "lab")["id"]
    key = server.api("GET", "/api/keys")["keys"][0]["id"]
    request = next(row["id"] for row in server.logs() if row["attempts"] > 1)
    connection = server.api("GET", "/api/providers?provider=anthropic")["connections"][0]["id"]
    node = server.api("GET", "/api/provider-nodes")["nodes"][0]["id"]
    job = server.api("POST", "/api/providers/test-batch", {"provider": node})["jobId"]
    backup = server.api("PUT", "/api/db-backups", {})["backup"]["id"]
    pages = {
        "home": "/dashboard",
        "endpoints": "/dashboard/endpoints",
        "keys": "/dashboard/keys",
        "key": f"/dashboard/keys/{key}",
        "key-new": "/dashboard/keys/new",
        "providers": "/dashboard/providers",
        "provider": "/dashboard/providers/anthropic",
        "provider-models": "/dashboard/providers/anthropic?tab=models",
        "provider-model": "/dashboard/providers/anthropic/models/claude-sonnet-5",
        "provider-advanced": "/dashboard/providers/anthropic?tab=advanced",
        "provider-custom": f"/dashboard/providers/{node}",
        "provider-add": "/dashboard/providers/add",
        "provider-connect": "/dashboard/providers/mistral/connect",
        "provider-keys": "/dashboard/providers/mistral/keys",
        "provider-import": "/dashboard/providers/import",
        "provider-job": f"/dashboard/providers/jobs/{job}",
        "provider-remove": "/dashboard/providers/anthropic/remove",
        "connection": f"/dashboard/providers/anthropic/connections/{connection}",
        "endpoint-new": "/dashboard/providers/custom",
        "combos": "/dashboard/combos",
        "combo": f"/dashboard/combos/{lab}",
        "combo-edit": f"/dashboard/combos/{combo}/edit",
        "combo-new": "/dashboard/combos/new",
        "auto-combo": "/dashboard/auto-combo",
        "usage": "/dashboard/usage",
        "costs": "/dashboard/costs",
        "costs-budget": "/dashboard/costs?tab=budget",
        "costs-pricing": "/dashboard/costs?tab=pricing",
        "quota": "/dashboard/quota",
        "health": "/dashboard/health",
        "logs": "/dashboard/logs",
        "logs-active": "/dashboard/logs?tab=active",
        "logs-application": "/dashboard/logs?tab=application",
        "request": f"/dashboard/logs/requests/{request}",
        "request-decision": f"/dashboard/logs/requests/{request}?tab=decision",
        "audit": "/dashboard/audit",
        "translator": "/dashboard/translator",
        "translator-tester": "/dashboard/translator?tab=tester",
        "translator-bench": "/dashboard/translator?tab=bench",
        "translator-monitor": "/dashboard/translator?tab=monitor",
        "playground": "/dashboard/playground",
        "cli-tools": "/dashboard/cli-tools",
        "cli-tool": "/dashboard/cli-tools?tool=claude",
        "access-tokens": "/dashboard/settings/access-tokens",
        "backups": "/dashboard/backups",
        "restore": f"/dashboard/backups/restore?id={backup}",
        "account": "/dashboard/account",
        "search": "/dashboard/search?q=claude",
        "setup": "/dashboard/setup?step=provider",
        "setup-combo": "/dashboard/setup?step=combo",
        "setup-client": "/dashboard/setup?step=client",
        "login": "/login",
        "offline": "/offline",
        "not-found": "/dashboard/providers/unheard-of",
    }
    yield from pages.items()
    for tab in ("general", "appearance", "ai", "security", "routing", "resilience", "advanced"):
        yield f"settings-{tab}", f"/dashboard/settings?tab={tab}"


def _take(browser: Browser, server: Server, name: str, path: str) -> None:
    for look, theme, width, height in LOOKS:
        context = browser.new_context(
            base_url=server.url,
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
            locale="en-US",
            reduced_motion="reduce",
        )
        if name != "login":
            context.add_cookies(
                [{"name": one.name, "value": one.value or "", "url": server.url} for one in server.session.cookies]
            )
        page = context.new_page()
        page.goto(path)
        page.wait_for_timeout(400)
        if name == "playground":
            _chat(page)
        page.screenshot(path=DIRECTORY / f"{name}-{look}.png", full_page=look != "light" or width < 600)
        context.close()


def _chat(page: Page) -> None:
    """Ask two models."""
    models = ("sandbox/story", "sandbox/think")
    for field, model in zip(page.locator("input[name=model]").all(), models, strict=True):
        field.fill(model)
    page.locator("textarea[name=message]").fill("Why is the sky blue?")
    page.locator("#send").click()
    page.locator("#stop").wait_for(state="hidden")
    page.wait_for_timeout(1500)  # the figures of the answers come with the log
    page.evaluate("window.scrollTo(0, 0)")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
