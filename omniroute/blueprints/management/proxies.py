"""`/api/settings/proxy` and `/api/settings/proxies`: outbound proxies, and what they are used for."""

from __future__ import annotations

from typing import Any, Final, NotRequired, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import (
    PAGING,
    SEARCH,
    ListDocument,
    Query,
    RemovedDocument,
    Time,
    operation,
    sorting,
)
from omniroute.blueprints.management.bodies import (
    Field,
    Fields,
    Invalid,
    Order,
    Page,
    answer,
    flag,
    iso_time,
    listing,
    nested,
    query_flag,
    text,
)
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.records import Proxy, ProxyLevel, ProxyType
from omniroute.services import proxies as service
from omniroute.services.proxy_descriptions import LONGEST_FIELD, redacted_url

blueprint = Blueprint("management_proxies", __name__)

_MOST_PORT: Final = 65_535
_MOST_LEVELS: Final = 200


def _port(*, required: bool = False) -> Field:
    def check(value: Any) -> int:
        is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5
        if not is_text and (not isinstance(value, int) or isinstance(value, bool)):
            raise Invalid("must be a whole number, or its digits")
        if not 1 <= int(value) <= _MOST_PORT:
            raise Invalid(f"must be between 1 and {_MOST_PORT}")
        return int(value)

    schema = {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": _MOST_PORT},
            {"type": "string", "pattern": "^0{0,4}[1-9][0-9]{0,4}$", "maxLength": 5},
        ]
    }
    return Field("port", check, required=required, schema=schema)


def _place(*, required: bool = False) -> tuple[Field, ...]:
    return (
        text("type", required=required, choices=ProxyType),
        text("host", required=required, max_length=253),
        _port(required=required),
        text("username", nullable=True, min_length=0, max_length=LONGEST_FIELD),
        text("password", nullable=True, min_length=0, max_length=LONGEST_FIELD, secret=True),
    )


_ID: Final = text("id", alias="proxyId", max_length=100)
_NAME: Final = text("name", max_length=service.LONGEST_NAME)
_ACTIVE: Final = flag("isActive")
_NEW: Final = Fields(text("name", required=True, max_length=service.LONGEST_NAME), *_place(required=True), _ACTIVE)
_CHANGE: Final = Fields(_NAME, *_place(), _ACTIVE)
_CHANGE_ONE: Final = Fields(text("id", required=True, max_length=100), _NAME, *_place(), _ACTIVE)
# What an answer shows may be sent back as it is; the members that say nothing about the way are read and passed over.
_SHOWN: Final = (
    text("name", nullable=True, max_length=service.LONGEST_NAME),
    _ACTIVE,
    text("problem", nullable=True),
    text("createdAt"),
    text("updatedAt"),
)
_GIVEN: Final = Fields(_ID, *_place(), *_SHOWN)


def _by_id(name: str) -> Field:
    """Return an object with a proxy, or null, by the ids of a level."""
    one = nested(name, _GIVEN, nullable=True)

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Invalid("must be an object")
        if len(value) > _MOST_LEVELS:
            raise Invalid(f"must have at most {_MOST_LEVELS} entries")
        found: dict[str, Any] = {}
        for level_id, given in value.items():
            try:
                found[level_id] = None if given is None else one.check(given)
            except ValidationFailed as error:
                raise ValidationFailed(
                    [{**detail, "field": f"{level_id[:100]}.{detail['field']}"} for detail in error.details]
                ) from None
        return found

    schema = {"type": "object", "maxProperties": _MOST_LEVELS, "additionalProperties": one.value_schema}
    return Field(name, check, schema=schema)


_MAPS: Final = {"providers": ProxyLevel.PROVIDER, "combos": ProxyLevel.COMBO, "keys": ProxyLevel.KEY}
_LEVEL: Final = text("level", choices=service.LEVELS)
_PUT: Final = Fields(
    nested("global", _GIVEN, nullable=True),
    *(_by_id(name) for name in _MAPS),
    _LEVEL,
    text("id", nullable=True, min_length=0, max_length=300),
    nested("proxy", _GIVEN, nullable=True),
)
_TEST: Final = Fields(nested("proxy", _GIVEN, required=True), text("target", nullable=True, max_length=2000))
_ORDER: Final[Order[Proxy]] = Order(
    searched=lambda proxy: (proxy.id, proxy.name, proxy.host),
    fields={
        "name": lambda proxy: proxy.name,
        "type": lambda proxy: proxy.type,
        "host": lambda proxy: proxy.host,
        "createdAt": lambda proxy: proxy.created_at,
        "updatedAt": lambda proxy: proxy.updated_at,
    },
)
_WHERE: Final = (
    Query("level", "`global`, `provider`, `combo` or `key`.", choices=service.LEVELS),
    Query("id", "Of the provider, combo or key; for providers and combos also the name."),
)
_FORCE: Final = Query("force", "Remove it together with what it is bound to.", "boolean")


class ProxyDocument(TypedDict):
    """An outbound proxy. The password is masked. `name` is null for one that belongs to a level.

    `problem` says why it cannot be used, where that is known without trying.
    """

    id: str
    name: str | None
    type: ProxyType
    host: str
    port: int
    username: str | None
    password: str | None
    isActive: bool
    problem: str | None
    createdAt: Time
    updatedAt: Time


class ProxiesDocument(ListDocument):
    """A page of the proxies that have a name."""

    proxies: list[ProxyDocument]


class OneProxyDocument(TypedDict):
    """One proxy."""

    proxy: ProxyDocument


EnvironmentProxiesDocument = TypedDict(
    "EnvironmentProxiesDocument", {"http": str | None, "https": str | None, "except": list[str]}
)
"""The proxies that the server was started with, without passwords, and the hosts that they are not for."""


class EffectiveProxyDocument(TypedDict):
    """The proxy that a connection's requests take, and what it was chosen for; `level` is `none` where they take none.

    `url` has no password. `proxy` is null for one of the environment.
    """

    connectionId: str
    provider: str
    proxyEnabled: bool
    level: str
    levelId: str | None
    url: str | None
    proxy: ProxyDocument | None


ProxySettingsDocument = TypedDict(
    "ProxySettingsDocument",
    {
        "global": NotRequired[ProxyDocument | None],
        "providers": NotRequired[dict[str, ProxyDocument]],
        "combos": NotRequired[dict[str, ProxyDocument]],
        "keys": NotRequired[dict[str, ProxyDocument]],
        "environment": NotRequired[EnvironmentProxiesDocument],
        "failOpen": NotRequired[bool],
        "level": NotRequired[ProxyLevel],
        "id": NotRequired[str | None],
        "proxy": NotRequired[ProxyDocument | None],
        "effective": NotRequired[EffectiveProxyDocument],
    },
)
"""What is bound at which level; or, where the query names one, `level`, `id` and `proxy` of that; or `effective`."""


class ProxyTestDocument(TypedDict):
    """What a proxy is good for. `publicIp`: the address that others see; null where nobody could say."""

    success: bool
    publicIp: str | None
    latencyMs: float
    proxyUrl: str
    error: NotRequired[ProxyFaultDocument]


class ProxyFaultDocument(TypedDict):
    """Why a proxy does not work."""

    code: str
    message: str


@blueprint.get("/api/settings/proxy")
@operation(
    ProxySettingsDocument,
    query=(
        *_WHERE,
        Query("resolve", "Id of a connection: show the proxy that it uses, and why."),
        Query("key", "With `resolve`: for requests of this API key."),
        Query("combo", "With `resolve`: for requests by way of this combo."),
    ),
    refusals=(404,),
)
def show() -> Response:
    """Show which proxies are used for what.

    Of API key, combo, provider, all and the server's environment the first that has a proxy counts. With `level` one of
    them is shown, with `resolve` what comes of them for a connection.
    """
    asked = request.args
    if asked.get("resolve"):
        effective = container().proxies.effective(
            asked["resolve"], key=_id_of(ProxyLevel.KEY, "key"), combo=_id_of(ProxyLevel.COMBO, "combo")
        )
        return answer({"effective": shown_effective(effective)})
    if asked.get("level") or asked.get("id"):
        place = container().proxies.place(asked.get("level", ""), asked.get("id"))
        found = container().proxies.bound().get(place)
        proxy = None if found is None else shown(found)
        return answer({"level": place[0], "id": place[1] or None, "proxy": proxy})
    return answer(shown_settings())


@blueprint.put("/api/settings/proxy")
@operation(ProxySettingsDocument, body=_PUT, refusals=(409, 422))
def put() -> Response:
    """Set which proxies are used for what.

    Takes any of `global`, `providers`, `combos` and `keys`, or `level`, `id` and `proxy` for one. What is not named
    stays; null takes a level's proxy away. A proxy is the `id` of a named one, or `type`, `host`, `port`, `username`
    and `password` of one that belongs to the level alone. A masked password that is sent back leaves the stored one.
    """
    values = _PUT.read(request)
    proxies = container().proxies
    given: dict[service.Place, Any] = {}
    if "level" in values:
        if "proxy" not in values:
            raise ValidationFailed([{"field": "proxy", "message": "is required beside level"}])
        given[proxies.place(values["level"], values.get("id"))] = values["proxy"]
    elif "proxy" in values or "id" in values:
        raise ValidationFailed([{"field": "level", "message": "is required beside proxy and id"}])
    if "global" in values:
        given[proxies.place(ProxyLevel.GLOBAL, None)] = values["global"]
    for name, level in _MAPS.items():
        given |= {proxies.place(level, level_id): proxy for level_id, proxy in values.get(name, {}).items()}
    proxies.bind(given, origin())
    return answer(shown_settings())


@blueprint.delete("/api/settings/proxy")
@operation(ProxySettingsDocument, query=_WHERE, refusals=(404,))
def unbind() -> Response:
    """Leave a level without a proxy of its own."""
    proxies = container().proxies
    proxies.unbind(proxies.place(request.args.get("level", ""), request.args.get("id")), origin())
    return answer(shown_settings())


@blueprint.post("/api/settings/proxy/test")
@operation(ProxyTestDocument, body=_TEST, refusals=(404, 422))
def test() -> Response:
    """Try a proxy, stored or not.

    Something harmless is asked through it, without any credential: `target`, an address of your choice, else the
    service of `OMNIROUTE_PUBLIC_IP_URL`. It works if it leads there, whatever the answer's status is.
    """
    values = _TEST.read(request)
    trial = container().proxies.test(values["proxy"], values.get("target"))
    body: ProxyTestDocument = {
        "success": trial.error is None,
        "publicIp": trial.public_ip,
        "latencyMs": trial.latency_ms,
        "proxyUrl": trial.proxy_url,
    }
    if trial.error is not None:
        body["error"] = {"code": trial.error.error_code, "message": trial.error.message}
    return answer(body)


@blueprint.get("/api/settings/proxies")
@operation(ProxiesDocument, query=(*PAGING, *SEARCH, sorting(*_ORDER.fields)))
def index() -> Response:
    """List the proxies that have a name, so that levels can refer to them."""
    page = Page.read(request)
    found = _ORDER.apply(request, container().proxies.all())
    return listing("proxies", [shown(proxy) for proxy in page.cut(found)], total=len(found), page=page)


@blueprint.post("/api/settings/proxies")
@operation(OneProxyDocument, status=201, body=_NEW, refusals=(409, 422))
def create() -> Response:
    """Store a proxy under a name. It is used once a level refers to it."""
    return answer({"proxy": shown(container().proxies.create(_NEW.read(request), origin()))}, 201)


@blueprint.patch("/api/settings/proxies")
@operation(OneProxyDocument, body=_CHANGE_ONE, refusals=(404, 409, 422))
def change_one() -> Response:
    """Change the given fields of the proxy that `id` names."""
    values = _CHANGE_ONE.read(request)
    return answer({"proxy": shown(container().proxies.change(values.pop("id"), values, origin()))})


@blueprint.delete("/api/settings/proxies")
@operation(RemovedDocument, query=(Query("id", "Id of the proxy.", is_required=True), _FORCE), refusals=(404, 409))
def delete_one() -> Response:
    """Remove the proxy that `id` names; one that is in use only with `force`."""
    proxy_id = request.args.get("id")
    if not proxy_id:
        raise ValidationFailed([{"field": "id", "message": "is required"}])
    return _removed(proxy_id)


@blueprint.get("/api/settings/proxies/<proxy_id>")
@operation(OneProxyDocument, refusals=(404,))
def show_one(proxy_id: str) -> Response:
    """Show one proxy."""
    return answer({"proxy": shown(container().proxies.get(proxy_id))})


@blueprint.route("/api/settings/proxies/<proxy_id>", methods=["PUT", "PATCH"])
@operation(OneProxyDocument, body=_CHANGE, refusals=(404, 409, 422))
def change(proxy_id: str) -> Response:
    """Change the given fields of a proxy.

    A masked password that is sent back leaves the stored one. With another type, host or port it has to be given anew.
    """
    return answer({"proxy": shown(container().proxies.change(proxy_id, _CHANGE.read(request), origin()))})


@blueprint.delete("/api/settings/proxies/<proxy_id>")
@operation(RemovedDocument, query=(_FORCE,), refusals=(404, 409))
def delete(proxy_id: str) -> Response:
    """Remove a proxy; one that is in use only with `force`."""
    return _removed(proxy_id)


def _removed(proxy_id: str) -> Response:
    gone = container().proxies.delete(proxy_id, origin(), is_forced=query_flag(request, "force") is True)
    return answer({"success": True, "id": gone.id})


def _id_of(level: ProxyLevel, name: str) -> str:
    given = request.args.get(name)
    return "" if not given else container().proxies.place(level, given)[1]


# --- showing ---------------------------------------------------------------------------------------------------------


def shown(proxy: Proxy) -> ProxyDocument:
    """Return a proxy as management answers show it."""
    return {
        "id": proxy.id,
        "name": proxy.name if proxy.is_named else None,
        "type": proxy.type,
        "host": proxy.host,
        "port": proxy.port,
        "username": proxy.username,
        "password": None if proxy.password is None else str(proxy.password),
        "isActive": proxy.is_active,
        "problem": container().proxies.choice.problem_of(proxy),
        "createdAt": iso_time(proxy.created_at),
        "updatedAt": iso_time(proxy.updated_at),
    }


def shown_settings() -> ProxySettingsDocument:
    """Return what is bound at which level."""
    proxies = container().proxies
    bound, environment = proxies.bound(), proxies.choice.environment

    def of(level: ProxyLevel) -> dict[str, ProxyDocument]:
        return {level_id: shown(proxy) for (one, level_id), proxy in bound.items() if one is level}

    started_with = {
        scheme: None if proxy is None else redacted_url(proxy) for scheme, proxy in environment.proxies().items()
    }
    return {
        "global": of(ProxyLevel.GLOBAL).get(""),
        "providers": of(ProxyLevel.PROVIDER),
        "combos": of(ProxyLevel.COMBO),
        "keys": of(ProxyLevel.KEY),
        "environment": {
            "http": started_with["http"],
            "https": started_with["https"],
            "except": list(environment.exceptions),
        },
        "failOpen": proxies.choice.is_fail_open,
    }


def shown_effective(effective: service.Effective) -> EffectiveProxyDocument:
    """Return the proxy that a connection uses."""
    way, connection = effective.way, effective.connection
    return {
        "connectionId": connection.id,
        "provider": connection.provider,
        "proxyEnabled": connection.proxy_enabled,
        "level": "none" if effective.level is None else effective.level.value,
        "levelId": effective.level_id or None,
        "url": None if way is None else redacted_url(way.proxy),
        "proxy": shown(way.proxy) if way is not None and way.proxy.id else None,
    }
