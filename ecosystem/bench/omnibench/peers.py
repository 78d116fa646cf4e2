"""Two other gateways, installed from their registries into a cache and started with one process each, for ratios.

They keep their defaults, and LiteLLM its authentication (a master key); neither is told to do more than pass a call on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from omnibench import bodies
from omnibench.calls import Say
from omnibench.machine import Cores
from omnibench.processes import Park, TargetFailed, free_port, wait_until_answers
from omnibench.targets import CALL_MODEL, CHAT_PATH, FAST_STREAM_MODEL, Target

PORTKEY: Final = "@portkey-ai/gateway"
LITELLM: Final = "litellm"
_INSTALL_S: Final = 900
_MASTER_KEY: Final = "sk-bench-master"


def cache_dir() -> Path:
    """Return where the peers are installed, outside the repository."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "omniroute-bench"


def start_peers(
    park: Park, upstream: Target, cores: Cores, scratch: Path, say: Say
) -> tuple[list[Target], dict[str, str]]:
    """Install what is missing, start both, return them and their versions; one that cannot be had is left out."""
    targets: list[Target] = []
    versions: dict[str, str] = {}
    for name, start in ((PORTKEY, _start_portkey), (LITELLM, _start_litellm)):
        try:
            target, version = start(park, upstream, cores, scratch)
        except (TargetFailed, OSError, subprocess.SubprocessError) as error:
            say(f"  {name} is left out: {str(error)[:600]}")
            versions[name] = "not measured"
        else:
            targets.append(target)
            versions[name] = version
    return targets, versions


def _start_portkey(park: Park, upstream: Target, cores: Cores, scratch: Path) -> tuple[Target, str]:
    folder = cache_dir() / "portkey"
    package = folder / "node_modules" / PORTKEY
    program = package / "build" / "start-server.js"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _install(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PORTKEY])
    version = json.loads((package / "package.json").read_text())["version"]
    port = free_port()
    environ = {"PATH": os.environ.get("PATH", ""), "HOME": str(scratch), "NODE_ENV": "production"}
    command = [shutil.which("node") or "node", str(program), f"--port={port}", "--headless"]
    server = park.start("portkey", command, environ=environ, cores=cores.worker, cwd=package)
    headers = {
        "Authorization": "Bearer sk-sandbox",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream.port}/v1",
    }
    wait_until_answers(server, port, "POST", CHAT_PATH, body=bodies.small(CALL_MODEL), headers=_json(headers))
    target = Target("portkey", port, server, server.worker_pid(), headers=headers)
    target.check()
    return target, version


def _start_litellm(park: Park, upstream: Target, cores: Cores, scratch: Path) -> tuple[Target, str]:
    folder = cache_dir() / "litellm"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "litellm").exists():
        _install([sys.executable, "-m", "venv", str(folder)])
        _install([str(python), "-m", "pip", "install", "--quiet", "litellm[proxy]"])
    asked = [str(python), "-c", "import importlib.metadata as m; print(m.version('litellm'))"]
    version = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    port = free_port()
    config = scratch / "litellm.yaml"
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"http://127.0.0.1:{upstream.port}/v1",
                "api_key": "sk-sandbox",
            },
        }
        for name in (CALL_MODEL, FAST_STREAM_MODEL)
    ]
    # JSON is YAML.
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": _MASTER_KEY}}))
    environ = {
        "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', '')}",
        "HOME": str(scratch),
        "LANG": "C.UTF-8",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
    }
    command = [str(folder / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    server = park.start("litellm", [*command, "--num_workers", "1"], environ=environ, cores=cores.worker, cwd=scratch)
    headers = {"Authorization": f"Bearer {_MASTER_KEY}"}
    body = bodies.small(CALL_MODEL)
    wait_until_answers(server, port, "POST", CHAT_PATH, body=body, headers=_json(headers), deadline_s=120, pause_s=0.5)
    target = Target("litellm", port, server, server.worker_pid(), headers=headers)
    target.check()
    return target, version


def _json(headers: dict[str, str]) -> dict[str, str]:
    return {"Content-Type": "application/json", **headers}


def _install(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_INSTALL_S)
    if done.returncode:
        raise TargetFailed(f"{' '.join(command[:4])} … failed: {done.stderr[-1000:]}")
