"""The parts of a run. Each module has `run(bench) -> Findings`: measure, judge, write its section."""
