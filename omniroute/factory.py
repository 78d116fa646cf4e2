"""Builds the application: settings, storage, services, routes, in the order in which they need each other.

Nothing that owns a socket, thread, greenlet or lock outlives this module's functions: the tuned profile builds the
application once and forks the workers from it. What a worker needs beyond that starts in `runtime.lifecycle`.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import gevent
from flask import Flask

from omniroute import __version__, logging_setup
from omniroute.blueprints import dashboard, liveness, openapi
from omniroute.blueprints import guard as guards
from omniroute.blueprints.dashboard import api_pages, login
from omniroute.blueprints.inference import chat, counting, decisions, me, responses
from omniroute.blueprints.inference import models as inference_models
from omniroute.blueprints.inference.lane import Application, Lane
from omniroute.blueprints.management import (
    active,
    aliases,
    analytics,
    auth,
    backups,
    budgets,
    chains,
    cli_access,
    cli_tools,
    combos,
    configuration,
    connection_models,
    database,
    feature_flags,
    health,
    ip_filter,
    jobs,
    keys,
    logs,
    metrics,
    models,
    param_filters,
    policies,
    pricing,
    provider_imports,
    provider_models,
    provider_nodes,
    providers,
    proxies,
    purge,
    quotas,
    receipts,
    resilience,
    sessions,
    settings_ai,
    system,
    telemetry,
    translator,
    usage,
)
from omniroute.blueprints.management import routing as management_routing
from omniroute.blueprints.management import settings as management_settings
from omniroute.blueprints.management.uploads import OVERHEAD_BYTES
from omniroute.container import Container, attach
from omniroute.extensions import db, migrate
from omniroute.gateway.active import active_runs
from omniroute.gateway.admission import Admission
from omniroute.gateway.admitted import admitted_targets
from omniroute.gateway.clocks import Clocks
from omniroute.gateway.counting import Counting
from omniroute.gateway.directory import Directories
from omniroute.gateway.egress import Egress
from omniroute.gateway.inference import Inference
from omniroute.gateway.proxies import ProxyChoice
from omniroute.gateway.quotas import STALE_AFTER_S
from omniroute.gateway.resolver import Resolvers
from omniroute.gateway.routing import ResilienceInForce, Routing
from omniroute.gateway.session_keys import SessionKeys
from omniroute.gateway.stored_responses import StoredResponses
from omniroute.gateway.tokenizer import Tokenizer
from omniroute.gateway.transport import HttpTransport, OnDemand, RoutedTransport
from omniroute.providers import catalog
from omniroute.routing.config import effective
from omniroute.services import first_start, secrets_at_start
from omniroute.services import quotas as quota_service
from omniroute.services.access import AccessControl
from omniroute.services.access_tokens import AccessTokens
from omniroute.services.aliases import Aliases, Hits
from omniroute.services.analytics import Analytics
from omniroute.services.arbiter import Arbiter
from omniroute.services.audit import Audit
from omniroute.services.backups import Backups
from omniroute.services.body_capture import BodyCapture
from omniroute.services.budgets import BudgetEvents, Budgets
from omniroute.services.candidates import Candidates
from omniroute.services.catch_up import CatchUp
from omniroute.services.chains import Chains
from omniroute.services.checkups import Checkups
from omniroute.services.client_tools import ClientTools
from omniroute.services.combo_reports import ComboReports
from omniroute.services.combos import Combos
from omniroute.services.configuration import Configuration
from omniroute.services.connections import Connections
from omniroute.services.custom_models import CustomModels
from omniroute.services.database_care import DatabaseCare
from omniroute.services.decisions import Decisions
from omniroute.services.encryption_keys import EncryptionKeys
from omniroute.services.exports import Exports
from omniroute.services.health import Health
from omniroute.services.imports import Imports
from omniroute.services.in_flight import InFlight
from omniroute.services.ip_filter import AddressGate, IpFilter
from omniroute.services.jobs import PRUNE_S, Jobs
from omniroute.services.key_limits import KeyLimits
from omniroute.services.keys import Keys
from omniroute.services.locked import LockedOut
from omniroute.services.lockout import Lockout
from omniroute.services.log_feed import KeptLines, LogFeed, LogFile
from omniroute.services.login import Login
from omniroute.services.maintenance import Maintenance
from omniroute.services.metrics import Metrics, NoMetrics
from omniroute.services.model_catalog import ModelCatalog
from omniroute.services.model_sync import LOOK_S as LIST_LOOK_S
from omniroute.services.model_sync import ModelLists
from omniroute.services.model_tests import ModelTests
from omniroute.services.models import Models
from omniroute.services.nodes import Nodes
from omniroute.services.notices import SpendingWatch
from omniroute.services.param_filters import ProviderFilters
from omniroute.services.passwords import Passwords
from omniroute.services.price_sync import LOOK_S, PriceSync
from omniroute.services.prices import Prices
from omniroute.services.probe import Prober
from omniroute.services.provider_imports import ProviderImports
from omniroute.services.proxies import Proxies
from omniroute.services.quotas import ProviderQuotas
from omniroute.services.reach import Reach
from omniroute.services.receipts import Receipts
from omniroute.services.reconciliation import Reconciliation
from omniroute.services.replacement import Replacement
from omniroute.services.resilience import Resilience
from omniroute.services.response_store import ResponseStore
from omniroute.services.restore import Restore
from omniroute.services.retention import Retention
from omniroute.services.routing_settings import RoutingSettings
from omniroute.services.sessions import Sessions
from omniroute.services.setting_effects import SettingEffects
from omniroute.services.settings import RuntimeSettings, SettingsInForce
from omniroute.services.standings import Standings
from omniroute.services.telemetry import StickySessions, Telemetry
from omniroute.services.together import Parts
from omniroute.services.token_limits import TokenLimits
from omniroute.services.translator import Translator
from omniroute.services.translator_bench import Bench
from omniroute.services.translator_history import History
from omniroute.services.translator_send import ChatTester
from omniroute.services.usage import Usage
from omniroute.settings import Level, Settings
from omniroute.storage.body_files import BodyFiles
from omniroute.storage.database import Database, url_of
from omniroute.storage.ledger import Ledger
from omniroute.storage.log_writer import LogWriter
from omniroute.storage.repositories import ciphertext
from omniroute.storage.schema import ensure_schema
from omniroute.storage.snapshot import SnapshotHolder
from omniroute.storage.state import StateStore
from omniroute.storage.threads import is_cooperative

if TYPE_CHECKING:
    from omniroute.gateway.ports import Transport
    from omniroute.records import ApiKey, Snapshot
    from omniroute.routing.health import Notice

log = logging.getLogger(__name__)

_VIEWS = (
    liveness,
    chat,
    counting,
    responses,
    me,
    decisions,
    inference_models,
    active,
    aliases,
    analytics,
    auth,
    backups,
    budgets,
    chains,
    cli_access,
    cli_tools,
    combos,
    configuration,
    connection_models,
    feature_flags,
    database,
    health,
    ip_filter,
    jobs,
    keys,
    logs,
    metrics,
    models,
    param_filters,
    policies,
    pricing,
    provider_imports,
    provider_models,
    provider_nodes,
    providers,
    management_routing,
    management_settings,
    proxies,
    purge,
    quotas,
    receipts,
    resilience,
    settings_ai,
    sessions,
    system,
    telemetry,
    translator,
    usage,
    openapi,
    api_pages,
    dashboard,
)


def build(settings: Settings | None = None) -> Flask:
    """Return the application.

    Raises:
        ConfigurationError: the settings, the database or the route table do not allow a start.
    """
    settings = settings or Settings.load(os.environ, Path.cwd())
    os.umask(0o077)
    logging_setup.configure(settings)
    for notice in settings.notices:
        log.log(logging.WARNING if notice.level is Level.WARNING else logging.INFO, "%s", notice.text)
    for warning in first_start.refuse_unsafe_public_bind(settings):
        log.warning("%s", warning)
    app = Application(__name__)
    own = _container(settings)
    attach(app, own)
    _attach_database(app, settings)
    _attach_routes(app, own)
    _attach_cli(app)
    own.database.dispose()  # connections do not cross a fork
    return app


def _container(settings: Settings) -> Container:  # noqa: PLR0915 -- a list of parts, in the order of their needs
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(url_of(settings))
    backups = Backups(settings=settings, database=database, now=time.time)
    ensure_schema(database, backup=backups.create, log=log, data_dir=settings.data_dir)
    secrets = secrets_at_start.load_or_create(
        settings, stored_key_ids=lambda: database.read(ciphertext.stored_key_ids), log=log
    )
    cipher = secrets.cipher()
    snapshots = SnapshotHolder(database, cipher, now=time.time)
    audit = Audit(database=database, now=time.time)
    passwords = Passwords(database=database, now=time.time)
    first_start.ensure_password(
        passwords=passwords,
        audit=audit,
        initial_password=settings.initial_password,
        login_url=f"{settings.base_url}{settings.base_path}/login",
        announce=lambda text: print(text, flush=True),  # noqa: T201 -- the one place where it is shown, never a log
    )
    snapshots.refresh()
    in_force = _following(snapshots, SettingsInForce(settings, snapshots.current))
    reach = Reach(
        bind_host=settings.host,
        base_url=settings.base_url,
        allowed_origins=settings.allowed_origins,
        trust_proxy=settings.trust_proxy,
    )
    catch_up = CatchUp(snapshots.refresh, monotonic=time.monotonic, sleep=time.sleep)
    sessions = Sessions(
        database=database,
        snapshots=snapshots,
        reach=reach,
        signing_key=secrets.jwt_secret,
        now=time.time,
        catch_up=catch_up,
        base_path=settings.base_path,
        is_always_secure=settings.auth_cookie_secure,
    )
    lockout = _following(
        snapshots,
        Lockout(
            database=database,
            now=time.time,
            sleep=time.sleep,
            is_enabled=lambda: (
                not settings.is_loopback_bind
                or snapshots.current.settings.get(("security", "bruteForceProtection")) is not False
            ),
        ),
    )
    addresses = _following(snapshots, AddressGate(snapshots.current, reach=reach, now=time.time))
    catalogue = catalog.load(settings.providers_file)
    directories = _following(
        snapshots,
        Directories(catalogue, snapshots.current, default_context=lambda: in_force.current.context_length_default),
    )
    budget_events = BudgetEvents(audit)
    alias_hits = Hits(database)
    state = StateStore(database, time.time)
    routing = Routing.build(
        store=state,
        directories=directories,
        snapshot=snapshots.current,
        fixed=settings.resilience_overrides,
        gateway_version=__version__,
        tell=_tell_of_health,
        quota_stale_after_s=lambda: (
            2 * (in_force.current.provider_limits_sync_interval_minutes * 60 or STALE_AFTER_S / 2)
        ),
        on_alias=alias_hits.note,
    )
    snapshots.subscribe(routing.rebuild)
    egress = Egress(settings)
    proxy_choice = _following(snapshots, ProxyChoice(settings, egress, snapshots.current))
    transport = RoutedTransport(
        HttpTransport(guard=egress, now=time.monotonic, ca_bundle=settings.ca_bundle, proxies=proxy_choice),
        OnDemand(_sandbox),
    )
    session_keys = SessionKeys(secrets.api_key_secret)
    ledger = Ledger(database)
    admission = Admission(
        ledger=ledger,
        wall=time.time,
        sleep=time.sleep,
        default_per_day=settings.default_rate_limit_per_day,
        on_refused=budget_events.refused,
    )
    admission.rebuild(snapshots.current)
    snapshots.subscribe(admission.rebuild)
    request_log = LogWriter(database, settings.data_dir / "spool", on_crossing=budget_events.crossed)
    metrics = Metrics(settings.data_dir / "runtime" / "metrics") if in_force.current.metrics else NoMetrics()
    response_store = ResponseStore(database=database, cipher=cipher, now=time.time)
    inference = Inference(
        router=routing.router,
        sessions=session_keys,
        transport=transport,
        request_log=request_log,
        observer=metrics,
        clocks=Clocks.of(settings),
        now=time.monotonic,
        wall=time.time,
        sleep=time.sleep,
        max_in_flight=settings.worker_connections,
        sends_comments=settings.sse_comments,
        check_media_url=egress.check_foreign,
        proxies=proxy_choice,
        responses=response_store,
        admission=admission,
    )
    _following(snapshots, SettingEffects(in_force, inference, started_with=settings))
    bodies = BodyFiles(settings.data_dir / "bodies")
    body_capture = _following(
        snapshots,
        BodyCapture(
            bodies,
            inference=inference,
            settings=lambda: in_force.current,
            now=time.time,
            sleep=time.sleep,
            spawn=gevent.spawn if is_cooperative() else None,
        ),
    )
    prober = Prober(transport=transport, now=time.time, monotonic=time.monotonic, pause=lambda: time.sleep(0))
    model_lists = _following(
        snapshots,
        ModelLists(
            database=database,
            snapshots=snapshots,
            directories=directories,
            prober=prober,
            audit=audit,
            interval_h=lambda: in_force.current.model_sync_interval_hours,
            spacing_s=settings.provider_limits_sync_spacing_ms / 1000,
            now=time.time,
            sleep=time.sleep,
            spawn=gevent.spawn if is_cooperative() else None,
        ),
    )
    models_for_clients = _following(snapshots, _prepared(directories, routing))
    prices = Prices(database=database, directories=directories, audit=audit, now=time.time)
    price_sync = PriceSync(
        settings=lambda: in_force.current,
        database=database,
        directories=directories,
        prices=prices,
        transport=transport,
        audit=audit,
        now=time.time,
        monotonic=time.monotonic,
    )
    routing_settings = RoutingSettings(
        database=database,
        snapshots=snapshots,
        audit=audit,
        resolver=lambda: routing.resolvers.current,
        directory=lambda: directories.current,
        now=time.time,
    )
    provider_quotas = ProviderQuotas(
        snapshots=snapshots,
        directories=directories,
        quotas=routing.quotas,
        board=routing.board,
        store=state,
        transport=transport,
        config=lambda: effective([("global", routing_settings.combo_defaults()["config"])])[0],
        interval_s=lambda: in_force.current.provider_limits_sync_interval_minutes * 60,
        spacing_s=settings.provider_limits_sync_spacing_ms / 1000,
        now=time.time,
        monotonic=time.monotonic,
        sleep=time.sleep,
        spawn=gevent.spawn,
    )
    long_jobs = Jobs(database=database, now=time.time, monotonic=time.monotonic, sleep=time.sleep)
    maintenance = Maintenance(
        settings=settings,
        database=database,
        state=state,
        backups=backups,
        now=time.time,
        more={
            "prices": (price_sync.run_if_due, LOOK_S),
            "jobs": (long_jobs.prune, PRUNE_S),
            "provider-limits": (provider_quotas.run_due, quota_service.LOOK_S),
            "model-lists": (model_lists.run_due, LIST_LOOK_S),
        },
        on_crossing=budget_events.crossed,
        current=lambda: in_force.current,
        bodies=bodies,
    )
    runtime = settings.data_dir / "runtime"
    encryption_keys = EncryptionKeys(settings=settings, database=database, audit=audit)
    backups.use(snapshots=snapshots, audit=audit)
    backups.after_each(encryption_keys.forget_previous)

    def try_out(snapshot: Snapshot) -> None:
        """Build what follows snapshots beside what serves: what fails here would fail in every worker."""
        directory = Directories(catalogue, snapshot, default_context=lambda: in_force.current.context_length_default)
        Resolvers(directory, snapshot)
        ResilienceInForce(snapshot, settings.resilience_overrides)
        SettingsInForce(settings, snapshot)
        AddressGate(snapshot, reach=reach, now=time.time)
        ProxyChoice(settings, egress, snapshot)

    replacement = Replacement(
        settings=settings,
        database=database,
        backups=backups,
        cipher=cipher,
        previous=encryption_keys.previous,
        try_out=try_out,
        now=time.time,
    )

    def on_canary(key: ApiKey, address: str) -> None:
        audit.record("key.canary_used", actor=f"key:{key.id}", outcome="denied", target_id=key.id, address=address)

    def on_guess(address: str) -> None:
        if lockout.count_guess(address):
            audit.record(
                "authz.denied",
                actor="anonymous",
                outcome="denied",
                address=address,
                details={"code": "locked", "by": "api_key"},
            )

    keys_service = Keys(
        database=database,
        snapshots=snapshots,
        audit=audit,
        tag_key=secrets.api_key_secret,
        now=time.time,
        cipher=cipher if settings.allow_key_reveal else None,
    )
    keys_service.forget_readable()
    login = Login(
        passwords=passwords, sessions=sessions, lockout=lockout, audit=audit, database=database, now=time.time
    )
    access_tokens = AccessTokens(database=database, audit=audit, admit=login.admit, now=time.time)
    access = AccessControl(
        snapshots=snapshots,
        reach=reach,
        sessions=sessions,
        now=time.time,
        env_api_key=settings.env_api_key,
        require_api_key=settings.require_api_key,
        loopback_keyless=settings.loopback_keyless,
        cli_token=lambda: first_start.read_cli_token(runtime),
        on_canary=on_canary,
        is_ours=keys_service.has_valid_tag,
        catch_up=catch_up,
        on_guess=on_guess,
        on_token_use=access_tokens.note_use,
        no_log_key_ids=settings.no_log_api_key_ids,
        page_origins=settings.cors_allowed_origins,
    )
    standings = Standings(
        board=routing.board, directories=directories, now=time.time, on_forgotten=routing.quotas.forget
    )
    connections = Connections(
        database=database,
        cipher=cipher,
        audit=audit,
        directories=directories,
        egress=egress,
        prober=prober,
        standings=standings,
        now=time.time,
        request_log=request_log,
        snapshots=snapshots,
    )
    parts = Parts(
        settings=settings,
        database=database,
        cipher=cipher,
        directories=directories,
        routing=routing,
        egress=egress,
        prober=prober,
        standings=standings,
        audit=audit,
        now=time.time,
    )
    resilience = Resilience(
        database=database,
        snapshots=snapshots,
        audit=audit,
        routing=routing,
        directories=directories,
        fixed=settings.resilience_overrides,
        now=time.time,
    )
    usage_of_requests = Usage(database=database, snapshots=snapshots, now=time.time)
    telemetry = Telemetry(database=database, now=time.time)
    model_catalog = ModelCatalog(
        directories=directories,
        snapshots=snapshots,
        view=routing.view,
        version=lambda: models_for_clients.version,
        now=time.time,
    )
    combos_service = Combos(
        database=database,
        snapshots=snapshots,
        audit=audit,
        resolver=lambda: routing.resolvers.current,
        directory=lambda: directories.current,
        now=time.time,
    )
    translator_service = Translator(directory=lambda: directories.current, now=time.monotonic, wall=time.time)
    chat_tester = ChatTester(
        inference=inference,
        snapshots=snapshots,
        no_log_key_ids=frozenset(settings.no_log_api_key_ids),
        now=time.monotonic,
        wall=time.time,
    )
    return Container(
        settings=settings,
        secrets=secrets,
        database=database,
        snapshots=snapshots,
        request_log=request_log,
        audit=audit,
        passwords=passwords,
        sessions=sessions,
        lockout=lockout,
        locked_out=LockedOut(database=database, lockout=lockout, audit=audit, now=time.time),
        addresses=addresses,
        ip_filter=IpFilter(database=database, snapshots=snapshots, audit=audit, now=time.time),
        in_force=in_force,
        runtime_settings=RuntimeSettings(
            database=database, snapshots=snapshots, in_force=in_force, audit=audit, now=time.time
        ),
        parts=parts,
        configuration=Configuration(parts),
        login=login,
        keys=keys_service,
        access=access,
        access_tokens=access_tokens,
        connections=connections,
        provider_imports=ProviderImports(connections=connections, now=time.time),
        provider_filters=ProviderFilters(
            database=database, snapshots=snapshots, directories=directories, audit=audit, now=time.time
        ),
        nodes=Nodes(
            database=database,
            cipher=cipher,
            audit=audit,
            directories=directories,
            egress=egress,
            prober=prober,
            now=time.time,
        ),
        models=models_for_clients,
        model_catalog=model_catalog,
        model_lists=model_lists,
        model_tests=ModelTests(
            directories=directories,
            prober=prober,
            checkups=Checkups(prober=prober, now=time.time, request_log=request_log),
            spacing_s=settings.provider_limits_sync_spacing_ms / 1000,
            now=time.time,
            sleep=time.sleep,
        ),
        custom_models=CustomModels(database=database, directories=directories, audit=audit, now=time.time),
        directories=directories,
        routing=routing,
        combos=combos_service,
        combo_reports=ComboReports(
            database=database,
            snapshots=snapshots,
            audit=audit,
            resolver=lambda: routing.resolvers.current,
            prober=prober,
            checkups=Checkups(prober=prober, now=time.time, request_log=request_log),
            now=time.time,
        ),
        aliases=Aliases(database=database, audit=audit, hits=alias_hits, now=time.time),
        alias_hits=alias_hits,
        chains=Chains(database=database, audit=audit, directories=directories, now=time.time),
        candidates=Candidates(resolver=lambda: routing.resolvers.current, view=routing.view, now=time.time),
        routing_settings=routing_settings,
        quotas=provider_quotas,
        resilience=resilience,
        egress=egress,
        proxies=Proxies(
            settings=settings,
            database=database,
            cipher=cipher,
            snapshots=snapshots,
            audit=audit,
            directories=directories,
            egress=egress,
            choice=proxy_choice,
            transport=transport.http,
            now=time.time,
            monotonic=time.monotonic,
        ),
        prices=prices,
        price_sync=price_sync,
        budgets=Budgets(database=database, ledger=ledger, snapshots=snapshots, audit=audit, now=time.time),
        token_limits=TokenLimits(
            ledger=ledger, snapshots=snapshots, directories=directories, audit=audit, now=time.time
        ),
        key_limits=KeyLimits(ledger=ledger, default_per_day=settings.default_rate_limit_per_day, now=time.time),
        receipts=Receipts(database=database),
        reconciliation=Reconciliation(database=database, directories=directories, rest=lambda: time.sleep(0)),
        usage=usage_of_requests,
        analytics=Analytics(database=database, snapshots=snapshots, now=time.time),
        retention=Retention(
            settings=lambda: in_force.current, database=database, bodies=bodies, now=time.time, sleep=time.sleep
        ),
        body_capture=body_capture,
        in_flight=InFlight(
            runtime / "in-flight",
            runs=lambda: active_runs(inference),
            cancel=inference.cancel,
            now=time.time,
            monotonic=time.monotonic,
            sleep=time.sleep,
        ),
        jobs=long_jobs,
        decisions=Decisions(
            database=database,
            snapshots=snapshots,
            resolver=lambda: routing.resolvers.current,
            sessions=session_keys,
            view=routing.view,
            now=time.time,
        ),
        health=Health(
            settings=settings,
            database=database,
            snapshots=snapshots,
            now=time.time,
            monotonic=time.monotonic,
            started_at=time.time(),
            log_state=request_log.stats,
            body_state=body_capture.stats,
            audit_failures=lambda: audit.failed_writes,
            jobs=maintenance.last_runs,
            intervals=maintenance.intervals,
            last_backup_at=lambda: next((item.created_at for item in backups.list_all()), None),
            resting=resilience.state,
            spending=SpendingWatch(database=database, snapshot=lambda: snapshots.current, now=time.time).notices,
            latency=lambda: telemetry.summary().providers,
            kept=inference.reasoning,
            in_flight=lambda: len(inference.runs),
        ),
        telemetry=telemetry,
        sticky_sessions=StickySessions(database=database, snapshots=snapshots, audit=audit, now=time.time),
        log_feed=LogFeed(source=_log_source(settings), usage=usage_of_requests),
        database_care=DatabaseCare(
            settings=settings, database=database, backups=backups, jobs=long_jobs, audit=audit, now=time.time
        ),
        arbiter=Arbiter(runtime=runtime, audit=audit),
        backups=backups,
        restore=Restore(backups=backups, replacement=replacement, audit=audit),
        imports=Imports(replacement=replacement, audit=audit, most_bytes=settings.db_import_max_mb << 20),
        exports=Exports(settings=settings, database=database, audit=audit, now=time.time),
        encryption_keys=encryption_keys,
        maintenance=maintenance,
        inference=inference,
        counting=Counting(
            targets=lambda caller, model, provider: admitted_targets(
                routing.resolvers.current, caller, model, provider
            ),
            send=transport.send,
            now=time.monotonic,
            exactly=Tokenizer().count,
        ),
        stored_responses=StoredResponses(
            store=response_store,
            resolve=lambda name: directories.current.resolve(name),  # noqa: PLW0108 -- of the current configuration
            send=transport.send,
            now=time.monotonic,
            wall=time.time,
        ),
        transport=transport,
        metrics=metrics,
        client_tools=ClientTools(
            base_url=f"{settings.base_url}{settings.base_path}",
            is_writing_allowed=settings.cli_allow_config_writes,
            home=Path.home,
            environ=os.environ,
            combos=combos_service,
            routing=routing_settings,
            catalog=model_catalog,
            keys=keys_service,
            audit=audit,
        ),
        translator=translator_service,
        bench=Bench(
            translator=translator_service,
            tester=chat_tester,
            directory=lambda: directories.current,
            spacing_s=settings.provider_limits_sync_spacing_ms / 1000,
            sleep=time.sleep,
            now=time.monotonic,
            wall=time.time,
        ),
        chat_tester=chat_tester,
        translator_history=_following(
            snapshots,
            History(
                runtime,
                inference=inference,
                database=database,
                snapshots=snapshots,
                audit=audit,
                now=time.time,
            ),
        ),
    )


class _Follower(Protocol):
    def rebuild(self, snapshot: Snapshot) -> None: ...


_F = TypeVar("_F", bound=_Follower)


def _following(snapshots: SnapshotHolder, made: _F) -> _F:
    """Have something told of every new snapshot from now on, after those that were told before it."""
    snapshots.subscribe(made.rebuild)
    return made


def _prepared(directories: Directories, routing: Routing) -> Models:
    """Return the lists for clients; where requests will be served, what they are made of is ready before the fork."""
    is_served = is_cooperative()
    lists = Models(
        directories=directories,
        resolver=lambda: routing.resolvers.current,
        spawn=gevent.spawn if is_served else None,
        sleep=time.sleep,
    )
    if is_served:
        lists.prepare(pause=lambda: None)
    return lists


def _log_source(settings: Settings) -> LogFile | KeptLines:
    """Return where the lines of the application log can be read."""
    kept = logging_setup.last_lines()
    return KeptLines(kept) if kept is not None else LogFile(settings.log_file, settings.app_log_max_files)


def _tell_of_health(notice: Notice) -> None:
    log.warning("%s", notice)


def _sandbox() -> Transport:
    from omniroute.gateway.sandbox_transport import SandboxTransport

    return SandboxTransport(now=time.monotonic)


def _attach_database(app: Flask, settings: Settings) -> None:
    """Give Flask-SQLAlchemy and Flask-Migrate what `flask db …` needs; requests use `Database` alone."""
    url = url_of(settings)
    app.config["SQLALCHEMY_DATABASE_URI"] = url.replace("postgresql://", "postgresql+psycopg://", 1)
    db.init_app(app)
    migrate.init_app(app, db)


def _attach_routes(app: Application, own: Container) -> None:
    settings = own.settings
    guard = guards.Guard(
        access=own.access,
        sessions=own.sessions,
        audit=own.audit,
        now=time.time,
        inference_body_limit=settings.chat_max_body_bytes,
        body_limit=settings.max_body_size_bytes,
        upload_limit=(settings.db_import_max_mb << 20) + OVERHEAD_BYTES,
        cors_origins=settings.cors_allowed_origins,
        is_draining=lambda: own.inference.is_draining,
        addresses=own.addresses,
    )
    guard.init_app(app)
    dashboard.init_app(
        app,
        signing_key=own.secrets.jwt_secret,
        base_path=settings.base_path,
        is_cookie_secure=settings.auth_cookie_secure,
    )
    for module in _VIEWS:
        app.register_blueprint(module.blueprint)
    guard.on_interrupted = login.interrupted
    guard.seal(app)
    app.lane = Lane(guard, own)


def _attach_cli(app: Flask) -> None:
    from omniroute.cli import group

    app.cli.add_command(group, "omniroute")
