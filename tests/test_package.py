"""The package as `pip install .` makes it: complete, and with its script."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from omniroute import __version__

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because a build leaves traces in its source."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "omniroute", source / "omniroute", ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(target), str(source)], check=True, capture_output=True, text=True)
    (found,) = target.glob("*.whl")
    return found


def test_its_name_has_the_version(wheel: Path) -> None:
    assert wheel.name == f"omniroute-{__version__}-py3-none-any.whl"


def test_every_file_of_the_source_is_in_it(wheel: Path) -> None:
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "omniroute").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert packed == source


def test_it_brings_the_script_and_the_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        entry_points = archive.read(names["entry_points.txt"]).decode()
        metadata = archive.read(names["METADATA"]).decode()

    assert "omniroute = omniroute.cli:main" in entry_points
    assert "licenses/LICENSE" in names
    assert "Requires-Dist: gunicorn[fast,gevent]==26.2.0" in metadata.replace("gevent,fast", "fast,gevent")
