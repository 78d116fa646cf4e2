"""What `doctor` asks the server, or the data where none runs: accounts, credentials, combos, prices, jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from omniroute.cli import Failure
from omniroute.cli.checks import Finding, Status
from omniroute.cli.client import Api
from omniroute.cli.times import seconds_until, span

_MUCH_UNPRICED: Final = 0.05
_NEARLY_EMPTY: Final = 95.0
_BAD_REMARKS: Final = frozenset({"COMBO_NAME_SHADOWS_MODEL"})


def run_all(api: Api, *, is_live: bool) -> list[Finding]:
    """Run every check; with `is_live` each account makes a small call."""
    findings: list[Finding] = []
    checks: Sequence[Callable[[Api], Iterator[Finding]]] = (
        check_credentials,
        check_live if is_live else check_states,
        check_quota,
        check_combos,
        check_prices,
        check_jobs,
    )
    for check in checks:
        name = check.__name__.removeprefix("check_")
        try:
            findings.extend(check(api))
        except Failure as failure:
            hint = "See the log of the server, and whether it is as old as this command."
            findings.append(Finding(name, Status.FAIL, failure.message, hint))
    return findings


def check_credentials(api: Api) -> Iterator[Finding]:
    """Stored credentials open with the key in force."""
    closed = [row for row in _connections(api) if row["statusReason"] == "credential_unreadable"]
    if closed:
        names = ", ".join(row["name"] for row in closed)
        hint = "Bring the encryption key back (DATA_DIR/secrets/encryption_key), or enter their keys again."
        yield Finding("credentials", Status.FAIL, f"These do not open: {names}.", hint, {"connections": _ids(closed)})
    else:
        yield Finding("credentials", Status.OK, "All stored credentials open.")


def check_states(api: Api) -> Iterator[Finding]:
    """What is known of each account without calling it."""
    rows = [row for row in _connections(api) if row["isActive"]]
    if not rows:
        yield _no_accounts()
        return
    for row in rows:
        if row["status"] == "dead":
            yield _account(row, Status.FAIL, f"is refused: {_reason(row)}", f"omniroute providers rotate {row['id']}")
        elif row["status"] == "cooling":
            left = seconds_until(row["cooldownUntil"])
            wait = f" for {span(left)}" if left is not None and left > 0 else ""
            yield _account(row, Status.WARN, f"rests{wait}: {_reason(row)}", "It serves again by itself.")
        elif row["status"] == "error":
            yield _account(row, Status.WARN, f"failed last: {_reason(row)}", f"omniroute providers test {row['id']}")
    if all(row["status"] in ("ok", "untested") for row in rows):
        yield Finding("providers", Status.OK, f"{len(rows)} accounts, none with a problem.")


def check_live(api: Api) -> Iterator[Finding]:
    """A small call through each account that is switched on."""
    rows = [row for row in _connections(api) if row["isActive"]]
    if not rows:
        yield _no_accounts()
    for row in rows:
        result = api.send("POST", f"/api/providers/{row['id']}/test", {})
        if result["valid"]:
            yield _account(row, Status.OK, f"answered in {result['latencyMs']:.0f} ms", None)
        else:
            hint = result.get("diagnosis") or f"omniroute providers show {row['id']}"
            yield _account(row, Status.FAIL, f"does not answer: {result.get('error', 'refused')}", hint)


def check_quota(api: Api) -> Iterator[Finding]:
    """Quotas that are used up, or nearly."""
    spent = [
        (row, window)
        for row in api.get("/api/usage/quota")["quotas"]
        for window in row["windows"]
        if window["usedPercent"] is not None and window["usedPercent"] >= _NEARLY_EMPTY
    ]
    names = {row["id"]: row["name"] for row in _connections(api)} if spent else {}
    for row, window in spent:
        name = names.get(row["connectionId"], row["connectionId"])
        left = seconds_until(window["resetsAt"])
        when = f"It begins anew in {span(left)}." if left is not None else "omniroute quota shows the windows."
        text = f"{name}: {window['name']} is used to {window['usedPercent']:.0f}%."
        yield Finding("quota", Status.WARN, text, when, {"connectionId": row["connectionId"]})
    if not spent:
        yield Finding("quota", Status.OK, "None is nearly used up.")


def check_combos(api: Api) -> Iterator[Finding]:
    """Combos lead to models that something connected serves."""
    rows = [row for row in api.rows("/api/combos", "combos") if row["isActive"]]
    found = False
    for row in rows:
        for remark in row["warnings"]:
            found = True
            hint = f"omniroute combos show {row['name']}"
            status = Status.WARN if remark["code"] in _BAD_REMARKS else Status.FAIL
            yield Finding("combos", status, f"{row['name']}: {remark['message']}", hint, {"code": remark["code"]})
    if not found:
        yield Finding("combos", Status.OK, f"{len(rows)} combos, all of them lead somewhere.")


def check_prices(api: Api) -> Iterator[Finding]:
    """The share of the last day's requests whose cost nobody knows."""
    totals = api.get("/api/usage/analytics", range="24h")["totals"]
    requests, unpriced = totals["requests"], totals["unpricedRequests"]
    if requests and unpriced / requests > _MUCH_UNPRICED:
        text = f"{unpriced} of {requests} requests of the last day have no price."
        hint = "omniroute cost --by model shows which; omniroute pricing set MODEL gives one."
        yield Finding("prices", Status.WARN, text, hint, {"unpriced": unpriced, "requests": requests})
    else:
        yield Finding("prices", Status.OK, f"Known for {requests - unpriced} of {requests} requests of the last day.")


def check_jobs(api: Api) -> Iterator[Finding]:
    """Scheduled work that failed last, where a server runs."""
    jobs = api.get("/api/monitoring/health").get("jobs") or []
    failed = [job for job in jobs if job.get("lastError")]
    for job in failed:
        text = f"{job['name']} failed last: {job['lastError']}."
        yield Finding("jobs", Status.WARN, text, "See the log of the server.", {"job": job["name"]})
    late = [job for job in jobs if job.get("isLate")]
    for job in late:
        yield Finding("jobs", Status.WARN, f"{job['name']} is late.", "Is a server running?", {"job": job["name"]})
    if not failed and not late:
        yield Finding("jobs", Status.OK, f"{len(jobs)} jobs, none of which failed last.")


def _connections(api: Api) -> list[dict[str, Any]]:
    return api.rows("/api/providers", "connections")


def _ids(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def _reason(row: dict[str, Any]) -> str:
    error = row["lastError"] or {}
    return str(row["statusReason"] or error.get("message") or error.get("code") or "unknown")


def _no_accounts() -> Finding:
    hint = "Add one: omniroute providers add PROVIDER. The sandbox works without."
    return Finding("providers", Status.WARN, "No account is connected.", hint)


def _account(row: dict[str, Any], status: Status, text: str, hint: str | None) -> Finding:
    return Finding("providers", status, f"{row['name']} {text.rstrip('.')}.", hint, {"connectionId": row["id"]})
