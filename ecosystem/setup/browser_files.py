"""Fetch the libraries that pages run in the browser: `browser_files.py LOCK DIRECTORY`.

htmx and uPlot are not kept in git. Both are carried by wheels whose Python parts we have no use for, so the wheels are
downloaded by themselves, checked against the lock, and only the files named below are taken out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FILES = {
    "htmx.js": ("django_htmx", "django_htmx/static/django_htmx/htmx-2.min.js"),
    "uplot.js": ("uplot_python", "uplot/static/uPlot.iife.js"),
    "uplot.css": ("uplot_python", "uplot/static/uPlot.min.css"),
}


def main(lock: str, directory: str) -> None:
    """Put the files into the directory."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", lock, "--dest", work),
            ],
            check=True,
        )
        for name, (package, member) in FILES.items():
            (wheel,) = Path(work).glob(f"{package}-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (target / name).write_bytes(archive.read(member))


if __name__ == "__main__":
    main(*sys.argv[1:])
