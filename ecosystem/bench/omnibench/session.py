"""The whole report of one run."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from omnibench.bench import Bench, Findings
from omnibench.machine import describe_machine, describe_versions
from omnibench.parts import cold, dashboard, memory, pinning, requests, routing, state, streams, translate, usage
from omnibench.report import BAR_HEADER, table

PARTS: Final[Mapping[str, Callable[[Bench], Findings]]] = {
    "cold": cold.run,
    "requests": requests.run,
    "state": state.run,
    "streams": streams.run,
    "translate": translate.run,
    "routing": routing.run,
    "usage": usage.run,
    "dashboard": dashboard.run,
    "memory": memory.run,
    "pinning": pinning.run,
}

_QUIET: Final = 0.1
"""A worker that waits for more than this share of its running time shares its core with strangers."""


def measure(bench: Bench, names: Sequence[str]) -> list[Findings]:
    """Run the named parts in their fixed order."""
    found: list[Findings] = []
    for name, run in PARTS.items():
        if name in names:
            bench.say(f"{name} …")
            found.append(run(bench))
    return found


def is_reached(findings: Sequence[Findings]) -> bool:
    """Return whether every bar that was measured holds."""
    return all(bar.verdict != "FAIL" for found in findings for bar in found.bars)


def render(bench: Bench, findings: Sequence[Findings], *, took_s: float) -> str:
    """Return the report as Markdown: machine, versions, bars, then what each part has to say."""
    when = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    bars = [bar for found in findings for bar in found.bars]
    failed = [bar.title for bar in bars if bar.verdict == "FAIL"]
    versions = describe_versions()
    for found in findings:
        versions.update(found.versions)
    placed = (
        f"The measured worker had core {bench.cores.worker[0]} for itself, upstream and load generator shared the rest."
        if bench.cores.worker is not None
        else "Worker, upstream and load generator shared all cores."
    )
    intro = (
        f"Made by `make bench` on {when}: a {bench.plan.name} run of {took_s / 60:.1f} minutes. One worker with "
        f"authentication, request log, limits and metrics on; everything on 127.0.0.1. {placed} Targets are measured "
        "in turn and compared within a round, so that ratios hold when the machine's speed drifts."
    )
    intro += _disturbance([share for found in findings for share in found.waiting_shares])
    verdict = "All bars hold." if not failed else "Not reached: " + "; ".join(failed) + "."
    return (
        "\n\n".join(
            [
                "# Benchmark results",
                intro,
                table(("Machine", ""), list(describe_machine().items())),
                table(("Version", ""), list(versions.items())),
                "## Bars",
                verdict,
                table(BAR_HEADER, [bar.cells() for bar in bars]),
                *(found.section.render() for found in findings),
            ]
        )
        + "\n"
    )


def _disturbance(shares: Sequence[float]) -> str:
    """Say whether other work on the machine stood in the way of the measured worker."""
    if not shares:
        return ""
    usual = statistics.median(shares)
    end = ": other work disturbed this run, its times are too high." if usual > _QUIET else "."
    return (
        f" The worker stood in line for its core for {100 * usual:.0f} % of the time that it wanted to run (median; at "
        f"worst {100 * max(shares):.0f} %){end}"
    )
