"""A process that kills itself at a step of a backup, import, restore or rotation: `killed.py <what> <step> …`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from omniroute.services.keys import SYSTEM
from omniroute.services.restore import recover
from omniroute.settings import Settings
from tests.storage.restoring import build


def main(what: str, step: str, url: str, data_dir: Path, argument: str) -> None:
    """Do it, and die at the step without a word."""

    def told(at: str) -> None:
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    if what == "recover":
        settings = Settings(data_dir=data_dir, app_log_to_file=False, database_url=url)
        recover(settings, Path(argument), told=told)
        return
    stack = build(url, data_dir, told=told)
    match what:
        case "restore":
            stack.restore.run(argument, SYSTEM)
        case "import":
            stack.import_file(Path(argument))
        case "rotate":
            stack.keys.rotate()
        case "backup":
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            while True:
                stack.backups.create()
        case unknown:
            raise SystemExit(unknown)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5])
