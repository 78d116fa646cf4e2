"""A small gateway for tests of access: real guard, services, pages and database; stand-ins for what serves models."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flask import Flask, Response, jsonify, request
from flask.testing import FlaskClient

from omniroute.blueprints import dashboard, guard
from omniroute.blueprints.dashboard import api_pages
from omniroute.blueprints.management import auth, cli_access, health, keys, usage
from omniroute.blueprints.rules import QuickRule
from omniroute.blueprints.tiers import ROUTES, Route, Tier, shape
from omniroute.gateway.inference import Inference
from omniroute.records import RequestRecord
from omniroute.services import access as access_service
from omniroute.services.access_tokens import AccessTokens, Scope
from omniroute.services.audit import Audit
from omniroute.services.body_capture import BodyCapture
from omniroute.services.catch_up import CatchUp
from omniroute.services.first_start import read_cli_token
from omniroute.services.health import Health
from omniroute.services.ip_filter import AddressGate
from omniroute.services.keys import SYSTEM, Issued, Keys
from omniroute.services.lockout import Lockout
from omniroute.services.login import Login
from omniroute.services.passwords import Cost, Passwords
from omniroute.services.reach import Reach
from omniroute.services.sessions import Sessions
from omniroute.services.settings import SettingsInForce
from omniroute.services.usage import Usage
from omniroute.settings import Settings
from omniroute.storage.body_files import BodyFiles
from omniroute.storage.database import Database
from omniroute.storage.log_writer import LogWriter
from omniroute.storage.repositories import settings as stored_settings
from omniroute.storage.schema import ensure_schema
from omniroute.storage.secrets import Cipher
from omniroute.storage.snapshot import SnapshotHolder

PASSWORD = "correct horse battery"
CHEAP = Cost(16, 1, 1)  # the real format and flow at a cost that a test does not feel
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z, a Friday


class Clock:
    """Moves only when told."""

    def __init__(self, at: float = NOW) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def pass_(self, seconds: float) -> None:
        self.at += seconds


class Browser(FlaskClient):
    """A client that says by which name it reached the server."""

    host = "localhost:20128"

    def open(self, *args: Any, **kwargs: Any) -> Any:
        overrides = {"HTTP_HOST": self.host, **(kwargs.pop("environ_overrides", None) or {})}
        return super().open(*args, environ_overrides=overrides, **{"buffered": True, **kwargs})


@dataclass
class Gateway:
    """The parts of the small gateway, for tests to reach into."""

    app: Flask
    settings: Settings
    clock: Clock
    database: Database
    snapshots: SnapshotHolder
    guard: guard.Guard
    access: access_service.AccessControl
    keys: Keys
    tokens: AccessTokens
    sessions: Sessions
    passwords: Passwords
    lockout: Lockout
    audit: Audit
    slept: list[float]
    canaries: list[tuple[str, str]]
    draining: list[bool] = field(default_factory=list)
    others: list[Gateway] = field(default_factory=list)

    def client(self, *, address: str = "127.0.0.1", host: str | None = None, cookies: bool = True) -> Browser:
        """Return a client at an address; a remote one talks to the server by its LAN address.

        Without `cookies` it keeps none, and sends the Cookie header that a test gives it.
        """
        client = cast("Browser", self.app.test_client(use_cookies=cookies))
        client.environ_base["REMOTE_ADDR"] = address
        is_local = address in ("127.0.0.1", "::1")
        client.host = host if host is not None else "localhost:20128" if is_local else "192.0.2.10:20128"
        return client

    def issue(self, name: str = "test", **fields: Any) -> Issued:
        """Create an API key."""
        return self.keys.create({"name": name, **fields}, SYSTEM)

    def token(self, scope: str = "admin", days: int | None = None) -> str:
        """Create an access token and return its secret."""
        return self.tokens.create("test", Scope(scope), days, SYSTEM).secret

    def logged_in(self, **where: Any) -> Browser:
        """Return a client with a live session."""
        client = self.client(**where)
        answer = client.post("/api/auth/login", json={"password": PASSWORD})
        assert answer.status_code == 200, answer.get_json()
        return client

    def store(self, section: str, name: str, value: Any) -> None:
        """Store a run-time setting."""
        now = self.clock()
        self.database.write(
            lambda sql: stored_settings.put(sql, section, name, value, changed_by="test", now=now), bump=True
        )

    def log_requests(self, records: Iterable[RequestRecord]) -> None:
        """Put settled requests into the log."""
        writer = LogWriter(self.database, self.settings.data_dir / "spool", now=self.clock)
        for record in records:
            writer.put(record)
        writer.flush()
        writer.stop()

    def audited(self, action: str | None = None) -> list[Any]:
        """Return the rows of the audit log, oldest first."""
        entries, _ = self.audit.entries(limit=1000, action=action)
        return list(reversed(entries))

    def other_worker(self) -> Gateway:
        """Return a second worker on the same database."""
        other = build(self.settings, clock=self.clock, password=None)
        self.others.append(other)
        return other

    def close(self) -> None:
        """Close the databases of this worker and the others that came from it."""
        for part in (self, *self.others):
            part.database.dispose()


def build(settings: Settings, *, clock: Clock | None = None, password: str | None = PASSWORD) -> Gateway:
    """Build a gateway on the data directory of `settings`."""
    clock = clock or Clock()
    database = Database(f"sqlite:///{settings.data_dir / 'storage.sqlite'}", now=clock)
    _prepare_schema(database)
    snapshots = SnapshotHolder(database, Cipher(bytes(32)), clock)
    snapshots.refresh(force=True)
    reach = Reach(
        bind_host=settings.host,
        base_url=settings.base_url,
        allowed_origins=settings.allowed_origins,
        trust_proxy=settings.trust_proxy,
    )
    audit = Audit(database=database, now=clock)
    signing_key = b"s" * 48
    catch_up = CatchUp(snapshots.refresh, monotonic=itertools.count().__next__, sleep=lambda _seconds: None)
    sessions = Sessions(
        database=database,
        snapshots=snapshots,
        reach=reach,
        signing_key=signing_key,
        now=clock,
        catch_up=catch_up,
        base_path=settings.base_path,
        is_always_secure=settings.auth_cookie_secure,
    )
    slept: list[float] = []
    canaries: list[tuple[str, str]] = []
    draining: list[bool] = []
    lockout = Lockout(database=database, now=clock, sleep=slept.append)
    passwords = Passwords(database=database, now=clock, host_name="gateway-host", cost=CHEAP)
    key_service = Keys(
        database=database,
        snapshots=snapshots,
        audit=audit,
        tag_key=b"t" * 48,
        now=clock,
    )
    login = Login(passwords=passwords, lockout=lockout, sessions=sessions, audit=audit, database=database, now=clock)
    tokens = AccessTokens(database=database, audit=audit, admit=login.admit, now=clock)
    access = access_service.AccessControl(
        snapshots=snapshots,
        reach=reach,
        sessions=sessions,
        now=clock,
        env_api_key=settings.env_api_key,
        require_api_key=settings.require_api_key,
        loopback_keyless=settings.loopback_keyless,
        cli_token=lambda: read_cli_token(settings.data_dir / "runtime"),
        on_canary=lambda key, address: canaries.append((key.id, address)),
        is_ours=key_service.has_valid_tag,
        catch_up=catch_up,
        on_guess=lockout.count_guess,
        on_token_use=tokens.note_use,
        no_log_key_ids=settings.no_log_api_key_ids,
        page_origins=settings.cors_allowed_origins,
    )
    if password is not None:
        passwords.create_first(password)
    in_force = SettingsInForce(settings, snapshots.current)
    addresses = AddressGate(snapshots.current, reach=reach, now=clock)
    for follow in (in_force.rebuild, lockout.rebuild, addresses.rebuild):
        snapshots.subscribe(follow)
    own_guard = guard.Guard(
        access=access,
        sessions=sessions,
        audit=audit,
        now=clock,
        inference_body_limit=settings.chat_max_body_bytes,
        body_limit=settings.max_body_size_bytes,
        cors_origins=settings.cors_allowed_origins,
        is_draining=lambda: bool(draining),
        addresses=addresses,
    )
    app = Flask("omniroute")
    app.url_rule_class = QuickRule
    app.test_client_class = Browser
    app.extensions["omniroute"] = SimpleNamespace(
        settings=settings,
        in_force=in_force,
        database=database,
        snapshots=snapshots,
        audit=audit,
        passwords=passwords,
        sessions=sessions,
        lockout=lockout,
        keys=key_service,
        access=access,
        access_tokens=tokens,
        login=login,
        usage=Usage(database=database, snapshots=snapshots, now=clock),
        body_capture=BodyCapture(
            BodyFiles(settings.data_dir / "bodies"),
            inference=cast("Inference", SimpleNamespace()),
            settings=lambda: in_force.current,
            now=clock,
            sleep=slept.append,
            spawn=None,
        ),
        health=Health(
            settings=settings,
            database=database,
            snapshots=snapshots,
            now=clock,
            monotonic=itertools.count().__next__,
            started_at=clock() - 93_784,
            audit_failures=lambda: audit.failed_writes,
            memory_bytes=lambda: 80 << 20,  # the process of the tests holds more than a worker would
        ),
    )
    own_guard.init_app(app)
    dashboard.init_app(app, signing_key=signing_key, base_path=settings.base_path)
    for blueprint in (
        auth.blueprint,
        cli_access.blueprint,
        keys.blueprint,
        usage.blueprint,
        health.blueprint,
        api_pages.blueprint,
        dashboard.blueprint,
    ):
        app.register_blueprint(blueprint)
    add_stand_ins(app)
    own_guard.seal(app)
    return Gateway(
        app,
        settings,
        clock,
        database,
        snapshots,
        own_guard,
        access,
        key_service,
        tokens,
        sessions,
        passwords,
        lockout,
        audit,
        slept,
        canaries,
        draining,
    )


_migrated: list[bytes] = []
"""A fresh database as bytes: migrating one for each test would be most of the time of these tests."""


def _prepare_schema(database: Database) -> None:
    assert database.path is not None
    if _migrated and not database.path.exists():
        database.path.touch(mode=0o600)
        database.path.write_bytes(_migrated[0])
    ensure_schema(database, backup=lambda reason: None, log=logging.getLogger("test"))
    if not _migrated:
        copy = database.path.with_name("copy.sqlite")
        database.detached(lambda sql: sql.exec_driver_sql(f"VACUUM INTO '{copy}'"))
        _migrated.append(copy.read_bytes())
        copy.unlink()


def add_stand_ins(app: Flask, routes: Iterable[Route] = ROUTES) -> None:
    """Give every row of the table that has no view yet one that says who called."""
    served = {(shape(rule.rule), method) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    for number, route in enumerate(routes):
        missing = [method for method in route.methods if (shape(route.rule), method) not in served]
        if missing:
            app.add_url_rule(route.rule, f"stand_in_{number}", _stand_in, methods=missing)


def _stand_in(**values: str) -> Response:
    caller = request.environ.get(guard.CALLER)
    actor = request.environ.get(guard.ACTOR)
    model = values.get("model")
    if caller is not None and model:
        caller.check_model(model)
    return jsonify(
        caller=caller.key_id if caller is not None else None,
        kind=caller.kind if caller is not None else None,
        actor=actor.audit_name if actor is not None else None,
        **values,
    )


@pytest.fixture
def make_gateway(settings: Settings) -> Iterator[Callable[..., Gateway]]:
    """Build gateways with changed settings; their databases are closed at the end."""
    made: list[Gateway] = []

    def make(*, password: str | None = PASSWORD, **changes: Any) -> Gateway:
        gateway = build(with_settings(settings, **changes), password=password)
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture
def gateway(make_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway with default settings and a password."""
    return make_gateway()


def inference_routes() -> list[Route]:
    """Return the inference rows of the table."""
    return [route for route in ROUTES if route.tier is Tier.C]


def with_settings(settings: Settings, **changes: Any) -> Settings:
    """Return settings with some fields changed."""
    return replace(settings, **changes)
