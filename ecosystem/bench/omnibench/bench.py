"""What the parts of a run share: servers, plan, cores, scratch directories; and what each part hands back."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass, field
from pathlib import Path

from omnibench.machine import Cores
from omnibench.plan import Plan
from omnibench.processes import Park
from omnibench.report import Bar, Section
from omnibench.targets import Target, configured_omniroute, start_nginx, start_upstream


@dataclass(slots=True)
class Findings:
    """The outcome of one part: bars with their verdicts, a section of the report, versions of what it brought along."""

    bars: list[Bar]
    section: Section
    versions: dict[str, str] = field(default_factory=dict)
    waiting_shares: list[float] = field(default_factory=list)
    """Of OmniRoute's worker in each measurement: how much of the time that it wanted to run it stood in line."""


class Bench:
    """One run. The long-lived servers start when a part first needs them and end with the park."""

    def __init__(self, park: Park, scratch: Path, plan: Plan, cores: Cores, *, with_peers: bool) -> None:
        self.park = park
        self.scratch = scratch
        self.plan = plan
        self.cores = cores
        self.with_peers = with_peers
        self._directories = 0

    @functools.cached_property
    def upstream(self) -> Target:
        """Return the stand-alone sandbox server: the direct way."""
        return start_upstream(self.park, self.cores)

    @functools.cached_property
    def nginx(self) -> Target | None:
        """Return nginx in front of the upstream, or None where it is not installed."""
        target = start_nginx(self.park, self.upstream, self.cores, self.scratch)
        if target is None:
            self.say("  nginx is not installed (Debian package nginx): the physical floor is left out")
        return target

    @functools.cached_property
    def omniroute(self) -> Target:
        """Return the OmniRoute server that takes requests and fast streams."""
        return configured_omniroute(self.park, self.upstream, self.data_dir(), self.cores)

    @property
    def targets(self) -> list[Target]:
        """Return direct, nginx (if there is one) and OmniRoute."""
        return [target for target in (self.upstream, self.nginx, self.omniroute) if target is not None]

    def data_dir(self) -> Path:
        """Return a fresh, empty data directory."""
        self._directories += 1
        path = self.scratch / f"data-{self._directories}"
        path.mkdir(mode=0o700)
        return path

    def say(self, text: str) -> None:
        """Tell the terminal how far the run is."""
        print(text, file=sys.stderr, flush=True)
