"""The running server against its own description: nothing fails, nothing undeclared is answered, nobody slips by.

Schemathesis calls every operation of `/api/openapi.json`: as whoever may do everything, with a token that may only
read, and without any credential. The seed is fixed and the number of calls bounded, so that each run is the same.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.processes import Sandbox, Server, running_server

SEED = 20270131
MOST_S = 400
"""A run that hangs is ended; it takes a tenth of this on an idle machine."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
)
NEVER = {
    "authChangePassword": "locks this address after five wrong passwords",
    "authSwitchLogin": "the same",
    "authLogin": "the same",
    "cliAccessConnect": "the same",
    "systemRestart": "ends the server",
    "systemShutdown": "ends the server",
    "logsRequests": "is a stream without an end",
    "logsConsole": "is a stream without an end, if it is told to follow",
}
"""Operations that are not called with a credential, and why. Without one they are: they have to refuse that."""
DESTRUCTIVE = {
    "backupsRestore": "replaces the database",
    "backupsImportFile": "replaces the database",
    "backupsCleanUp": "removes what others look for",
    "backupsDelete": "removes what others look for",
    "configurationApply": "replaces the configuration",
    "purgeLogs": "removes what others look for",
    "purgeUsage": "removes what others look for",
    "authRevokeOtherSessions": "ends the session of this test",
    "databaseVacuum": "keeps all others waiting",
}
"""Operations that are called on a server of their own, and why."""
LONG = {
    "chatPinnedChatCompletions": "has the body of the operation for all providers",
    "chatPinnedCompletions": "has the body of the operation for all providers",
    "chatPinnedMessages": "has the body of the operation for all providers",
    "chatPinnedResponses": "has the body of the operation for all providers",
    "chatPinnedV1Messages": "has the body of the operation for all providers",
    "combosChange": "has the fields of a new combo",
    "keysChange": "has the fields of a new key",
    "proxiesPut": "has every way to name a proxy",
    "ipFilterChange": "has lists of addresses",
    "keysCreate": "has two dozen limits",
    "pricingDefaults": "answers a list of thousands of prices",
    "pricingIndex": "answers a list of thousands of prices",
    "settingsChange": "has a hundred settings",
    "pricingChange": "has a dozen prices in each of its forms",
    "resilienceChange": "has fifty settings",
    "pricingSync": "reads a list of thousands of prices",
}
"""Operations with too many single cases to go through all of them; they get random ones."""
ASKS_PROVIDERS = {
    "connectionModels": "lists of models come from providers",
    "providers": "tries keys",
    "providerNodes": "tries addresses",
    "models": "calls models",
    "pricing": "reads a list from the network",
    "chat": "calls models",
    "responses": "asks who made the response",
}
"""What may fail because somebody else does: how the ids of those operations begin, and why."""
NOT_OURS = [502, 503, 504, 529]


@dataclass
class World:
    """A server with something of everything, and the words that lead to it, by the parameters that take them."""

    server: Server
    home: Path
    words: dict[str, list[str]] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def cli_token(self) -> str:
        return (self.server.data_dir / "runtime" / "cli-token").read_text(encoding="ascii").strip()

    def operations(self) -> dict[str, dict[str, Any]]:
        """Return all operations by `METHOD path`."""
        paths = self.document["paths"].items()
        return {f"{method.upper()} {path}": one for path, item in paths for method, one in item.items()}

    def ids(self, labels: Sequence[str]) -> list[str]:
        known = self.operations()
        return [known[label]["operationId"] for label in labels]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[World]:
    with furnished_world(tmp_path_factory.mktemp("openapi"), sandbox) as made:
        yield made


@pytest.fixture
def doomed_world(tmp_path: Path, sandbox: Sandbox) -> Iterator[World]:
    """One that nobody needs any more afterwards."""
    with furnished_world(tmp_path, sandbox) as made:
        yield made


@contextmanager
def furnished_world(home: Path, sandbox: Sandbox) -> Iterator[World]:
    with running_server(home / "data", workers=2, OMNIROUTE_METRICS="on") as server:
        made = World(server, home)
        furnish(made, sandbox)
        yield made


def furnish(world: World, sandbox: Sandbox) -> None:
    """Give the server connections, keys, combos and requests, so that paths and bodies lead to something."""
    server, words = world.server, world.words
    words["connectionId"] = [
        server.add_node(f"{sandbox.url}/v1", prefix="oa"),
        server.add_node(f"{sandbox.url}/v1", prefix="an", kind="anthropic-compatible"),
    ]
    words["nodeId"] = [row["id"] for row in server.api("GET", "/api/provider-nodes")["nodes"]]
    keys = [server.api("POST", "/api/keys", {"name": name}) for name in ("one", "two")]
    words["keyId"] = [key["id"] for key in keys]
    combos = [
        server.api("POST", "/api/combos", {"name": name, "models": ["sandbox/echo", "oa/echo"]})
        for name in ("first", "second")
    ]
    words["comboId"] = [combo["id"] for combo in combos]
    server.api("PUT", "/api/models/alias", {"pattern": "house", "target": "sandbox/echo"})
    mapping = server.api("POST", "/api/model-combo-mappings", {"pattern": "mapped-*", "comboId": combos[0]["id"]})
    words["mappingId"] = [mapping["mapping"]["id"]]
    chain = server.api("POST", "/api/fallback/chains", {"name": "spare", "models": ["sandbox/echo"]})
    words["chainId"] = [chain["chain"]["id"]]
    server.api("POST", "/api/usage/budget", {"keyId": keys[0]["id"], "limit": 5, "period": "daily"})
    server.settle()
    caller = {"Authorization": f"Bearer {keys[0]['key']}"}
    for model in ("sandbox/echo", "first", "oa/echo"):
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        answer = requests.post(f"{server.url}/v1/chat/completions", json=body, headers=caller, timeout=30)
        assert answer.status_code == 200, answer.text
        words.setdefault("requestId", []).append(answer.headers["X-OmniRoute-Request-Id"])
    words["logId"] = words["requestId"]
    words["provider"] = ["sandbox", *words["nodeId"]]
    words["channel"] = ["auto", "auto/coding"]
    words["model"] = ["sandbox/echo", "first", "house"]
    words["sessionId"] = [row["id"] for row in server.api("GET", "/api/auth/sessions")["sessions"]]
    world.document = server.api("GET", "/api/openapi.json")


# --- how the fuzzer is told ------------------------------------------------------------------------------------------


def aliases(world: World) -> list[str]:
    """Return the ids of operations that are other names of one that is called anyway."""
    return [one["operationId"] for one in world.operations().values() if "x-omniroute-alias-of" in one]


def configured(world: World) -> Path:
    """Write the fuzzer's configuration: which words it uses where, and what counts as a failure of ours."""
    lines = [
        f"seed = {SEED}",
        "request-timeout = 30.0",
        "continue-on-failure = true",
        "[generation]",
        "deterministic = true",
        "no-shrink = true",
        'database = "none"',
        "with-security-parameters = false",
    ]
    for name, values in world.words.items():
        lines += [f"[dictionaries.{name}]", f"values = {json.dumps(values)}"]
    lines.append("[parameters]")
    lines += [f'"path.{name}" = {{ dictionary = "{name}", probability = 0.8 }}' for name in world.words]
    lines += [f'"body.{name}" = {{ dictionary = "{name}", probability = 0.8 }}' for name in ("model", "provider")]
    asks = "|".join(ASKS_PROVIDERS)
    lines += [
        "[[operations]]",
        f'include-operation-id-regex = "^({asks})[A-Z]?"',
        f"checks.not_a_server_error.expected-statuses = {json.dumps(['2xx', '3xx', '4xx', *NOT_OURS])}",
        "[[operations]]",
        f"include-operation-id = {json.dumps([*LONG, *aliases(world)])}",
        "phases.coverage.enabled = false",
        "[[operations]]",
        f"include-operation-id = {json.dumps(aliases(world))}",
        "generation.max-examples = 1",
    ]
    path = world.home / "schemathesis.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Run:
    """What a run of the fuzzer found: its report, and which statuses each operation has answered."""

    code: int
    output: str
    statuses: Mapping[str, set[int]]


def fuzz(
    world: World,
    *,
    phases: str,
    examples: int,
    headers: Mapping[str, str],
    without: Sequence[str] = (),
    only: Sequence[str] = (),
) -> Run:
    """Call the operations with a credential, or with none."""
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program is not None
    report = world.home / "report.ndjson"
    url = world.server.url
    command = [program, "--config-file", str(configured(world)), "run", _description(world), "--url", url]
    command += ["--phases", phases, "--max-examples", str(examples), "--checks", ",".join(CHECKS)]
    command += ["--workers", "1", "--no-color", "--warnings", "off"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(report)]
    command += [f"--header={name}: {value}" for name, value in headers.items()]
    command += [f"--exclude-operation-id={name}" for name in without]
    command += [f"--include-operation-id={name}" for name in only]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(world.home), "LANG": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=world.home, env=environment, capture_output=True, text=True, timeout=MOST_S, check=False
    )
    return Run(done.returncode, done.stdout[-20_000:] + done.stderr[-5_000:], _statuses(report))


def _description(world: World) -> str:
    path = world.home / "openapi.json"
    path.write_text(json.dumps(world.document), encoding="utf-8")
    return str(path)


def _statuses(report: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for line in report.read_text(encoding="utf-8").splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for exchange in recorder.get("interactions", {}).values():
            answer = exchange["response"] or {}
            if exchange["request"]["method"] == recorder["label"].partition(" ")[0] and answer:
                found.setdefault(recorder["label"], set()).add(answer["status_code"])
    return found


# --- the runs --------------------------------------------------------------------------------------------------------


def test_as_whoever_may_do_everything(world: World) -> None:
    admin = {"X-OmniRoute-CLI-Token": world.cli_token}
    done = fuzz(world, phases="coverage,fuzzing", examples=3, headers=admin, without=[*NEVER, *DESTRUCTIVE])

    assert done.code == 0, done.output
    called = {label for label, one in world.operations().items() if one["operationId"] not in {*NEVER, *DESTRUCTIVE}}
    assert called == set(done.statuses)
    # Most of them are not only refused: what is declared of their answers has been held against real ones.
    answered = {label for label, statuses in done.statuses.items() if any(status < 300 for status in statuses)}
    assert len(answered) > 0.6 * len(called), sorted(called - answered)


def test_with_a_token_that_may_only_read(world: World) -> None:
    admin = {"X-OmniRoute-CLI-Token": world.cli_token}
    wanted = {"name": "reader", "scope": "read"}
    made = requests.post(f"{world.server.url}/api/cli/tokens", json=wanted, headers=admin, timeout=10)
    reader = {"Authorization": f"Bearer {made.json()['token']}"}
    done = fuzz(world, phases="fuzzing", examples=2, headers=reader, without=list(NEVER))

    assert done.code == 0, done.output
    above = {label for label, one in world.operations().items() if one.get("x-omniroute-scope") in ("write", "admin")}
    assert {
        label: statuses for label, statuses in done.statuses.items() if label in above and min(statuses) < 300
    } == {}
    assert all(403 in statuses for label, statuses in done.statuses.items() if label in above)


def test_without_a_credential(world: World) -> None:
    done = fuzz(world, phases="fuzzing", examples=1, headers={})

    assert done.code == 0, done.output
    closed = {label for label, one in world.operations().items() if one["security"] and {} not in one["security"]}
    assert set(world.operations()) == set(done.statuses)
    assert {
        label: statuses for label, statuses in done.statuses.items() if label in closed and min(statuses) < 300
    } == {}
    assert all(statuses & {401, 403, 404, 405} for label, statuses in done.statuses.items() if label in closed)


def test_what_leaves_nothing_as_it_was(doomed_world: World) -> None:
    admin = {"X-OmniRoute-CLI-Token": doomed_world.cli_token}
    known = {one["operationId"] for one in doomed_world.operations().values()}
    done = fuzz(doomed_world, phases="fuzzing", examples=3, headers=admin, only=sorted(known & set(DESTRUCTIVE)))

    assert done.code == 0, done.output
    assert requests.get(f"{doomed_world.server.url}/healthz", timeout=10).text == "ok"


def test_the_exceptions_are_operations_that_exist(world: World) -> None:
    known = {one["operationId"] for one in world.operations().values()}

    assert {*NEVER, *DESTRUCTIVE, *LONG} - known == set()
    assert [start for start in ASKS_PROVIDERS if not any(name.startswith(start) for name in known)] == []
