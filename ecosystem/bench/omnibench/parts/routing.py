"""Routing: the CPU that finding and recording a target adds to each request."""

from __future__ import annotations

from typing import Final

from omnibench import routing_cost
from omnibench.bench import Bench, Findings
from omnibench.report import Bar, Section, number
from omnibench.routing_cost import COMBO, DIRECT, STAGES, Case, Cost, Job

_REQUESTS: Final = 100
"""In a batch: some milliseconds, so that the clock counts for nothing and other work fits between batches."""


def run(bench: Bench) -> Findings:
    """Measure in a process of its own."""
    costs = routing_cost.run_in_process(Job(bench.plan.routing_batches, _REQUESTS), bench.cores.worker)
    for cost in costs:
        bench.say(f"  {cost.name}: {cost.least_us:.0f} µs a request, the usual batch {cost.median_us:.0f} µs")
    return findings_of(costs, bench.plan.routing_batches)


def findings_of(costs: tuple[Cost, ...], batches: int) -> Findings:
    """Return the section and the bars for what was measured."""
    section = Section("Routing")
    section.say(
        "What routing adds to a request by itself, in µs of CPU: the gateway's own classes over a database of their "
        f"own, without web server and network. Least and median mean of {batches} batches of {_REQUESTS} requests. "
        "*Inside*: the model name is looked up and judged by the key's rules; session and needs are read from a body "
        "that has been checked already; candidates are filtered and ordered; the loop names the first, which passes "
        "the gate, serves, and is noted for health, figures and session; the decision record is made and compressed as "
        "the log stores it, which the same process does behind the answer. *Not inside*: checking the body, building "
        "and sending the provider's request, its answer, greenlets, and writing log and record to spool and database. "
        "Requests of 1 KB where nothing else is said, of 200 conversations in turn; nothing rests where that is not "
        "said, and no connection has limits."
    )
    section.table(
        (
            "Asked for",
            "Models",
            "Connections",
            "In the plan",
            "Least µs",
            "Median µs",
            "Uncompressed µs",
            "Recording µs",
            "Stored B",
        ),
        [
            (
                cost.name,
                number(cost.options),
                number(cost.accounts),
                number(cost.entries),
                number(cost.least_us),
                number(cost.median_us),
                number(cost.uncompressed_us),
                number(cost.recording_us),
                number(cost.stored_bytes),
            )
            for cost in costs
        ],
    )
    section.say(
        "The request in the middle by stage, in µs on the clock, each with reading it. *Plan* holds session, needs, "
        "order and the beginning of the record; *attempt* the loop, the gate and the notes; *end* the rest of the "
        "record. Above, *uncompressed* is the least batch without that last stage, and *recording* what making and "
        "compressing the record takes of all, measured for itself."
    )
    section.table(
        ("Asked for", *(name.capitalize() for name in STAGES)),
        [(cost.name, *(number(cost.stages_us[name]) for name in STAGES)) for cost in costs],
    )
    return Findings(
        [
            _bar(costs, DIRECT, "Routing of a direct model: CPU per request", 60),
            _bar(costs, COMBO, "Routing of a combo, 10 models with 20 connections: CPU per request", 150),
        ],
        section,
    )


def _bar(costs: tuple[Cost, ...], case: Case, title: str, limit_us: float) -> Bar:
    cost = next(one for one in costs if one.name == case.name)
    note = f"{cost.uncompressed_us:.0f} µs before the record is compressed; recording alone {cost.recording_us:.0f} µs"
    return Bar(title, cost.least_us, limit_us, "µs", digits=0, note=note)
