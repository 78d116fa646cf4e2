"""`GET /api/openapi.json`: the description of the HTTP API, put together from what the code declares.

The route table says who may ask, the URL map which paths there are, the declaration of a view (`contract.py`) what it
takes and gives, and its docstring what it is for. Nothing is written down twice, so nothing can contradict the code.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, TypedDict, cast

import msgspec
from flask import Blueprint, Flask, Response, current_app, request

from omniroute import __version__
from omniroute.blueprints.contract import JSON, Answer, Body, ListDocument, Operation, Query, operation, operation_of
from omniroute.blueprints.management.fields import Fields
from omniroute.blueprints.openapi_texts import HEADERS, INTRODUCTION, PATH_PARAMETERS, SECURITY_SCHEMES, TAGS
from omniroute.blueprints.refusals import ENVELOPES, REASONS, statuses_of
from omniroute.blueprints.tiers import ROUTES, Family, Route, Tier, verify
from omniroute.container import container
from omniroute.errors import ConfigurationError

blueprint = Blueprint("openapi", __name__)

_Needs = dict[str, list[str]]

_EXTENSION: Final = "omniroute.openapi"
_SUFFIX: Final = "Document"
_SCHEMAS: Final = "#/components/schemas/"
_VARIABLE: Final = re.compile(r"<(?:(?P<converter>[a-z_]+)(?:\([^)]*\))?:)?(?P<name>[A-Za-z_]\w*)>")
_LEFT_OUT: Final = ("/v1/v1", "/v1/api/")
"""Mounts for clients that add a prefix twice. Those without any are left out as well; the introduction says so."""
_OF_EVERY_ANSWER: Final = ("X-OmniRoute-Request-Id", "X-OmniRoute-Version")
_OF_LISTS: Final = ("X-Total-Count",)
_WAITING: Final = frozenset({429, 503, 529})

_MANAGEMENT_SECURITY: Final[tuple[_Needs, ...]] = ({"session": []}, {"bearer": []}, {"apiKey": []}, {"cliToken": []})
_INFERENCE_SECURITY: Final[tuple[_Needs, ...]] = (
    {"bearer": []},
    {"apiKey": []},
    {"googleApiKey": []},
    {"session": [], "csrf": []},
    {},
)


class OpenApiDocument(TypedDict):
    """A description of an HTTP API as OpenAPI 3.1 has it."""

    openapi: str
    info: dict[str, Any]
    servers: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    paths: dict[str, Any]
    components: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One operation: method and path, its row, its view and what that declares."""

    method: str
    rule: str
    route: Route
    view: Callable[..., Any]
    endpoint: str
    declared: Operation

    @property
    def path(self) -> str:
        return _VARIABLE.sub(lambda match: "{" + _camel(match["name"]) + "}", self.rule)


@blueprint.get("/api/openapi.json")
@blueprint.get("/api/openapi/spec")
@operation(OpenApiDocument)
def document() -> Response:
    """Describe this API in OpenAPI 3.1.

    The description is made from the running code. `/docs/api` shows it as pages.
    """
    response = Response(_rendered().body, mimetype="application/json")
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(_rendered().etag)
    response.make_conditional(request)
    return response


@dataclass(frozen=True, slots=True)
class _Rendered:
    body: bytes
    etag: str


def _rendered() -> _Rendered:
    """Return the description of the running application; it is made when somebody first asks."""
    known: _Rendered | None = current_app.extensions.get(_EXTENSION)
    if known is None:
        app = cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001
        made = describe(app, base_path=container().settings.base_path, pause=lambda: time.sleep(0))
        body = msgspec.json.encode(made)
        known = _Rendered(body, blake2b(body, digest_size=12).hexdigest())
        current_app.extensions[_EXTENSION] = known
    return known


def described() -> OpenApiDocument:
    """Return the description of the running application."""
    return msgspec.json.decode(_rendered().body, type=OpenApiDocument)


def describe(
    app: Flask,
    routes: Iterable[Route] = ROUTES,
    *,
    base_path: str = "/",
    pause: Callable[[], None] = lambda: None,
) -> OpenApiDocument:
    """Return the description of an application's routes.

    Args:
        app: whose URL map and views are described.
        routes: its table of tiers.
        base_path: what stands before every path.
        pause: called between operations, so that others have their turn.

    Raises:
        ConfigurationError: the routes differ from the table, or a view declares nothing.
    """
    entries = _entries(app, tuple(routes))
    shapes = _Shapes(entries)
    paths: dict[str, dict[str, Any]] = {}
    names: dict[str, _Entry] = {}
    firsts: dict[tuple[Callable[..., Any], int], _Entry] = {}
    for entry in entries:
        pause()
        first = firsts.setdefault((entry.view, entry.rule.count("<")), entry)
        name = _name(entry, first, names)
        names[name] = entry
        paths.setdefault(entry.path, {})[entry.method.lower()] = _operation(entry, first, name, shapes)
    used = {tag for item in paths.values() for one in item.values() for tag in one["tags"]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OmniRoute",
            "version": __version__,
            "summary": "One address in front of many providers: inference and management.",
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base_path.rstrip("/") or "/", "description": "This server."}],
        "tags": [{"name": name, "description": TAGS.get(name, "")} for name in sorted(used, key=_place)],
        "paths": paths,
        "components": {
            "schemas": shapes.components,
            "responses": shapes.refusals,
            "headers": {
                name: {"description": text, "required": name in _OF_EVERY_ANSWER, "schema": {"type": "string"}}
                for name, text in HEADERS.items()
            },
            "securitySchemes": dict(SECURITY_SCHEMES),
        },
    }


# --- which operations there are --------------------------------------------------------------------------------------


def _entries(app: Flask, routes: tuple[Route, ...]) -> list[_Entry]:
    """Return the operations in the order of the route table."""
    table = verify(app.url_map, routes)
    endpoints = {
        (rule.rule, method): rule.endpoint for rule in app.url_map.iter_rules() for method in rule.methods or ()
    }
    order = {id(route): place for place, route in enumerate(routes)}
    found = []
    undeclared = []
    for rule, methods in table.items():
        for method, route in methods.items():
            if method in ("HEAD", "OPTIONS") or not is_described(rule, route):
                continue
            endpoint = endpoints[rule, method]
            view = app.view_functions[endpoint]
            declared = operation_of(view)
            if declared is None:
                undeclared.append(f"{method} {rule}")
                continue
            found.append(_Entry(method, rule, route, view, endpoint, declared))
    if undeclared:
        raise ConfigurationError("These operations declare nothing: " + "; ".join(sorted(undeclared)) + ".")
    return sorted(found, key=lambda one: (order[id(one.route)], one.route.methods.index(one.method)))


def is_described(rule: str, route: Route) -> bool:
    """Say whether a route is part of the description: pages are not, nor are mounts for clients' mistakes."""
    if route.family is Family.PAGE or rule.startswith(_LEFT_OUT):
        return False
    return route.tier is not Tier.C or rule.startswith(("/v1", "/api/"))


def _name(entry: _Entry, first: _Entry, taken: Mapping[str, _Entry]) -> str:
    """Return the operation's id: noun and verb, and for other names of the same what is different about them."""
    given = entry.declared.extra.get("operationId")
    module, _, view = entry.endpoint.removeprefix("management_").partition(".")
    base = given or _camel(module if view == module else f"{module}_{view}")
    if base not in taken:
        return base
    whole = _camel(entry.endpoint.replace(".", "_"))
    if first is entry and whole not in taken:  # another noun with the same views
        return whole
    if first is not entry and first.rule == entry.rule:
        return f"{base}By{entry.method.capitalize()}"
    name = base + "At" + _camel("_" + re.sub(r"\W+", "_", entry.path).strip("_"))
    return name if name not in taken else f"{name}By{entry.method.capitalize()}"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


# --- one operation ---------------------------------------------------------------------------------------------------


def _operation(entry: _Entry, first: _Entry, name: str, shapes: _Shapes) -> dict[str, Any]:
    route, declared = entry.route, entry.declared
    summary, description = _said(entry.view)
    made: dict[str, Any] = {"operationId": name, "tags": [_tag(entry)], "summary": summary}
    if description:
        made["description"] = description
    if first is not entry:
        made["x-omniroute-alias-of"] = f"{first.method} {first.path}"
    made["x-omniroute-tier"] = route.tier.value
    if route.needed_power is not None:
        made["x-omniroute-scope"] = route.needed_power.name.lower()
    made["security"] = _security(route)
    if parameters := [*_path_parameters(entry.rule), *map(_query_parameter, declared.query)]:
        made["parameters"] = parameters
    if (body := _body(name, declared, shapes)) is not None:
        made["requestBody"] = body
    made["responses"] = _responses(entry, shapes)
    return made | {key: value for key, value in declared.extra.items() if key != "operationId"}


def _said(view: Callable[..., Any]) -> tuple[str, str]:
    """Return the first sentence of a view's docstring, and the rest of it."""
    summary, _, rest = (inspect.getdoc(view) or "").partition("\n\n")
    paragraphs = [" ".join(part.split()) for part in rest.split("\n\n")]
    kept = [part for part in paragraphs if part and not part.startswith(("Raises:", "Args:", "Returns:"))]
    return " ".join(summary.split()), "\n\n".join(kept)


def _tag(entry: _Entry) -> str:
    match entry.route.family:
        case Family.ANTHROPIC | Family.OPENAI if entry.route.endpoint in _CATALOGUE:
            return "Model lists"
        case Family.GEMINI | Family.OLLAMA | Family.ANTHROPIC:
            return entry.route.family.value.capitalize()
        case Family.OPENAI:
            return "Self-service" if entry.route.endpoint in _OWN else "OpenAI"
        case Family.PLAIN:
            return "health"
        case _:
            noun = entry.rule.removeprefix("/api/").split("/")[0]
            return _NOUNS.get(noun, noun)


_CATALOGUE: Final = frozenset({"models", ""})
_OWN: Final = frozenset({"me/status", "routing/decisions"})
_NOUNS: Final = {
    "openapi.json": "system",
    "openapi": "system",
    "init": "auth",
    "compliance": "audit",
    "monitoring": "health",
    "playground": "routing",
    "model-combo-mappings": "combos",
    "provider-nodes": "provider nodes",
    "provider-models": "models",
    "model-capability-overrides": "models",
    "restart": "system",
    "shutdown": "system",
    "network": "system",
    "storage": "health",
    "db": "health",
    "telemetry": "health",
    "db-backups": "backups",
    "cli": "access tokens",
    "cli-tools": "coding tools",
    "policies": "auth",
}
"""Nouns that stand under another one's tag."""


_PLACES: Final = {name: place for place, name in enumerate(TAGS)}


def _place(tag: str) -> tuple[int, str]:
    return _PLACES.get(tag, len(_PLACES)), tag


def _security(route: Route) -> list[_Needs]:
    if route.tier is Tier.C:
        return list(_INFERENCE_SECURITY)
    if route.needed_power is None:
        return []
    is_open = route.is_reduced or route.is_open_on_loopback
    return [*_MANAGEMENT_SECURITY, *([{}] if is_open else [])]


def _path_parameters(rule: str) -> Iterator[dict[str, Any]]:
    for match in _VARIABLE.finditer(rule):
        name = _camel(match["name"])
        has_slashes = match["converter"] == "path"
        schema = {"type": "string", "minLength": 1} if has_slashes else {"type": "string", "pattern": "^[^/]+$"}
        said = PATH_PARAMETERS.get(name, f"Names one {match['name'].replace('_', ' ')}.")
        made = {"name": name, "in": "path", "required": True, "description": said, "schema": schema}
        yield {**made, "x-omniroute-slashes": True} if has_slashes else made


def _query_parameter(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": query.kind}
    if query.choices:
        schema["enum"] = list(query.choices)
    if query.minimum is not None:
        schema["minimum"] = query.minimum
    if query.maximum is not None:
        schema["maximum"] = query.maximum
    made = {"name": query.name, "in": "query", "description": query.description, "schema": schema}
    return {**made, "required": True} if query.is_required else made


def _body(name: str, declared: Operation, shapes: _Shapes) -> dict[str, Any] | None:
    if declared.form is not None:
        form = {
            "type": "object",
            "properties": {name: dict(schema) for name, schema in declared.form.items()},
            "additionalProperties": False,
        }
        return {"required": not declared.is_body_optional, "content": {"multipart/form-data": {"schema": form}}}
    match declared.body:
        case None:
            return None
        case Body(shape, media_type):
            content = {media_type: {"schema": shapes.of(shape)}}
        case fields:
            content = {"application/json": {"schema": shapes.body(name, fields)}}
    return {"required": not declared.is_body_optional, "content": content}


def _responses(entry: _Entry, shapes: _Shapes) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for status, answer in sorted(entry.declared.answers.items()):
        made[str(status)] = _response(status, answer, shapes)
    if _is_conditional(entry):
        made["200"]["headers"]["ETag"] = _header("ETag")
        made.setdefault("304", _response(304, Answer(None), shapes))
    has_path = "<" in entry.rule
    for status in statuses_of(entry.route, entry.declared, method=entry.method, has_path=has_path):
        if status not in entry.declared.answers:
            made[str(status)] = shapes.refusal(entry.route.family, status)
    return dict(sorted(made.items()))


def _is_conditional(entry: _Entry) -> bool:
    """Say whether the guard gives the answer an ETag."""
    answer = entry.declared.answers.get(200)
    is_covered = entry.route.family is Family.MANAGEMENT and entry.route.tier is not Tier.P
    return entry.method == "GET" and is_covered and answer is not None and answer.media_type == JSON


def _response(status: int, answer: Answer, shapes: _Shapes) -> dict[str, Any]:
    headers: dict[str, Any] = {name: _header(name) for name in _OF_EVERY_ANSWER}
    if _is_list(answer.document):
        headers |= {name: _header(name) for name in _OF_LISTS}
    for name, text in answer.headers.items():
        headers[name] = _header(name) if name in HEADERS else {"description": text, "schema": {"type": "string"}}
    made: dict[str, Any] = {"description": answer.description or _DONE.get(status, "Done."), "headers": headers}
    content = {} if answer.document is None else {answer.media_type: {"schema": shapes.of(answer.document)}}
    content |= {media_type: {"schema": shapes.of(shape)} for media_type, shape in answer.others.items()}
    return {**made, "content": content} if content else made


_DONE: Final = {
    200: "Done.",
    201: "Created.",
    202: "Accepted; it goes on in the background.",
    304: "It has not changed.",
}


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _is_list(shape: Any) -> bool:
    return getattr(shape, "__annotations__", {}).keys() >= ListDocument.__annotations__.keys()


# --- shapes ----------------------------------------------------------------------------------------------------------


class _Shapes:
    """The schemas of all that operations take and give, and the refusals that they share."""

    def __init__(self, entries: Iterable[_Entry]) -> None:
        types = list(dict.fromkeys([*_types(entries), *(shape for _, shape in ENVELOPES.values())]))
        schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS + "{name}")
        names = {name: _short(name, components) for name in components}
        self._by_type: dict[Any, dict[str, Any]] = {
            one: _public(schema, names) for one, schema in zip(types, schemas, strict=True)
        }
        self.components = {names[name]: _public(schema, names) for name, schema in sorted(components.items())}
        self.refusals: dict[str, Any] = {}
        self._bodies: dict[int, str] = {}

    def of(self, shape: Any) -> dict[str, Any]:
        """Return the schema of a type, of one of several, or the schema itself."""
        if isinstance(shape, Mapping):
            return dict(shape)
        if isinstance(shape, tuple):
            return {"anyOf": [self.of(one) for one in shape]}
        return self._by_type[shape]

    def body(self, operation_id: str, fields: Fields) -> dict[str, str]:
        """Return a reference to the schema of a body, named after the first operation that takes it."""
        name = self._bodies.setdefault(id(fields), operation_id[:1].upper() + operation_id[1:] + "Body")
        if name not in self.components:
            self.components[name] = fields.schema
        return {"$ref": _SCHEMAS + name}

    def refusal(self, family: Family, status: int) -> dict[str, str]:
        """Return a reference to what a family refuses with; those in use are kept for the components."""
        name = f"{family.value.capitalize()}{status}"
        if name not in self.refusals:
            media_type, shape = ENVELOPES[family]
            headers = [*_OF_EVERY_ANSWER, "X-OmniRoute-Error-Code"]
            headers += ["Retry-After"] if status in _WAITING else []
            headers += ["Allow"] if status == 405 else ["WWW-Authenticate"] if status == 401 else []
            self.refusals[name] = {
                "description": REASONS[status],
                "headers": {header: _header(header) for header in headers},
                "content": {media_type: {"schema": self.of(shape)}},
            }
        return {"$ref": f"#/components/responses/{name}"}


def _types(entries: Iterable[_Entry]) -> Iterator[Any]:
    for entry in entries:
        declared = entry.declared
        shapes = [answer.document for answer in declared.answers.values()]
        shapes += [shape for answer in declared.answers.values() for shape in answer.others.values()]
        shapes += [declared.body.document] if isinstance(declared.body, Body) else []
        for shape in shapes:
            yield from _described(shape)


def _described(shape: Any) -> Iterator[Any]:
    """Give the types in what was declared; schemas describe themselves."""
    if isinstance(shape, tuple):
        for one in shape:
            yield from _described(one)
    elif shape is not None and not isinstance(shape, Mapping):
        yield shape


def _short(name: str, taken: Collection[str]) -> str:
    """Return a name without the suffix of documents, unless something else is called so."""
    short = name.removesuffix(_SUFFIX)
    return name if short in taken else short


def _public(schema: Any, names: Mapping[str, str]) -> Any:
    """Return a schema under the public names of its parts, its texts in one line, without titles that say the same."""
    if isinstance(schema, list):
        return [_public(one, names) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "$ref" and isinstance(value, str):
            made[name] = _SCHEMAS + names[value.removeprefix(_SCHEMAS)]
        elif name == "description" and isinstance(value, str):
            made[name] = " ".join(value.split())
        elif name == "properties":
            made[name] = {key: _public(one, names) for key, one in value.items()}
        elif name != "title" or not isinstance(value, str):
            made[name] = _public(value, names)
    return made
