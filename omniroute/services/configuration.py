"""The configuration as a document: written out, and applied as a whole or not at all.

A document is checked by the same services that management uses, on one transaction. What came of it is found by
comparing the documents before and after, so a report says what has changed and not what was meant to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from omniroute.errors import CallerError, PermissionDenied, UrlBlocked, ValidationFailed
from omniroute.money.price_text import price_text
from omniroute.providers.spec import AuthKind
from omniroute.records import AuthType, PriceStep
from omniroute.services import configuration_document as shape
from omniroute.services.configuration_document import Entry, Kind, Names, differences, exported, plain
from omniroute.services.configuration_settings import SettingsPart
from omniroute.services.connections import check_base_url
from omniroute.services.keys import Origin
from omniroute.services.prices import Change
from omniroute.services.together import Parts, Together, in_one

MOST_PROBLEMS: Final = 50

_API_NAMES: Final = {"of": "scopeType", "value": "scopeValue", "limit": "tokenLimit"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of applying a document.

    Attributes:
        changes: `{kind, name, action, fields?}`, in the order of the document.
        warnings: `{kind, name, message}`: what could not be done, and does not keep the rest from being done.
    """

    changes: tuple[Mapping[str, Any], ...]
    warnings: tuple[Mapping[str, str], ...]
    is_applied: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a document is to be applied.

    Attributes:
        prunes: remove what the document does not name, of those lists and sections that it has.
        is_local: the caller is on this host, where the address filter does not hold.
        is_forced: let an address filter lock the caller out.
    """

    origin: Origin
    is_dry_run: bool = False
    prunes: bool = False
    is_local: bool = False
    is_forced: bool = False


class Configuration:
    """Writes the configuration out, and applies what was written."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def export(self) -> dict[str, Any]:
        """Return the configuration as a document."""
        return self._parts.database.read(lambda sql: exported(Together(sql, self._parts)))

    def apply(self, document: Mapping[str, Any], wanted: Wanted) -> Outcome:
        """Make the configuration what a document says; applying it again changes nothing.

        Args:
            document: checked in its shape; lists and sections that it does not have are left alone.
            wanted: how.

        Raises:
            ValidationFailed: something in it cannot be; nothing was changed.
            UrlBlocked: the address of a node is not allowed.
        """
        if document.get("version") != shape.VERSION:
            raise ValidationFailed([{"field": "version", "message": f"must be {shape.VERSION}"}])
        for node in document.get("nodes", ()):
            self._check_address(node)  # asks for its name, and so not in the transaction

        def work(own: Together) -> Outcome:
            return _Application(own, document, wanted).run()

        return in_one(self._parts, work, is_kept=not wanted.is_dry_run)

    def _check_address(self, node: Entry) -> None:
        try:
            check_base_url(self._parts.egress, node["baseUrl"].rstrip("/"), is_local=node.get("isLocal", False))
        except UrlBlocked as error:
            raise UrlBlocked(f"Node {node['prefix']!r}: {error.message}", extras=error.extras) from None
        except ValidationFailed as error:
            raise ValidationFailed(_placed(error, "nodes", node["prefix"])) from None


class _Application:
    """One document on its way into the configuration."""

    def __init__(self, own: Together, document: Mapping[str, Any], wanted: Wanted) -> None:
        self._own = own
        self._document = document
        self._wanted = wanted
        self._origin = wanted.origin
        self._problems: list[dict[str, str]] = []
        self._warnings: list[dict[str, str]] = []
        self._before = exported(own)

    def run(self) -> Outcome:
        """Apply everything, the parts that others refer to first."""
        own = self._own
        part = SettingsPart(own, self._before["settings"], self._wanted, self.warn)
        with self._at("settings"):
            part.check(self._document.get("settings", {}))
        own.tried.follows = False
        self._each(shape.NODES, self._add_node, self._change_node)
        own.tried.refresh()
        self._each(shape.PROVIDERS, self._add_connection, self._change_connection)
        own.tried.refresh()
        own.tried.follows = True
        part.apply(self._document.get("settings", {}), self._at)
        own.tried.follows = False
        self._combos()
        own.tried.refresh()
        self._each(shape.ALIASES, self._put_alias, lambda _name, entry: self._put_alias(entry))
        self._each(shape.MAPPINGS, self._add_mapping, self._change_mapping)
        self._each(shape.CHAINS, self._add_chain, self._change_chain)
        self._each(shape.BUDGETS, self._set_budget, lambda _name, entry: self._set_budget(entry))
        self._each(shape.TOKEN_LIMITS, self._set_limit, lambda _name, entry: self._set_limit(entry))
        self._prices()
        if self._wanted.prunes:
            self._prune()
        if self._problems:
            raise ValidationFailed(self._problems[:MOST_PROBLEMS])
        own.tried.refresh()
        changes = differences(self._before, exported(own))
        return Outcome(tuple(changes), tuple(self._warnings), not self._wanted.is_dry_run)

    def warn(self, kind: str, name: str, message: str) -> None:
        """Note what could not be done."""
        self._warnings.append({"kind": kind, "name": name, "message": message})

    # --- lists -------------------------------------------------------------------------------------------------------

    def _each(self, kind: Kind, add: Callable[[Entry], None], change: Callable[[str, Entry], None]) -> None:
        """Add what is new and change what differs."""
        known = {kind.name(entry): kind.whole(entry) for entry in self._before[kind.member]}
        for entry in self._given(kind):
            name = kind.name(entry)
            with self._at(kind.member, name):
                old = known.get(name)
                if old is None:
                    add(entry)
                elif any(plain(value) != plain(old.get(field)) for field, value in entry.items()):
                    change(name, entry)

    def _given(self, kind: Kind) -> Iterator[Entry]:
        """Yield the entries of a list whole; of two with the same name the second is a problem."""
        seen: set[str] = set()
        for entry in self._document.get(kind.member, ()):
            name = kind.name(entry)
            if name in seen:
                self._note(f"{kind.member}[{name}]", "stands twice")
                continue
            seen.add(name)
            yield kind.whole(entry)

    def _combos(self) -> None:
        """Add combos after those that they refer to."""
        own, kind = self._own, shape.COMBOS
        known = {combo.name: combo.id for combo in own.combos.all()}
        waiting = list(self._given(kind))
        there = set(known)
        while waiting:
            ready = [one for one in waiting if _refers_to(one) <= there | {one["name"]}] or waiting[:1]
            for entry in ready:
                waiting.remove(entry)
                there.add(entry["name"])
                with self._at(kind.member, entry["name"]):
                    self._put_combo(entry, known.get(entry["name"]))
        self._order_combos()

    def _put_combo(self, entry: Entry, combo_id: str | None) -> None:
        old = next((one for one in self._before["combos"] if one["name"] == entry["name"]), None)
        if old is not None and all(
            plain(value) == plain(shape.COMBOS.whole(old).get(field)) for field, value in entry.items()
        ):
            return
        fields = {**entry, "models": [self._step(step) for step in entry["models"]]}
        if combo_id is None:
            self._own.combos.create(fields, self._origin)
        else:
            self._own.combos.change(combo_id, fields, self._origin)

    def _order_combos(self) -> None:
        given = [entry["name"] for entry in self._document.get("combos", ())]
        now = [combo.name for combo in self._own.combos.all()]
        known = [name for name in dict.fromkeys(given) if name in now]
        if [name for name in now if name in known] == known:
            return
        ids = {combo.name: combo.id for combo in self._own.combos.all()}
        self._own.combos.reorder([ids[name] for name in known], self._origin)

    def _step(self, step: Any) -> Any:
        """Return a step as combos take it."""
        if isinstance(step, str):
            return step
        made = {name: value for name, value in step.items() if name not in ("combo", "connection")}
        if "combo" in step:
            made |= {"kind": "combo-ref", "comboName": step["combo"]}
        elif "channel" in step:
            made["kind"] = "auto"
        if "connection" in step:
            made["connectionId"] = self._names.connection_id(step["connection"])
            if made["connectionId"] is None:
                message = f"names the connection {step['connection']!r}, which is not there: add it first"
                raise ValidationFailed([{"field": "models", "message": message}])
        return made

    # --- nodes and connections ---------------------------------------------------------------------------------------

    def _add_node(self, entry: Entry) -> None:
        fields = {name: value for name, value in entry.items() if name != "headers"}
        self._own.nodes.create(fields, self._origin)
        if entry["headers"]:
            self.warn("node", entry["prefix"], f"Set the values of its headers: {', '.join(entry['headers'])}.")

    def _change_node(self, name: str, entry: Entry) -> None:
        node = next(node for node in self._own.tried.current.nodes if node.prefix == name)
        if sorted(node.custom_headers) != sorted(entry["headers"]):
            self.warn("node", name, "Its headers are secrets, and stay as they are.")
        fields = {name: value for name, value in entry.items() if name not in ("headers", "prefix")}
        old = shape.NODES.whole(next(one for one in self._before["nodes"] if one["prefix"] == name))
        changed = {field: value for field, value in fields.items() if plain(value) != plain(old.get(field))}
        if changed:
            self._own.nodes.change(node.id, changed, self._origin)

    def _add_connection(self, entry: Entry) -> None:
        provider = self._own.tried.directories.current.provider(entry["provider"])
        if provider is None:
            raise ValidationFailed([{"field": "provider", "message": "is not a provider or node"}])
        if entry["auth"] != AuthType.NONE or AuthKind.NONE not in provider.auth:
            name = shape.PROVIDERS.name(entry)
            self.warn("connection", name, "It needs a credential, which a document does not hold: add it yourself.")
            return
        fields = {name: value for name, value in entry.items() if name != "auth"}
        self._own.connections.create(_without_nothing(fields), self._origin)

    def _change_connection(self, name: str, entry: Entry) -> None:
        found = [
            row
            for row in self._own.tried.current.connections
            if row.name == entry["name"] and self._names.provider(row.provider) == entry["provider"]
        ]
        if len(found) != 1:
            self.warn("connection", name, "Several connections have this name: nothing was changed.")
            return
        known = next(one for one in self._before["providers"] if shape.PROVIDERS.name(one) == name)
        old, own = shape.PROVIDERS.whole(known), ("provider", "name", "auth")
        if all(plain(value) == plain(old.get(field)) for field, value in entry.items() if field not in own):
            return
        fields = {field: value for field, value in entry.items() if field not in own}
        fields["providerData"] = {**dict.fromkeys(found[0].provider_data), **entry["providerData"]}
        self._own.connections.change(found[0].id, fields, self._origin)

    # --- names, money ------------------------------------------------------------------------------------------------

    def _put_alias(self, entry: Entry) -> None:
        self._own.aliases.put(entry, self._origin)

    def _add_mapping(self, entry: Entry) -> None:
        self._own.aliases.create_mapping({**entry, "comboId": self._combo_id(entry)}, self._origin)

    def _change_mapping(self, name: str, entry: Entry) -> None:
        del name
        combo_id = self._combo_id(entry)
        found = next(
            row for row in self._own.aliases.mappings() if (row.pattern, row.combo_id) == (entry["pattern"], combo_id)
        )
        self._own.aliases.change_mapping(found.id, {**entry, "comboId": combo_id}, self._origin)

    def _combo_id(self, entry: Entry) -> str:
        found = self._names.combo_id(entry["combo"])
        if found is None:
            raise ValidationFailed([{"field": "combo", "message": "is not the name of a combo"}])
        return found

    def _add_chain(self, entry: Entry) -> None:
        self._own.chains.create(entry, self._origin)

    def _change_chain(self, name: str, entry: Entry) -> None:
        found = next(chain for chain in self._own.chains.all() if chain.name == name)
        self._own.chains.change(found.id, entry, self._origin)

    def _set_budget(self, entry: Entry) -> None:
        scope = self._scope(entry, "budget", shape.BUDGETS)
        if scope is None:
            return
        fields = {name: entry[name] for name in ("warningThreshold", "resetTime", "timeZone") if name in entry}
        self._own.budgets.set(scope, {entry["period"]: entry["limit"]}, fields, self._origin)

    def _set_limit(self, entry: Entry) -> None:
        scope = self._scope(entry, "token_limit", shape.TOKEN_LIMITS)
        if scope is None:
            return
        fields = {_API_NAMES.get(name, name): value for name, value in entry.items() if name != "scope"}
        self._own.token_limits.set({**fields, "keyId": scope}, self._origin)

    def _scope(self, entry: Entry, noun: str, kind: Kind) -> str | None:
        found = self._names.scope_id(entry["scope"])
        if found is None:
            self.warn(noun, kind.name(entry), "There is no one API key with this name.")
        return found

    def _prices(self) -> None:
        changes: list[Change] = []
        for provider, models in self._document.get("prices", {}).items():
            for model, price in models.items():
                if plain(price) == plain(self._before["prices"].get(provider, {}).get(model)):
                    continue
                with self._at("prices", f"{provider}/{model}"):
                    changes.append(_price_change(provider, model, price))
        if changes:
            with self._at("prices"):
                self._own.prices.change(changes, self._origin)

    # --- what the document does not name -----------------------------------------------------------------------------

    def _prune(self) -> None:
        """Remove what the document does not name, those first to which others refer least."""
        own, who = self._own, self._origin
        self._drop_prices()
        for limit in self._unnamed(shape.TOKEN_LIMITS):
            state = next(one for one in own.token_limits.all() if self._limit_name(one.limit) == limit)
            own.token_limits.remove(state.limit.id, who)
        for budget in self._unnamed(shape.BUDGETS):
            scope, _, period = budget.rpartition(" ")
            own.budgets.remove(self._names.scope_id(scope) or "", period, who)
        for chain in self._unnamed(shape.CHAINS):
            own.chains.delete(next(one.id for one in own.chains.all() if one.name == chain), who)
        for mapping in self._unnamed(shape.MAPPINGS):
            rows = {f"{row.pattern} → {self._names.combo(row.combo_id)}": row.id for row in own.aliases.mappings()}
            own.aliases.delete_mapping(rows[mapping], who)
        for pattern in self._unnamed(shape.ALIASES):
            own.aliases.delete(pattern=pattern, alias_id=None, origin=who)
        for name in self._unnamed(shape.COMBOS):
            own.combos.delete(own.combos.named(name=name).id, who, is_forced=True)
        self._drop_connections()
        self._drop_nodes()

    def _unnamed(self, kind: Kind) -> list[str]:
        if kind.member not in self._document:
            return []
        named = {kind.name(kind.whole(entry)) for entry in self._document[kind.member]}
        there = dict.fromkeys(kind.name(kind.whole(entry)) for entry in self._before[kind.member])
        return [name for name in there if name not in named]

    def _limit_name(self, limit: Any) -> str:
        entry = {
            "scope": self._names.scope(limit.scope_id),
            "of": limit.scope_type,
            "value": limit.scope_value,
            "period": limit.period,
        }
        return shape.TOKEN_LIMITS.name(entry)

    def _drop_prices(self) -> None:
        if "prices" not in self._document:
            return
        for provider, models in self._before["prices"].items():
            for model in models:
                if model not in self._document["prices"].get(provider, {}):
                    self._own.prices.reset(provider, model, self._origin)

    def _drop_connections(self) -> None:
        unnamed = set(self._unnamed(shape.PROVIDERS))
        for row in self._own.tried.current.connections:
            name = f"{self._names.provider(row.provider)}/{row.name}"
            if name not in unnamed:
                continue
            if row.credential is not None or row.is_unreadable:
                self.warn("connection", name, "It holds a credential, and stays: remove it yourself.")
            else:
                self._own.connections.delete(row.id, self._origin)

    def _drop_nodes(self) -> None:
        for prefix in self._unnamed(shape.NODES):
            node = next(node for node in self._own.tried.current.nodes if node.prefix == prefix)
            held = [row for row in self._own.tried.current.connections if row.provider == node.id]
            if any(row.credential is not None or row.is_unreadable for row in held):
                self.warn("node", prefix, "It has connections with credentials, and stays: remove it yourself.")
            else:
                self._own.nodes.delete(node.id, self._origin)

    # --- problems ----------------------------------------------------------------------------------------------------

    @property
    def _names(self) -> Names:
        return Names(self._own)

    @contextmanager
    def _at(self, member: str, name: str = "") -> Iterator[None]:
        """Gather what is wrong with one part, so that all of it is reported at once."""
        try:
            yield
        except ValidationFailed as error:
            self._problems += _placed(error, member, name)
        except PermissionDenied:
            raise
        except CallerError as error:
            self._note(f"{member}[{name}]" if name else member, error.message)

    def _note(self, field: str, message: str) -> None:
        self._problems.append({"field": field, "message": message})


def _placed(error: ValidationFailed, member: str, name: str) -> list[dict[str, str]]:
    where = f"{member}[{name}]" if name else member
    return [{**detail, "field": f"{where}.{detail['field']}"} for detail in error.details]


def _refers_to(entry: Entry) -> set[str]:
    return {step["combo"] for step in entry["models"] if isinstance(step, Mapping) and "combo" in step}


def _without_nothing(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if value not in (None, {})}


def _price_change(provider: str, model: str, price: Mapping[str, Any]) -> Change:
    prices = {
        column: None if price.get(name) is None else _checked_price(price[name], name)
        for name, column in shape.PRICE_FIELDS.items()
    }
    return Change(provider, model, prices, tuple(_steps(price.get("tiers", ()))))


def _steps(given: Iterable[Mapping[str, Any]]) -> Iterator[PriceStep]:
    for step in given:
        values = {
            shape.PRICE_FIELDS[name]: _checked_price(step[name], name) for name in shape.STEP_FIELDS if name in step
        }
        yield PriceStep(above=step["above"], **values)


def _checked_price(given: Any, name: str) -> str:
    try:
        return price_text(given)
    except ValueError as error:
        raise ValidationFailed([{"field": name, "message": str(error)}]) from None
