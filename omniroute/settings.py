"""Everything the server reads from its environment, once, in one immutable object. Known to all rings.

The class body below is the table of settings: a field, its type, its default, the variable that sets it, what values
that takes and what it means. Documentation, `.env.example`, `omniroute env` and the tests are compared with it.

A variable is looked up by name through the sources in order (command line, process environment, `DATA_DIR/.env`,
`./.env`); when the main name is set nowhere, its older spellings are tried the same way. A value that does not fit
stops the start: nothing is replaced by a default behind the operator's back. Messages name the variable, what it
accepts and where the value came from, never the value.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from omniroute.errors import ConfigurationError
from omniroute.records import Proxy, ProxyType
from omniroute.secret import Secret

DEFAULT_PORT: Final = 20128
PRICE_LIST_URL: Final = (
    "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
)
PUBLIC_IP_URL: Final = "https://api.ipify.org"
_DAY_MS: Final = 86_400_000
_FILE_SUFFIX: Final = "_FILE"
_PREFIX: Final = "OMNIROUTE_"
# Set by the program itself for the processes that it starts; not settings, so no warning when they are seen.
_INTERNAL_NAMES: Final = frozenset({"OMNIROUTE_RUNTIME"})
# Other programs read these too: a `.env` in the working directory may well be theirs (a Rails or Node project's).
_SHARED_NAMES: Final = frozenset(
    {"DATABASE_URL", "HOST", "HOSTNAME", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    | {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
)
_DATA_DIR_NAMES: Final = ("DATA_DIR", "OMNIROUTE_DATA_DIR")
# Limits and switches of other releases whose names lack the prefix: who sets one must not believe that it holds here.
_OTHER_RELEASES: Final = frozenset(
    {"CREDENTIAL_REDACTION_ENABLED", "PII_REDACTION_ENABLED", "PII_RESPONSE_SANITIZATION", "INPUT_SANITIZER_MODE"}
)


class Level(StrEnum):
    """How loudly a notice is told."""

    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the configuration that the operator should see at start."""

    level: Level
    text: str

    def __str__(self) -> str:
        return self.text


class Section(StrEnum):
    """Headings under which settings are documented."""

    CORE = "Core"
    PROCESS = "Server process"
    STORAGE = "Storage"
    SECURITY = "Security"
    INFERENCE = "Inference"
    RESILIENCE = "Resilience"
    PROVIDERS = "Providers"
    LOGGING = "Logging"


# --- types: text in, value out ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value: its name in the documentation, what it accepts in words, and the reader.

    The reader gets the text and the directory that relative paths start from, and raises `ValueError` for a text that
    it does not accept.
    """

    name: str
    accepts: str
    read: Callable[[str, Path], Any]
    is_secret: bool = False


def _read_bool(text: str, _base: Path) -> bool:
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
        case _:
            raise ValueError


def _whole(name: str, low: int, high: int | None) -> Kind:
    def read(text: str, _base: Path) -> int:
        # int() alone also takes "1_000", "+5" and digits of other scripts.
        if not re.fullmatch(r"-?[0-9]{1,15}", text.strip()):
            raise ValueError
        number = int(text)
        if number < low or (high is not None and number > high):
            raise ValueError
        return number

    accepts = f"a whole number from {low} to {high}" if high is not None else f"a whole number, {low} or more"
    return Kind(name, accepts, read)


def _int(low: int, high: int | None = None) -> Kind:
    return _whole("int", low, high)


def _dur_ms(low: int = 1, high: int = _DAY_MS) -> Kind:
    kind = _whole("dur-ms", low, high)
    return dataclasses.replace(kind, accepts=kind.accepts.replace("whole number", "whole number of milliseconds"))


def _dur_s(low: int = 1, high: int = 31_536_000) -> Kind:
    kind = _whole("dur-s", low, high)
    return dataclasses.replace(kind, accepts=kind.accepts.replace("whole number", "whole number of seconds"))


def _days(low: int = 0, high: int = 36_500) -> Kind:
    kind = _whole("days", low, high)
    return dataclasses.replace(kind, accepts=kind.accepts.replace("whole number", "whole number of days"))


def _size(low: int = 1) -> Kind:
    def read(text: str, _base: Path) -> int:
        found = re.fullmatch(r"([0-9]{1,15})([KMG]?)", text.strip().upper())
        if found is None:
            raise ValueError
        number = int(found[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[found[2]]
        if number < low:
            raise ValueError
        return number

    return Kind("size", f"bytes, or a number followed by K, M or G; {low} or more", read)


def _choice(*words: str) -> Kind:
    def read(text: str, _base: Path) -> str:
        word = text.strip().lower()
        if word not in words:
            raise ValueError
        return word

    return Kind("choice", "one of " + ", ".join(words), read)


def _text(longest: int) -> Kind:
    def read(text: str, _base: Path) -> str:
        text = text.strip()
        if len(text) > longest or not text.isprintable():
            raise ValueError
        return text

    return Kind("text", f"printable text of at most {longest} characters", read)


def _read_list(text: str, _base: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for part in (piece.strip() for piece in text.split(",")) if part))


def _read_path(text: str, base: Path) -> Path:
    if "\0" in text:
        raise ValueError
    return base / Path(text.strip()).expanduser()


def _read_existing_file(text: str, base: Path) -> Path:
    path = _read_path(text, base)
    if not path.is_file():
        raise ValueError
    return path


_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")


def _read_host(text: str, _base: Path) -> str:
    host = text.strip().removeprefix("[").removesuffix("]")
    if not _is_address(host) and (not _HOST_NAME.fullmatch(host) or host.replace(".", "").isdigit()):
        raise ValueError
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _read_url(text: str, _base: Path) -> str:
    url = text.strip()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError
    if parts.username is not None or re.search(r"\s", url) or parts.port == 0:
        raise ValueError
    return url.rstrip("/")


def _read_url_or_off(text: str, base: Path) -> str | None:
    return None if text.strip().lower() == "off" else _read_url(text, base)


_PROXY_PORTS: Final = {
    ProxyType.HTTP: 80,
    ProxyType.HTTPS: 443,
    ProxyType.SOCKS5: 1080,
    ProxyType.SOCKS5H: 1080,
}


def _read_proxy(text: str, _base: Path) -> Proxy:
    url = text.strip()
    if re.search(r"[^\x21-\x7e]", url):
        raise ValueError
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.port == 0:
        raise ValueError
    kind = ProxyType(parts.scheme)
    username, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    if not all(part is None or part.isprintable() for part in (username, password)):
        raise ValueError
    return Proxy(
        id="",
        name="the environment's proxy",
        type=kind,
        host=_proxy_host(parts.hostname or ""),
        port=parts.port or _PROXY_PORTS[kind],
        username=username or None,
        password=Secret(password) if username and password else None,
    )


def _proxy_host(host: str) -> str:
    if not _is_address(host) and not re.fullmatch(r"[a-z0-9_][a-z0-9_.-]{0,252}", host):
        raise ValueError
    return host


def _read_database_url(text: str, _base: Path) -> str:
    url = text.strip()
    if not re.fullmatch(r"(sqlite:///|postgres(ql)?(\+psycopg)?://)\S+", url):
        raise ValueError
    return url


def _read_base_path(text: str, _base: Path) -> str:
    path = text.strip().rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError
    return path


def _read_origins(text: str, base: Path) -> tuple[str, ...]:
    origins = _read_list(text, base)
    for origin in origins:
        parts = urlsplit(_read_url(origin, base))
        if parts.path or not parts.netloc:
            raise ValueError
    return tuple(origin.rstrip("/").lower() for origin in origins)


def _read_trust_proxy(text: str, base: Path) -> str:
    if re.fullmatch(r"[0-9]{1,2}", text.strip()):
        return str(int(text)) if 1 <= int(text) <= 16 else _refuse()
    networks = [str(ipaddress.ip_network(item, strict=False)) for item in _read_list(text, base)]
    return ",".join(networks) if networks else _refuse()


_CRON_FIELDS: Final = (
    (0, 59, ""),
    (0, 23, ""),
    (1, 31, ""),
    (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
)
_CRON_DAYS: Final = (0, 7, "sun mon tue wed thu fri sat")


def cron_of(text: str) -> str:
    """Return a schedule of five fields in lower case, or `off`.

    Raises:
        ValueError: it is neither.
    """
    words = text.strip().lower().split()
    if words == ["off"]:
        return "off"
    for word, (low, high, names) in zip(words, (*_CRON_FIELDS, _CRON_DAYS), strict=True):
        for part in word.split(","):
            found = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9][0-9]{0,3}))?", part, re.ASCII)
            if found is None:
                raise ValueError
            first, last = (_cron_number(name, low, high, names) for name in found.groups()[:2])
            if first is not None and last is not None and first > last:
                raise ValueError
    return " ".join(words)


def _cron_number(name: str | None, low: int, high: int, names: str) -> int | None:
    if name is None:
        return None
    number = names.split().index(name) + low if name in names.split() else int(name)
    if not low <= number <= high:
        raise ValueError
    return number


def _refuse() -> str:
    raise ValueError


_BOOL: Final = Kind("bool", "true or false (also 1/0, yes/no, on/off)", _read_bool)
_SWITCH: Final = Kind("switch", "on or off (also true/false, 1/0, yes/no)", _read_bool)
_LIST: Final = Kind("list", "words separated by commas", _read_list)
_ORIGINS: Final = Kind("list", "origins such as https://chat.example.com, separated by commas", _read_origins)
_PATH: Final = Kind("path", "a path", _read_path)
_EXISTING_FILE: Final = Kind("path", "the path of an existing file", _read_existing_file)
_SECRET: Final = Kind("secret", "a secret text", lambda text, _base: Secret(text), is_secret=True)
_HOST: Final = Kind("address", "an IP address or a host name", _read_host)
_URL: Final = Kind("URL", "an http:// or https:// URL without user, query and fragment", _read_url)
_URL_OR_OFF: Final = Kind("URL", f"{_URL.accepts}, or off", _read_url_or_off)
_PROXY: Final = Kind(
    "secret URL", "an http://, https://, socks5:// or socks5h:// URL without a path", _read_proxy, is_secret=True
)
_BASE_PATH: Final = Kind("path", "empty, or a URL path such as /gateway", _read_base_path)
_CRON: Final = Kind("cron", "five fields of cron, or off", lambda text, _base: cron_of(text))
_TRUST_PROXY: Final = Kind(
    "proxies", "a number of hops from 1 to 16, or networks such as 10.0.0.0/8", _read_trust_proxy
)
_DATABASE: Final = Kind(
    "secret URL", "sqlite:///path or postgresql://user:password@host/name", _read_database_url, is_secret=True
)


# --- the table ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variable:
    """How one field of `Settings` is set and documented.

    Attributes:
        aliases: Other spellings, tried in order when `name` is set nowhere.
        shown_default: The default in words, where the plain value would not say it.
        new_spelling_notice: Older spellings whose use is answered with a hint.
        quiet_aliases: Spellings that are expected to be set beside the main name with another value.
    """

    name: str
    kind: Kind
    section: Section
    doc: str
    aliases: tuple[str, ...] = ()
    shown_default: str | None = None
    new_spelling_notice: frozenset[str] = frozenset()
    quiet_aliases: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """The main name, then its other spellings."""
        return (self.name, *self.aliases)


def _set_by(name: str, kind: Kind, default: object, section: Section, doc: str, **more: Any) -> Any:
    """Declare a field that the variable `name` sets."""
    variable = Variable(name, kind, section, doc, **more)
    # Not in repr: a Settings object that ends up in a log or a traceback must not take a password along.
    return field(default=default, metadata={"variable": variable}, repr=not kind.is_secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of one server process; see the module's text for where values come from."""

    # --- core
    data_dir: Path = field(
        metadata={
            "variable": Variable(
                "DATA_DIR",
                _PATH,
                Section.CORE,
                "Directory of the database, secrets, backups and logs.",
                aliases=("OMNIROUTE_DATA_DIR",),
                shown_default="~/.omniroute",
            )
        }
    )
    port: int = _set_by(
        "OMNIROUTE_PORT",
        _int(1, 65_535),
        DEFAULT_PORT,
        Section.CORE,
        "The one port; wins over PORT, which a shared environment may set for another program.",
        aliases=("PORT",),
        quiet_aliases=frozenset({"PORT"}),
    )
    host: str = _set_by(
        "OMNIROUTE_HOST",
        _HOST,
        "127.0.0.1",
        Section.CORE,
        "Bind address. HOSTNAME counts only when it is an IP address or localhost.",
        aliases=("HOST", "HOSTNAME"),
        quiet_aliases=frozenset({"HOSTNAME"}),
    )
    base_url: str = _set_by(
        "BASE_URL",
        _URL,
        f"http://localhost:{DEFAULT_PORT}",
        Section.CORE,
        "Address by which users reach the server: redirects, snippets, allowed origin. "
        "A host that is not loopback ends keyless use from loopback.",
        aliases=("OMNIROUTE_PUBLIC_BASE_URL", "NEXT_PUBLIC_BASE_URL"),
        new_spelling_notice=frozenset({"NEXT_PUBLIC_BASE_URL"}),
        shown_default="http://localhost:<port>",
    )
    base_path: str = _set_by(
        "OMNIROUTE_BASE_PATH", _BASE_PATH, "", Section.CORE, "URL prefix under which a proxy publishes the server."
    )
    instance_name: str = _set_by(
        "OMNIROUTE_INSTANCE_NAME",
        _text(100),
        "",
        Section.CORE,
        "Name of this server in page headers.",
        shown_default="host name",
    )

    # --- server process
    web_concurrency: int = _set_by("WEB_CONCURRENCY", _int(1, 64), 2, Section.PROCESS, "Worker processes.")
    worker_connections: int = _set_by(
        "OMNIROUTE_WORKER_CONNECTIONS",
        _int(1, 100_000),
        1000,
        Section.PROCESS,
        "Requests that one worker serves at the same time.",
    )
    memory_mb: int = _set_by(
        "OMNIROUTE_MEMORY_MB",
        _int(64, 16_384),
        512,
        Section.PROCESS,
        "Memory at which a worker is replaced by a fresh one, after its running streams have ended.",
    )
    shutdown_timeout_ms: int = _set_by(
        "SHUTDOWN_TIMEOUT_MS", _dur_ms(0), 30_000, Section.PROCESS, "Time that running requests get to end at a stop."
    )
    trust_proxy: str | None = _set_by(
        "OMNIROUTE_TRUST_PROXY",
        _TRUST_PROXY,
        None,
        Section.PROCESS,
        "Proxies whose forwarding headers are believed: a number of hops, or networks.",
    )
    scheduler: str = _set_by(
        "OMNIROUTE_SCHEDULER",
        _choice("auto", "off"),
        "auto",
        Section.PROCESS,
        "Background jobs: in one elected worker (auto), or not in this server (off).",
    )
    disable_background_services: bool = _set_by(
        "OMNIROUTE_DISABLE_BACKGROUND_SERVICES", _BOOL, False, Section.PROCESS, "The same as OMNIROUTE_SCHEDULER=off."
    )
    metrics: bool = _set_by("OMNIROUTE_METRICS", _SWITCH, False, Section.PROCESS, "Prometheus metrics at /metrics.")
    max_body_size_bytes: int = _set_by(
        "MAX_BODY_SIZE_BYTES", _size(), 10 << 20, Section.PROCESS, "Largest body of a management request."
    )
    chat_max_body_bytes: int = _set_by(
        "OMNIROUTE_CHAT_MAX_BODY_BYTES",
        _size(),
        50 << 20,
        Section.PROCESS,
        "Largest JSON body of an inference request.",
    )
    client_read_timeout_ms: int = _set_by(
        "CLIENT_READ_TIMEOUT_MS", _dur_ms(), 30_000, Section.PROCESS, "Time a client has to send its request."
    )
    client_write_timeout_ms: int = _set_by(
        "CLIENT_WRITE_TIMEOUT_MS",
        _dur_ms(),
        60_000,
        Section.PROCESS,
        "Time a client may leave a piece of the answer unread.",
    )

    # --- storage
    database_url: str | None = _set_by(
        "DATABASE_URL",
        _DATABASE,
        None,
        Section.STORAGE,
        "SQLite or PostgreSQL database. One that holds another program's tables is refused.",
        aliases=("OMNIROUTE_DATABASE_URL",),
        shown_default="sqlite:///<DATA_DIR>/storage.sqlite",
    )
    disable_sqlite_auto_backup: bool = _set_by(
        "DISABLE_SQLITE_AUTO_BACKUP",
        _BOOL,
        False,
        Section.STORAGE,
        "No automatic snapshots; those made by hand and before a migration stay.",
    )
    db_backup_max_files: int = _set_by(
        "DB_BACKUP_MAX_FILES", _int(1, 10_000), 20, Section.STORAGE, "Snapshots that are kept."
    )
    db_backup_retention_days: int = _set_by(
        "DB_BACKUP_RETENTION_DAYS", _days(), 0, Section.STORAGE, "Age at which a snapshot is deleted; 0: by count only."
    )
    db_backup_cron: str = _set_by(
        "DB_BACKUP_CRON",
        _CRON,
        "0 3 * * *",
        Section.STORAGE,
        "When a snapshot is made by itself, in the time zone of the server.",
    )
    db_import_max_mb: int = _set_by(
        "DB_IMPORT_MAX_MB", _int(1, 4096), 100, Section.STORAGE, "Largest database file that can be imported."
    )
    call_log_retention_days: int = _set_by(
        "CALL_LOG_RETENTION_DAYS", _days(1), 7, Section.STORAGE, "Age at which a row of the request log is deleted."
    )
    call_log_max_rows: int = _set_by(
        "CALL_LOG_MAX_ROWS", _int(1, 1_000_000_000), 100_000, Section.STORAGE, "Rows of the request log that are kept."
    )
    call_log_capture_bodies: str = _set_by(
        "CALL_LOG_CAPTURE_BODIES",
        _choice("off", "errors", "all"),
        "off",
        Section.STORAGE,
        "Of which requests bodies are kept: of none, of those that failed, or of all.",
    )
    body_retention_days: int = _set_by(
        "BODY_RETENTION_DAYS", _days(1), 3, Section.STORAGE, "Age at which captured bodies are deleted."
    )
    body_max_bytes: int = _set_by(
        "BODY_MAX_BYTES",
        _size(1 << 20),
        1 << 30,
        Section.STORAGE,
        "Room for captured bodies; the oldest are deleted for new ones.",
    )
    usage_hourly_retention_days: int = _set_by(
        "USAGE_HOURLY_RETENTION_DAYS", _days(1), 90, Section.STORAGE, "Age at which sums of usage by hour are deleted."
    )
    usage_daily_retention_days: int = _set_by(
        "USAGE_DAILY_RETENTION_DAYS", _days(1), 400, Section.STORAGE, "Age at which sums of usage by day are deleted."
    )
    audit_retention_days: int = _set_by(
        "AUDIT_RETENTION_DAYS", _days(1), 90, Section.STORAGE, "Age at which an audit row is deleted."
    )
    no_log_api_key_ids: tuple[str, ...] = _set_by(
        "NO_LOG_API_KEY_IDS", _LIST, (), Section.STORAGE, "Ids of API keys whose requests leave no row in the log."
    )

    # --- security
    jwt_secret: Secret | None = _set_by(
        "JWT_SECRET",
        _SECRET,
        None,
        Section.SECURITY,
        "Signs dashboard sessions; at least 32 characters.",
        shown_default="generated",
    )
    api_key_secret: Secret | None = _set_by(
        "API_KEY_SECRET",
        _SECRET,
        None,
        Section.SECURITY,
        "Makes the tag at the end of API keys; at least 32 characters.",
        shown_default="generated",
    )
    encryption_key: Secret | None = _set_by(
        "OMNIROUTE_ENCRYPTION_KEY",
        _SECRET,
        None,
        Section.SECURITY,
        "Opens the stored credentials: 32 bytes as base64 or hex, or a passphrase of at least 32 characters. "
        "Whoever loses it loses them.",
        aliases=("STORAGE_ENCRYPTION_KEY", "OMNIROUTE_CRYPT_KEY"),
        shown_default="generated",
    )
    initial_password: Secret | None = _set_by(
        "INITIAL_PASSWORD",
        _SECRET,
        None,
        Section.SECURITY,
        "First dashboard password; without effect once a password exists.",
        shown_default="generated",
    )
    default_rate_limit_per_day: int = _set_by(
        "DEFAULT_RATE_LIMIT_PER_DAY",
        _int(0, 1_000_000_000),
        0,
        Section.SECURITY,
        "Requests a day of API keys without rules of their own; 0: no such rule.",
    )
    require_api_key: bool = _set_by(
        "REQUIRE_API_KEY", _BOOL, False, Section.SECURITY, "Loopback callers need an API key too; others always do."
    )
    loopback_keyless: str = _set_by(
        "OMNIROUTE_LOOPBACK_KEYLESS",
        _choice("auto", "true", "false"),
        "auto",
        Section.SECURITY,
        "Inference from this machine without a key; auto: only while BASE_URL is a loopback address.",
    )
    env_api_key: Secret | None = _set_by(
        "OMNIROUTE_API_KEY",
        _SECRET,
        None,
        Section.SECURITY,
        "One more inference key that is always valid and is stored nowhere.",
        aliases=("ROUTER_API_KEY",),
        shown_default="unset",
    )
    allow_key_reveal: bool = _set_by(
        "ALLOW_API_KEY_REVEAL",
        _BOOL,
        False,
        Section.SECURITY,
        "API keys made from now on are also kept encrypted, so that an admin can see them again.",
    )
    cli_allow_config_writes: bool = _set_by(
        "CLI_ALLOW_CONFIG_WRITES",
        _BOOL,
        False,
        Section.SECURITY,
        "Admins on this machine may let the server write configuration files of coding tools of its own user.",
    )
    auth_cookie_secure: bool = _set_by(
        "AUTH_COOKIE_SECURE", _BOOL, False, Section.SECURITY, "Always mark the session cookie Secure."
    )
    allowed_origins: tuple[str, ...] = _set_by(
        "OMNIROUTE_ALLOWED_ORIGINS", _ORIGINS, (), Section.SECURITY, "Further origins that may use the dashboard."
    )
    cors_allowed_origins: tuple[str, ...] = _set_by(
        "CORS_ALLOWED_ORIGINS",
        _ORIGINS,
        (),
        Section.SECURITY,
        "Origins whose pages may call the inference routes.",
        aliases=("CORS_ORIGIN",),
    )
    ssrf_guard_enabled: bool = _set_by(
        "OUTBOUND_SSRF_GUARD_ENABLED",
        _BOOL,
        True,
        Section.SECURITY,
        "Refuse private targets for URLs that users supply; false needs a loopback bind.",
    )
    allow_local_provider_urls: bool = _set_by(
        "OMNIROUTE_ALLOW_LOCAL_PROVIDER_URLS",
        _BOOL,
        True,
        Section.SECURITY,
        "Provider nodes marked local may use loopback addresses.",
    )
    allow_private_provider_urls: bool = _set_by(
        "OMNIROUTE_ALLOW_PRIVATE_PROVIDER_URLS",
        _BOOL,
        False,
        Section.SECURITY,
        "Provider nodes marked local, and outbound proxies, may use private addresses.",
    )

    # --- inference
    request_timeout_ms: int | None = _set_by(
        "REQUEST_TIMEOUT_MS", _dur_ms(), None, Section.INFERENCE, "Whole request; replaces the total and idle limits."
    )
    fetch_connect_timeout_ms: int = _set_by(
        "FETCH_CONNECT_TIMEOUT_MS", _dur_ms(), 10_000, Section.INFERENCE, "Connecting to a provider, TLS included."
    )
    fetch_headers_timeout_ms: int = _set_by(
        "FETCH_HEADERS_TIMEOUT_MS", _dur_ms(), 60_000, Section.INFERENCE, "Response headers of a streamed answer."
    )
    fetch_timeout_ms: int = _set_by(
        "FETCH_TIMEOUT_MS", _dur_ms(), 600_000, Section.INFERENCE, "Answer that is not streamed."
    )
    stream_readiness_timeout_ms: int = _set_by(
        "STREAM_READINESS_TIMEOUT_MS", _dur_ms(), 80_000, Section.INFERENCE, "First content of a streamed answer."
    )
    stream_readiness_max_timeout_ms: int = _set_by(
        "STREAM_READINESS_MAX_TIMEOUT_MS",
        _dur_ms(),
        180_000,
        Section.INFERENCE,
        "Bound of that wait for large requests, which get longer.",
    )
    stream_idle_timeout_ms: int = _set_by(
        "STREAM_IDLE_TIMEOUT_MS", _dur_ms(), 120_000, Section.INFERENCE, "Silence of a provider within a stream."
    )
    stream_total_timeout_ms: int = _set_by(
        "STREAM_TOTAL_TIMEOUT_MS", _dur_ms(), 3_600_000, Section.INFERENCE, "Whole stream."
    )
    stream_commit_after_ms: int = _set_by(
        "STREAM_COMMIT_AFTER_MS",
        _dur_ms(0, 30_000),
        10_000,
        Section.INFERENCE,
        "Wait for content before the status line is sent without it; until then another connection can be tried.",
    )
    sse_heartbeat_ms: int = _set_by(
        "SSE_HEARTBEAT_MS",
        _dur_ms(1_000, 60_000),
        15_000,
        Section.INFERENCE,
        "Silence after which a heartbeat is sent.",
    )
    sse_comments: bool = _set_by(
        "OMNIROUTE_SSE_COMMENTS", _SWITCH, True, Section.INFERENCE, "Heartbeats and hints as SSE comments."
    )
    context_length_default: int = _set_by(
        "CONTEXT_LENGTH_DEFAULT",
        _int(1, 100_000_000),
        128_000,
        Section.INFERENCE,
        "Context window assumed for a model whose window nobody states.",
    )
    http_proxy: Proxy | None = _set_by(
        "HTTP_PROXY",
        _PROXY,
        None,
        Section.INFERENCE,
        "Outbound proxy for http:// addresses, where no other is assigned.",
        aliases=("http_proxy",),
        quiet_aliases=frozenset({"http_proxy"}),
    )
    https_proxy: Proxy | None = _set_by(
        "HTTPS_PROXY",
        _PROXY,
        None,
        Section.INFERENCE,
        "Outbound proxy for https:// addresses, where no other is assigned.",
        aliases=("https_proxy",),
        quiet_aliases=frozenset({"https_proxy"}),
    )
    all_proxy: Proxy | None = _set_by(
        "ALL_PROXY",
        _PROXY,
        None,
        Section.INFERENCE,
        "Outbound proxy for addresses that neither of the two is for.",
        aliases=("all_proxy",),
        quiet_aliases=frozenset({"all_proxy"}),
    )
    no_proxy: tuple[str, ...] = _set_by(
        "NO_PROXY",
        _LIST,
        (),
        Section.INFERENCE,
        "Hosts, domains, addresses and networks that these three are not for; * for all.",
        aliases=("no_proxy",),
        quiet_aliases=frozenset({"no_proxy"}),
    )
    enable_socks5_proxy: bool = _set_by(
        "ENABLE_SOCKS5_PROXY", _BOOL, True, Section.INFERENCE, "Outbound proxies may be SOCKS5 proxies."
    )
    proxy_fail_open: bool = _set_by(
        "PROXY_FAIL_OPEN",
        _BOOL,
        False,
        Section.INFERENCE,
        "Go without the assigned proxy where it cannot be used, instead of refusing the request.",
    )
    proxy_dns: bool = _set_by(
        "OMNIROUTE_PROXY_DNS",
        _BOOL,
        False,
        Section.INFERENCE,
        "Outbound proxies look names up; otherwise this server does, checks the addresses and hands those over.",
    )
    public_ip_url: str | None = _set_by(
        "OMNIROUTE_PUBLIC_IP_URL",
        _URL_OR_OFF,
        PUBLIC_IP_URL,
        Section.INFERENCE,
        "What the test of a proxy asks for the address that the proxy shows to others.",
    )
    ca_bundle: Path | None = _set_by(
        "OMNIROUTE_CA_BUNDLE",
        _EXISTING_FILE,
        None,
        Section.INFERENCE,
        "Further certificate authorities for providers, as a PEM file.",
        aliases=("REQUESTS_CA_BUNDLE",),
        quiet_aliases=frozenset({"REQUESTS_CA_BUNDLE"}),
        shown_default="system",
    )

    # --- resilience
    circuit_breaker_oauth_threshold: int | None = _set_by(
        "OMNIROUTE_CIRCUIT_BREAKER_OAUTH_THRESHOLD",
        _int(1, 1000),
        None,
        Section.RESILIENCE,
        "Failures in a row that open the breaker of a provider with subscription logins; wins over what is stored.",
    )
    circuit_breaker_oauth_reset_ms: int | None = _set_by(
        "OMNIROUTE_CIRCUIT_BREAKER_OAUTH_RESET_MS",
        _dur_ms(1_000, 3_600_000),
        None,
        Section.RESILIENCE,
        "How long that breaker stays open at first.",
    )
    circuit_breaker_api_key_threshold: int | None = _set_by(
        "OMNIROUTE_CIRCUIT_BREAKER_API_KEY_THRESHOLD",
        _int(1, 1000),
        None,
        Section.RESILIENCE,
        "Failures in a row that open the breaker of a provider with API keys; wins over what is stored.",
    )
    circuit_breaker_api_key_reset_ms: int | None = _set_by(
        "OMNIROUTE_CIRCUIT_BREAKER_API_KEY_RESET_MS",
        _dur_ms(1_000, 3_600_000),
        None,
        Section.RESILIENCE,
        "How long that breaker stays open at first.",
    )
    circuit_breaker_local_threshold: int | None = _set_by(
        "OMNIROUTE_CIRCUIT_BREAKER_LOCAL_THRESHOLD",
        _int(1, 1000),
        None,
        Section.RESILIENCE,
        "Failures in a row that open the breaker of a provider with local providers; wins over what is stored.",
    )
    circuit_breaker_local_reset_ms: int | None = _set_by(
        "OMNIROUTE_CIRCUIT_BREAKER_LOCAL_RESET_MS",
        _dur_ms(1_000, 3_600_000),
        None,
        Section.RESILIENCE,
        "How long that breaker stays open at first.",
    )
    rate_limit_max_wait_ms: int | None = _set_by(
        "RATE_LIMIT_MAX_WAIT_MS",
        _dur_ms(0, 300_000),
        None,
        Section.RESILIENCE,
        "How long a request waits for its turn at a paced connection; wins over what is stored.",
    )
    rate_limit_max_queue_depth: int | None = _set_by(
        "RATE_LIMIT_MAX_QUEUE_DEPTH",
        _int(0, 10_000),
        None,
        Section.RESILIENCE,
        "How many requests may wait at a connection; wins over what is stored.",
    )
    # --- providers
    providers_file: Path | None = _set_by(
        "OMNIROUTE_PROVIDERS_FILE",
        _EXISTING_FILE,
        None,
        Section.PROVIDERS,
        "JSON file with provider rows that are merged over the built-in ones.",
    )
    provider_limits_sync_interval_minutes: int = _set_by(
        "PROVIDER_LIMITS_SYNC_INTERVAL_MINUTES",
        _int(0, 10_080),
        70,
        Section.PROVIDERS,
        "How often providers are asked what is left of quotas, in minutes; 0: only when somebody wants to know.",
    )
    provider_limits_sync_spacing_ms: int = _set_by(
        "PROVIDER_LIMITS_SYNC_SPACING_MS",
        _dur_ms(0, 60_000),
        1500,
        Section.PROVIDERS,
        "Pause between two connections that are asked.",
    )
    model_sync_interval_hours: int = _set_by(
        "MODEL_SYNC_INTERVAL_HOURS",
        _int(0, 8_760),
        24,
        Section.PROVIDERS,
        "How often providers are asked for their model lists, in hours; 0: only when somebody wants to know.",
    )
    pricing_sync_enabled: bool = _set_by(
        "PRICING_SYNC_ENABLED",
        _BOOL,
        False,
        Section.PROVIDERS,
        "Fetch a public price list; without it only the list of the installed package is read.",
    )
    pricing_sync_interval: int = _set_by(
        "PRICING_SYNC_INTERVAL", _dur_s(3600), 86_400, Section.PROVIDERS, "How often the public price list is fetched."
    )
    pricing_sync_url: str = _set_by(
        "PRICING_SYNC_URL",
        _URL,
        PRICE_LIST_URL,
        Section.PROVIDERS,
        "Where it is: a list in the format of genai-prices.",
    )

    # --- logging
    app_log_to_file: bool = _set_by(
        "APP_LOG_TO_FILE", _BOOL, True, Section.LOGGING, "Write the log to a file as well; stderr always gets it."
    )
    app_log_level: str = _set_by(
        "APP_LOG_LEVEL", _choice("debug", "info", "warning", "error"), "info", Section.LOGGING, "Lowest level written."
    )
    app_log_format: str = _set_by("APP_LOG_FORMAT", _choice("text", "json"), "text", Section.LOGGING, "Form of a line.")
    app_log_file_path: Path | None = _set_by(
        "APP_LOG_FILE_PATH",
        _PATH,
        None,
        Section.LOGGING,
        "File of the log.",
        shown_default="<DATA_DIR>/logs/omniroute.log",
    )
    app_log_max_file_size: int = _set_by(
        "APP_LOG_MAX_FILE_SIZE", _size(4096), 50 << 20, Section.LOGGING, "Size at which the log file is rotated."
    )
    app_log_max_files: int = _set_by(
        "APP_LOG_MAX_FILES", _int(1, 1000), 20, Section.LOGGING, "Log files that are kept, the current one included."
    )

    # --- found beside the table
    sources: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), repr=False, compare=False, hash=False
    )
    """For each field that was set: where its value came from, such as `BASE_URL in ./.env`."""
    notices: tuple[Notice, ...] = field(default=(), repr=False, compare=False)
    """What the operator should be told about this configuration at start."""

    @property
    def resilience_overrides(self) -> Mapping[str, int]:
        """Settings of resilience that the environment decides, by their public path."""
        given = {path: getattr(self, name) for path, name in RESILIENCE_FIELDS.items()}
        return {path: value for path, value in given.items() if value is not None}

    @classmethod
    def load(
        cls, environ: Mapping[str, str], cwd: Path | None, *, options: Mapping[str, str] | None = None
    ) -> Settings:
        """Read every setting.

        Args:
            environ: The process environment.
            cwd: Working directory, whose `.env` is read; `None` for commands that must not read it.
            options: Values given on the command line, by variable name.

        Raises:
            ConfigurationError: A value does not fit, a file cannot be read, or two secrets contradict each other.
        """
        return _Reading(environ, cwd, options or {}).settings()

    @property
    def storage_url(self) -> str:
        """The database in use: the one that is set, or the SQLite file in the data directory."""
        return self.database_url or f"sqlite:///{self.data_dir / 'storage.sqlite'}"

    @property
    def log_file(self) -> Path:
        """The log file in use."""
        return self.app_log_file_path or self.data_dir / "logs" / "omniroute.log"

    @property
    def secrets_dir(self) -> Path:
        """Where generated secrets live."""
        return self.data_dir / "secrets"

    @property
    def runtime_dir(self) -> Path:
        """Where a running server leaves its process id, address and locks."""
        return self.data_dir / "runtime"

    @property
    def is_loopback_bind(self) -> bool:
        """Whether only this machine can reach the port."""
        return is_loopback_host(self.host)

    @property
    def local_url(self) -> str:
        """The address at which this machine reaches the server, without the prefix that a proxy takes off."""
        host = self.host
        if _is_address(host):
            address = ipaddress.ip_address(host)
            if address.is_unspecified:
                host = "127.0.0.1" if address.version == 4 else "[::1]"
            elif address.version == 6:
                host = f"[{host}]"
        return f"http://{host}:{self.port}"


RESILIENCE_FIELDS: Final = MappingProxyType(
    {
        "providerBreaker.oauth.failureThreshold": "circuit_breaker_oauth_threshold",
        "providerBreaker.oauth.resetTimeoutMs": "circuit_breaker_oauth_reset_ms",
        "providerBreaker.apikey.failureThreshold": "circuit_breaker_api_key_threshold",
        "providerBreaker.apikey.resetTimeoutMs": "circuit_breaker_api_key_reset_ms",
        "providerBreaker.local.failureThreshold": "circuit_breaker_local_threshold",
        "providerBreaker.local.resetTimeoutMs": "circuit_breaker_local_reset_ms",
        "requestQueue.maxWaitMs": "rate_limit_max_wait_ms",
        "requestQueue.maxQueueDepth": "rate_limit_max_queue_depth",
    }
)
"""The settings of resilience that a variable can decide, by public path, and their fields."""


def is_loopback_host(host: str) -> bool:
    """Say whether a bind address or URL host is this machine only; a name other than `localhost` is not trusted."""
    host = host.strip("[]").lower()
    if host in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def variables() -> dict[str, Variable]:
    """Return the table: field name to variable, in order of declaration."""
    return {f.name: f.metadata["variable"] for f in dataclasses.fields(Settings) if "variable" in f.metadata}


def shown_default(field_name: str) -> str:
    """Return the default of a field the way the documentation writes it."""
    found = next(f for f in dataclasses.fields(Settings) if f.name == field_name)
    variable: Variable = found.metadata["variable"]
    if variable.shown_default is not None:
        return variable.shown_default
    match found.default:
        case None:
            return "unset"
        case "" | ():
            return "empty"
        case bool() as flag:
            words = ("on", "off") if variable.kind is _SWITCH else ("true", "false")
            return words[0] if flag else words[1]
        case other:
            return str(other)


# --- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    label: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Found:
    """One value: the spelling and place it came from, for messages."""

    name: str
    text: str
    where: str
    source: _Source

    @property
    def origin(self) -> str:
        return f"{self.where} in {self.source.label}"


class _Reading:
    """One pass over all sources; short-lived, so that messages can be gathered while values are read."""

    def __init__(self, environ: Mapping[str, str], cwd: Path | None, options: Mapping[str, str]) -> None:
        self._notices: list[Notice] = []
        self._base = cwd or Path.cwd()
        command_line = _Source("the command line", options)
        process = _Source("the environment", environ)
        local = self._file(cwd / ".env", "./.env") if cwd else None
        if local is not None and not any(name.startswith(_PREFIX) for name in local.values):
            local = self._without_shared_names(local)

        outside_data_dir = [command_line, process, *([local] if local else [])]
        self._sources: Sequence[_Source] = outside_data_dir
        data_dir = self._data_dir(environ)
        self._data_dir_path = data_dir
        in_data_dir = self._file(data_dir / ".env", "DATA_DIR/.env")
        if in_data_dir is not None and cwd is not None and (cwd / ".env").resolve() == (data_dir / ".env").resolve():
            local = None
        if in_data_dir is not None and any(in_data_dir.values.get(name) for name in _DATA_DIR_NAMES):
            self._warn("DATA_DIR in DATA_DIR/.env has no effect: set it in the environment or in ./.env.")
        self._sources = [s for s in (command_line, process, in_data_dir, local) if s is not None]

    def settings(self) -> Settings:
        """Read every field, check those that depend on each other, and gather the notices."""
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for field_name, variable in variables().items():
            if field_name == "data_dir":
                continue
            found = self._find(variable)
            if found is not None:
                values[field_name] = self._value(variable, found)
                origins[field_name] = found.origin
        data_dir_found = self._find(variables()["data_dir"], skip="DATA_DIR/.env")
        if data_dir_found is not None:
            origins["data_dir"] = data_dir_found.origin
        if values.get("disable_background_services"):
            values["scheduler"] = "off"
        values.setdefault("instance_name", socket.gethostname())
        values.setdefault("base_url", f"http://localhost:{values.get('port', DEFAULT_PORT)}")
        self._check_unknown_names()
        files = [s.label for s in self._sources if s.label.endswith(".env")]
        self._notices.append(
            Notice(Level.INFO, "Settings were read from " + " and ".join(["the environment", *files]) + ".")
        )
        settings = Settings(
            data_dir=self._data_dir_path,
            **values,
            sources=MappingProxyType(origins),
            notices=tuple(self._notices),
        )
        _check_together(settings)
        return settings

    def _data_dir(self, environ: Mapping[str, str]) -> Path:
        variable = variables()["data_dir"]
        found = self._find(variable, tell=False)
        if found is None:
            home = environ.get("HOME") or environ.get("USERPROFILE")
            return (Path(home) if home else Path.home()) / ".omniroute"
        path: Path = self._value(variable, found)
        return path

    def _file(self, path: Path, label: str) -> _Source | None:
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{label} cannot be read: it is not UTF-8 text.") from error
        except OSError as error:
            raise ConfigurationError(f"{label} cannot be read: {error.strerror}.") from error
        values, bad_lines = _parse_env_file(text)
        for line in bad_lines:
            self._warn(f"{label}, line {line}: this is not NAME=value and is ignored.")
        return _Source(label, values)

    def _without_shared_names(self, local: _Source) -> _Source:
        dropped = sorted(name for name in _SHARED_NAMES if local.values.get(name))
        if dropped:
            self._warn(
                f"{', '.join(dropped)} in ./.env is ignored: the file sets nothing that begins with {_PREFIX}, "
                "so it may belong to another program."
            )
        return _Source(local.label, {name: text for name, text in local.values.items() if name not in _SHARED_NAMES})

    def _find(self, variable: Variable, *, skip: str | None = None, tell: bool = True) -> _Found | None:
        """Return the value that counts; the main name beats other spellings wherever both are set."""
        found = [f for name in variable.names if (f := self._find_name(name, variable, skip)) is not None]
        if not found:
            return None
        winner = found[0]
        if tell:
            self._compare_spellings(variable, winner, found[1:])
            if winner.name in variable.new_spelling_notice:
                self._notices.append(Notice(Level.INFO, f"{winner.name} is now spelt {variable.name}."))
        return winner

    def _find_name(self, name: str, variable: Variable, skip: str | None) -> _Found | None:
        for source in self._sources:
            if source.label == skip:
                continue
            text = source.values.get(name) or None
            if name == "HOSTNAME" and text is not None and not (_is_address(text) or text == "localhost"):
                text = None  # shells and containers put the machine's name there
            file_name = name + _FILE_SUFFIX
            path_text = (source.values.get(file_name) or None) if variable.kind.is_secret else None
            if path_text is None:
                if text is None:
                    continue
                return _Found(name, text, name, source)
            from_file = self._secret_file(file_name, path_text, source)
            if text is not None and text != from_file:
                raise ConfigurationError(f"{name} and {file_name} are both set in {source.label} and differ: keep one.")
            return _Found(name, from_file, file_name, source)
        return None

    def _secret_file(self, name: str, path_text: str, source: _Source) -> str:
        try:
            text = _read_path(path_text, self._base).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigurationError(f"{name} ({source.label}): the file cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigurationError(f"{name} ({source.label}): the file is not UTF-8 text.") from error
        if not text:
            raise ConfigurationError(f"{name} ({source.label}): the file is empty.")
        return text

    def _compare_spellings(self, variable: Variable, winner: _Found, others: Sequence[_Found]) -> None:
        for other in others:
            if other.text == winner.text or other.name in variable.quiet_aliases:
                continue
            if variable.kind.is_secret:
                raise ConfigurationError(
                    f"{winner.origin} and {other.origin} differ. Both name the same secret: keep one of them."
                )
            self._warn(f"{winner.origin} and {other.origin} differ; {winner.name} is used.")

    def _value(self, variable: Variable, found: _Found) -> Any:
        try:
            return variable.kind.read(found.text, self._base)
        except (ValueError, OSError):
            # Without the cause: some readers put the text into theirs, and the value must not be shown.
            raise ConfigurationError(
                f"{found.name} ({found.source.label}) is not valid: it takes {variable.kind.accepts}."
            ) from None

    def _check_unknown_names(self) -> None:
        known: set[str] = set()
        for variable in variables().values():
            known.update(variable.names)
            if variable.kind.is_secret:
                known.update(name + _FILE_SUFFIX for name in variable.names)
        for source in self._sources:
            for name in sorted(source.values):
                is_ours = name.startswith(_PREFIX) or name in _OTHER_RELEASES
                if is_ours and name not in known and name not in _INTERNAL_NAMES:
                    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
                    hint = f" Is {near[0]} meant?" if near else ""
                    self._warn(f"{name} in {source.label} is not a setting of this version.{hint}")

    def _warn(self, text: str) -> None:
        self._notices.append(Notice(Level.WARNING, text))


def _parse_env_file(text: str) -> tuple[dict[str, str], list[int]]:
    """Return the values of a `.env` file and the numbers of the lines that could not be read.

    A `$` in a value stays what it is: secrets contain them, and expansion would read the environment a second time.
    """
    from io import StringIO

    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    bad_lines: list[int] = []
    for binding in parse_stream(StringIO(text.removeprefix("\ufeff"))):
        if binding.error:
            bad_lines.append(binding.original.line)
        elif binding.key is not None:
            values[binding.key] = binding.value or ""
    return values, bad_lines


def _check_together(settings: Settings) -> None:
    if not settings.ssrf_guard_enabled and not settings.is_loopback_bind:
        raise ConfigurationError(
            "OUTBOUND_SSRF_GUARD_ENABLED=false is allowed only while OMNIROUTE_HOST is a loopback address: "
            "otherwise anyone who reaches the port could reach the networks of this host."
        )
    if settings.stream_readiness_max_timeout_ms < settings.stream_readiness_timeout_ms:
        raise ConfigurationError("STREAM_READINESS_MAX_TIMEOUT_MS must not be less than STREAM_READINESS_TIMEOUT_MS.")
