"""The three targets of every comparison: the upstream itself, nginx in front of it, OmniRoute in front of it."""

from __future__ import annotations

import http.cookies
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from omnibench import bodies
from omnibench.machine import Cores, nginx_program
from omnibench.processes import Park, Server, TargetFailed, Usage, call, free_port, usage, wait_until_answers

CALL_MODEL: Final = "echo"
SLOW_STREAM_MODEL: Final = "story-200-200"
FAST_STREAM_MODEL: Final = "story-200-5"
"""200 numbered chunks, with 200 ms or 5 ms between them."""

NODE_PREFIX: Final = "upstream"
MESSAGES_PREFIX: Final = "messages-upstream"
OTHER_PREFIX: Final = "other-upstream"
CHAT_PATH: Final = "/v1/chat/completions"
MESSAGES_PATH: Final = "/v1/messages"
REPOSITORY: Final = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Target:
    """Somewhere to send a chat request."""

    name: str
    port: int
    server: Server
    worker_pid: int
    model_prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = CHAT_PATH

    @property
    def url(self) -> str:
        """Return the address of its route."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def model(self, name: str) -> str:
        """Return how this target calls a model of the sandbox."""
        return f"{self.model_prefix}{name}"

    def account(self) -> Usage:
        """Read the account of the worker.

        Raises:
            TargetFailed: the worker is gone; the log may say why.
        """
        try:
            return usage(self.worker_pid)
        except OSError as error:
            raise TargetFailed(f"the worker of {self.name} ended on its own\n{self.server.tail()}") from error

    def check(self) -> None:
        """Make one call and one look at its answer, so that no later figure is that of an error page.

        Raises:
            TargetFailed: the answer is not a chat completion.
        """
        body = bodies.small(self.model(CALL_MODEL))
        headers = {"Content-Type": "application/json", **self.headers}
        answer = call(self.port, "POST", CHAT_PATH, body=body, headers=headers)
        if answer.status != 200 or not json.loads(answer.body).get("choices"):
            raise TargetFailed(f"{self.name} answered {answer.status}: {answer.body[:300]!r}\n{self.server.tail()}")


def omniroute_command(*arguments: str) -> list[str]:
    """Return a command line of the `omniroute` script that belongs to this interpreter."""
    script = Path(sys.executable).with_name("omniroute")
    if script.exists():
        return [str(script), *arguments]
    return [sys.executable, "-m", "omniroute", *arguments]


def start_upstream(park: Park, cores: Cores, name: str = "sandbox") -> Target:
    """Start the stand-alone sandbox, the upstream of all."""
    port = free_port()
    command = omniroute_command("sandbox", "--port", str(port))
    server = park.start(name, command, cores=cores.rest, cwd=REPOSITORY)
    wait_until_answers(
        server,
        port,
        "POST",
        CHAT_PATH,
        body=bodies.small(CALL_MODEL),
        headers={"Content-Type": "application/json", "Authorization": "Bearer sk-sandbox"},
    )
    headers = {"Authorization": "Bearer sk-sandbox"}
    target = Target("direct", port, server, server.worker_pid(), headers=headers)
    target.check()
    return target


# --- nginx -------------------------------------------------------------------------------------------------------

_NGINX_CONF: Final = """
daemon off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    client_body_buffer_size 512k;
    client_max_body_size 64m;
    keepalive_requests 1000000000;
    upstream sandbox {{
        server 127.0.0.1:{upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://sandbox;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
        }}
    }}
}}
"""


def start_nginx(park: Park, upstream: Target, cores: Cores, scratch: Path) -> Target | None:
    """Start nginx with one worker in front of the upstream; None when it is not installed."""
    program = nginx_program()
    if program is None:
        return None
    port = free_port()
    prefix = scratch / "nginx"
    prefix.mkdir()
    # As root the worker would change to a user who cannot enter the scratch directory.
    user = "user root;" if os.geteuid() == 0 else ""
    conf = prefix / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(prefix=prefix, port=port, upstream=upstream.port, user=user))
    command = [program, "-p", str(prefix), "-c", str(conf), "-e", "stderr"]
    server = park.start("nginx", command, cores=cores.worker)
    wait_until_answers(
        server,
        port,
        "POST",
        CHAT_PATH,
        body=bodies.small(CALL_MODEL),
        headers={"Content-Type": "application/json", **upstream.headers},
        deadline_s=15,
    )
    target = Target("nginx", port, server, server.worker_pid(), headers=upstream.headers)
    target.check()
    return target


# --- OmniRoute ---------------------------------------------------------------------------------------------------

_PASSWORD: Final = "bench-password-of-one-run"  # noqa: S105 - of servers that live for minutes on loopback


def clean_environ(home: Path) -> dict[str, str]:
    """Return an environment without any setting of whoever runs the benchmark; it finds this checkout's package."""
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(home), "LANG": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)}


def omniroute_environ(data_dir: Path, port: int, *, keyless: bool = False) -> dict[str, str]:
    """Return the environment of a server under test: everything that is on in production, plus metrics."""
    return {
        **clean_environ(data_dir.parent),
        "DATA_DIR": str(data_dir),
        "OMNIROUTE_PORT": str(port),
        "WEB_CONCURRENCY": "1",
        "OMNIROUTE_METRICS": "on",
        "REQUIRE_API_KEY": "false" if keyless else "true",
        "INITIAL_PASSWORD": _PASSWORD,
        # Keeps the rows of the run, and the million of the full database, from being cleaned up while it is measured.
        "CALL_LOG_MAX_ROWS": "5000000",
        "APP_LOG_LEVEL": "info",
    }


@dataclass(slots=True)
class Management:
    """A logged-in session at the management API of one server."""

    port: int
    cookie: str

    def post(self, path: str, body: Mapping[str, Any], wanted: int = 201) -> dict[str, Any]:
        """Create something and return the answer.

        Raises:
            TargetFailed: the status is not `wanted`.
        """
        answer = call(self.port, "POST", path, body=json.dumps(body).encode(), headers=self._headers())
        if answer.status != wanted:
            raise TargetFailed(f"POST {path} answered {answer.status}: {answer.body[:500]!r}")
        value: dict[str, Any] = json.loads(answer.body)
        return value

    def get(self, path: str) -> dict[str, Any]:
        """Read something.

        Raises:
            TargetFailed: the status is not 200.
        """
        answer = call(self.port, "GET", path, headers=self._headers())
        if answer.status != 200:
            raise TargetFailed(f"GET {path} answered {answer.status}: {answer.body[:500]!r}")
        value: dict[str, Any] = json.loads(answer.body)
        return value

    def _headers(self) -> dict[str, str]:
        origin = f"http://127.0.0.1:{self.port}"
        return {"Content-Type": "application/json", "Cookie": self.cookie, "Origin": origin}


def login(port: int) -> Management:
    """Log in with the first password.

    Raises:
        TargetFailed: it was refused.
    """
    headers = {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{port}"}
    body = json.dumps({"password": _PASSWORD}).encode()
    answer = call(port, "POST", "/api/auth/login", body=body, headers=headers)
    jar = http.cookies.SimpleCookie(answer.headers.get("set-cookie", ""))
    if answer.status != 200 or not jar:
        raise TargetFailed(f"the login answered {answer.status}: {answer.body[:300]!r}")
    return Management(port, "; ".join(f"{name}={morsel.value}" for name, morsel in jar.items()))


def spawn_omniroute(
    park: Park,
    data_dir: Path,
    port: int,
    cores: Cores,
    name: str = "omniroute",
    *,
    keyless: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Server:
    """Start the server without waiting for it.

    `keyless` admits loopback callers without an API key, as the product does by default; `settings` are more
    environment variables.
    """
    command = omniroute_command("server", "--port", str(port), "--workers", "1", "--data-dir", str(data_dir))
    environ = {**omniroute_environ(data_dir, port, keyless=keyless), **(settings or {})}
    return park.start(name, command, environ=environ, cores=cores.worker, cwd=data_dir.parent)


def start_omniroute(
    park: Park, data_dir: Path, cores: Cores, *, name: str = "omniroute", settings: Mapping[str, str] | None = None
) -> tuple[Server, int, int]:
    """Start the server and wait until it is healthy; return it, its port and the pid of its one worker."""
    port = free_port()
    server = spawn_omniroute(park, data_dir, port, cores, name, settings=settings)
    wait_until_answers(server, port, "GET", "/healthz")
    return server, port, server.worker_pid()


def add_upstream(management: Management, upstream: Target, prefix: str = NODE_PREFIX) -> None:
    """Make the sandbox server known as a provider node with one connection, as a user would."""
    node = {
        "name": f"Benchmark {prefix}",
        "prefix": prefix,
        "type": "openai-compatible",
        "apiType": "chat",
        "baseUrl": f"http://127.0.0.1:{upstream.port}/v1",
        "isLocal": True,
    }
    _add_node(management, node)


def add_messages_upstream(management: Management, upstream: Target) -> None:
    """Make the same server known once more as one that speaks Messages and nothing else."""
    node = {
        "name": f"Benchmark {MESSAGES_PREFIX}",
        "prefix": MESSAGES_PREFIX,
        "type": "anthropic-compatible",
        "baseUrl": f"http://127.0.0.1:{upstream.port}/v1",
        "isLocal": True,
    }
    _add_node(management, node)


def _add_node(management: Management, node: Mapping[str, Any]) -> None:
    node_id = management.post("/api/provider-nodes", node)["node"]["id"]
    management.post("/api/providers", {"provider": node_id, "name": "bench", "apiKey": "sk-sandbox"})


def add_key(management: Management, name: str = "bench") -> str:
    """Create an API key with the restrictions that this release enforces, so that judging them is in the figures."""
    fields: dict[str, Any] = {
        "name": name,
        "allowedModels": [f"{prefix}/*" for prefix in (NODE_PREFIX, MESSAGES_PREFIX, OTHER_PREFIX)],
        "expiresAt": "2099-01-01T00:00:00Z",
        "ipAllowlist": ["127.0.0.0/8", "::1"],
    }
    key: str = management.post("/api/keys", fields)["key"]
    return key


def configured_omniroute(
    park: Park, upstream: Target, data_dir: Path, cores: Cores, *, name: str = "omniroute"
) -> Target:
    """Start OmniRoute on a fresh data directory, set it up over its management API, and check one call."""
    server, port, worker = start_omniroute(park, data_dir, cores, name=name)
    management = login(port)
    add_upstream(management, upstream)
    return as_target(name, server, port, worker, add_key(management))


def as_target(name: str, server: Server, port: int, worker: int, key: str) -> Target:
    """Return a running, configured server as a target that has answered once."""
    headers = {"Authorization": f"Bearer {key}"}
    target = Target(name, port, server, worker, model_prefix=f"{NODE_PREFIX}/", headers=headers)
    target.check()
    return target
