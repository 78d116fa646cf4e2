"""`make bench`: measure OmniRoute against the direct way and nginx in one run, print the table, judge the bars."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from omnibench.bench import Bench
from omnibench.machine import split_cores
from omnibench.plan import FULL, QUICK
from omnibench.processes import Park, TargetFailed, raise_open_files
from omnibench.session import PARTS, is_reached, measure, render

RESULTS = Path(__file__).resolve().with_name("RESULTS.md")


def main() -> int:
    """Run the parts that were asked for; exit code 1 when a bar does not hold, 2 when it could not be measured."""
    options = _options()
    raise_open_files()
    if shutil.which("wrk") is None:
        print("The benchmark needs wrk (Debian package wrk).", file=sys.stderr)
        return 2
    plan = QUICK if options.quick else FULL
    cores = split_cores(pinned=not options.free)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="omniroute-bench-") as scratch, Park(Path(scratch)) as park:
            bench = Bench(park, Path(scratch), plan, cores, with_peers=options.peers)
            findings = measure(bench, options.only or tuple(PARTS))
            text = render(bench, findings, took_s=time.monotonic() - began)
    except TargetFailed as error:
        print(f"The benchmark stopped: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; every server is ended.", file=sys.stderr)
        return 130
    print(text)
    if options.output is not None:
        options.output.write_text(text)
        print(f"Written to {options.output}", file=sys.stderr)
    return 1 if not is_reached(findings) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about two minutes, with less of everything")
    parser.add_argument("--peers", action="store_true", help="also install and measure two other gateways")
    parser.add_argument("--free", action="store_true", help="do not bind worker and load to different cores")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), metavar="PART", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--output", type=Path, help="file for the results (default: RESULTS.md for a whole full run)")
    options = parser.parse_args()
    if options.output is None and not options.quick and not options.only:
        options.output = RESULTS
    return options


if __name__ == "__main__":
    sys.exit(main())
