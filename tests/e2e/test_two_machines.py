"""A laptop drives a server through nginx and TLS: two homes that share nothing but the network."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from omniroute.cli import Exit
from tests.e2e.processes import PASSWORD, Server, free_port, running_server, wait_until

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "ecosystem" / "nginx" / "omniroute.conf"


@dataclass(frozen=True)
class Machine:
    """Somebody's home on a machine that has the command but not the server."""

    home: Path
    certificate: Path

    def run(self, *arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "omniroute", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "PYTHONPATH": str(ROOT),
                "REQUESTS_CA_BUNDLE": str(self.certificate),
                **environment,
            },
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@dataclass(frozen=True)
class Site:
    """The server as the world sees it."""

    server: Server
    url: str
    certificate: Path


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for localhost and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def configuration(folder: Path, port: int, upstream: int, certificate: Path, key: Path) -> Path:
    """Return the site that we ship, at ports and with a certificate of this test."""
    site = SITE.read_text(encoding="utf-8")
    site = re.sub(r"server 127\.0\.0\.1:20128;", f"server 127.0.0.1:{upstream};", site)
    site = re.sub(r"server \{\s+listen 80;.*?\n\}\n", "", site, flags=re.DOTALL)
    site = site.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl;")
    site = site.replace("listen [::]:443 ssl http2;", "").replace(
        "proxy_set_header Host $host;", "proxy_set_header Host $http_host;"
    )
    site = site.replace("/etc/ssl/omniroute/fullchain.pem", str(certificate))
    site = site.replace("/etc/ssl/omniroute/privkey.pem", str(key)).replace("ai.example.com", "localhost")
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off;\nerror_log {folder}/error.log;\npid {folder}/nginx.pid;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}{site}}}\n"
    )
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server behind nginx, on a machine of its own."""
    folder = tmp_path_factory.mktemp("vps")
    port = free_port()
    certificate, key = self_signed(folder)
    url = f"https://localhost:{port}"
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with running_server(folder / "data", workers=2, BASE_URL=url, OMNIROUTE_TRUST_PROXY="1") as server:
        path = configuration(folder, port, server.port, certificate, key)
        process = subprocess.Popen([nginx, "-c", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:

            def answers() -> bool:
                try:
                    return requests.get(f"{url}/healthz", verify=str(certificate), timeout=2).ok
                except requests.ConnectionError:
                    return False

            wait_until(answers, within_s=15, what="nginx passes requests on")
            yield Site(server, url, certificate)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


@pytest.fixture
def laptop(site: Site, tmp_path: Path) -> Machine:
    """A machine that knows no server yet."""
    home = tmp_path / "laptop"
    home.mkdir()
    return Machine(home, site.certificate)


def connected(laptop: Machine, site: Site, scope: str = "admin") -> Machine:
    done = laptop.run("connect", site.url, "--name", "vps", "--scope", scope, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert done.returncode == Exit.DONE, done.stderr
    return laptop


def test_connecting_saves_a_token_and_not_the_password(laptop: Machine, site: Site) -> None:
    done = laptop.run("connect", site.url, "--name", "vps", "--password-stdin", stdin=f"{PASSWORD}\n")

    assert done.returncode == Exit.DONE, done.stderr
    assert f"✔ Connected to {site.url} — context 'vps' (scope: admin)" in done.stderr
    config = laptop.home / ".omniroute" / "config.json"
    assert config.stat().st_mode & 0o777 == 0o600
    saved = json.loads(config.read_text())
    assert saved["currentContext"] == "vps"
    assert saved["contexts"]["vps"]["accessToken"].startswith("oma_live_")
    assert PASSWORD not in config.read_text()
    assert saved["contexts"]["vps"]["accessToken"] not in site.server.output
    who = json.loads(laptop.run("whoami", "--json").stdout)
    assert (who["viaAccessToken"], who["scope"], who["server"]["baseUrl"]) == (True, "admin", site.url)


def test_a_wrong_password_saves_nothing(laptop: Machine, site: Site) -> None:
    done = laptop.run("connect", site.url, "--password-stdin", stdin="wrong\n")

    assert (done.returncode, done.stdout) == (Exit.NOT_ALLOWED, "")
    assert "The password is not right." in done.stderr
    assert not (laptop.home / ".omniroute" / "config.json").exists()


def test_an_untrusted_certificate_gets_no_password(laptop: Machine, site: Site) -> None:
    done = Machine(laptop.home, Path("/etc/ssl/certs/ca-certificates.crt")).run(
        "connect", site.url, "--password-stdin", stdin=f"{PASSWORD}\n"
    )

    assert done.returncode == Exit.FAILED
    assert "certificate" in done.stderr


def test_commands_print_the_same_here_and_there(laptop: Machine, site: Site) -> None:
    connected(laptop, site)
    on_the_server = {"DATA_DIR": str(site.server.data_dir), "HOME": str(site.server.data_dir.parent)}
    made = laptop.run("keys", "add", "laptop", "--models", "sandbox/*", "--rpm", "30")
    assert re.fullmatch(r"sk-\S+\n", made.stdout)
    for command in (["models", "list"], ["keys", "list"], ["providers", "available"], ["tokens", "scopes"]):
        for form in ("table", "json", "csv"):
            there = laptop.run(*command, "-o", form)
            here = laptop.run(*command, "-o", form, **on_the_server)
            assert (there.returncode, here.returncode) == (Exit.DONE, Exit.DONE), (there.stderr, here.stderr)
            assert there.stdout == here.stdout
            assert there.stdout


def test_a_key_made_from_the_laptop_answers_through_nginx(laptop: Machine, site: Site) -> None:
    connected(laptop, site)
    key = laptop.run("keys", "add", "chat").stdout.strip()

    answered = laptop.run("chat", "say this back", "-m", "sandbox/echo", OMNIROUTE_API_KEY=key)
    refused = laptop.run("chat", "say this back", "-m", "sandbox/echo")

    assert (answered.returncode, answered.stdout) == (Exit.DONE, "say this back\n"), answered.stderr
    assert refused.returncode == Exit.NOT_ALLOWED  # through the proxy nobody is local


def test_configuring_codex_writes_here_what_the_server_has(laptop: Machine, site: Site) -> None:
    connected(laptop, site)

    done = laptop.run("configure", "codex", "--provider", "sandbox", "--model", "sandbox/agent", "--name", "agent")

    assert done.returncode == Exit.DONE, done.stderr
    profile = (laptop.home / ".codex" / "agent.config.toml").read_text()
    assert "sandbox/agent" in profile
    assert f"{site.url}/v1" in profile + (laptop.home / ".codex" / "config.toml").read_text()
    assert "oma_live_" not in profile


def test_tokens_and_what_their_scopes_refuse(laptop: Machine, site: Site, tmp_path: Path) -> None:
    connected(laptop, site)
    token = laptop.run("tokens", "create", "--name", "ci", "--scope", "read").stdout.strip()
    assert re.fullmatch(r"oma_live_\S{43}", token)
    (tmp_path / "ci").mkdir()
    ci = Machine(tmp_path / "ci", site.certificate)
    assert ci.run("connect", site.url, "--name", "vps", "--key-stdin", stdin=f"{token}\n").returncode == Exit.DONE

    assert ci.run("keys", "list").returncode == Exit.DONE
    for command in (
        ["keys", "add", "x"],
        ["combos", "create", "x", "sandbox/echo"],
        ["tokens", "list"],
        ["providers", "add", "sandbox"],
    ):
        refused = ci.run(*command, "--yes")
        assert refused.returncode == Exit.NOT_ALLOWED, (command, refused.stdout, refused.stderr)
        assert "has scope 'read'; the route needs" in refused.stderr

    listed = json.loads(laptop.run("tokens", "list", "--json").stdout)["tokens"]
    row = next(row for row in listed if row["name"] == "ci")
    revoked = laptop.run("tokens", "revoke", row["tokenPrefix"], "--yes")
    assert revoked.returncode == Exit.DONE, revoked.stderr
    site.server.settle()
    ended = ci.run("keys", "list")
    assert (ended.returncode, "has been revoked" in ended.stderr) == (Exit.NOT_ALLOWED, True)


def test_what_belongs_to_the_server_s_own_machine_is_out_of_reach(laptop: Machine, site: Site) -> None:
    connected(laptop, site)
    token = json.loads((laptop.home / ".omniroute" / "config.json").read_text())["contexts"]["vps"]["accessToken"]

    for command in (["stop"], ["restart"], ["setup", "--list"], ["doctor"], ["migrate"], ["env"], ["backup"]):
        refused = laptop.run(*command)
        assert refused.returncode == Exit.MISUSE, (command, refused.stdout, refused.stderr)
        assert "on the server's own machine only" in refused.stderr
    for path in ("/api/shutdown", "/api/restart"):
        answer = requests.post(
            site.url + path, headers={"Authorization": f"Bearer {token}"}, verify=str(site.certificate), timeout=10
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "local_only")
    inference = requests.get(
        f"{site.url}/v1/models", headers={"Authorization": f"Bearer {token}"}, verify=str(site.certificate), timeout=10
    )
    assert inference.json()["error"]["code"] == "wrong_credential_kind"


def test_forgetting_the_server_ends_its_token(laptop: Machine, site: Site) -> None:
    connected(laptop, site, scope="admin")
    token = json.loads((laptop.home / ".omniroute" / "config.json").read_text())["contexts"]["vps"]["accessToken"]

    done = laptop.run("contexts", "remove", "vps", "--revoke", "--yes")

    assert done.returncode == Exit.DONE, done.stderr
    site.server.settle()
    answer = requests.get(
        f"{site.url}/api/keys", headers={"Authorization": f"Bearer {token}"}, verify=str(site.certificate), timeout=10
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "token_revoked")
    assert laptop.run("contexts", "current", "--name-only").stdout == "default\n"
