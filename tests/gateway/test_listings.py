"""What is known about models when the operator, the providers' own lists and the built-in list are taken together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from omniroute.errors import InvalidRequest, ModelNotFound, PermissionDenied
from omniroute.formats.wire import WireFormat
from omniroute.gateway.directory import Directories, Directory
from omniroute.gateway.listings import Listings, Origin, Source
from omniroute.gateway.options import capabilities_of
from omniroute.gateway.resolver import Resolver
from omniroute.providers import catalog
from omniroute.providers.profiles import profile_of
from omniroute.providers.spec import ModelKind
from omniroute.records import (
    AuthType,
    Combo,
    ComboStep,
    Connection,
    CustomModel,
    DiscoveredList,
    DiscoveredModel,
    ModelOverride,
    Node,
    NodeType,
    PriceRow,
    Snapshot,
)
from omniroute.routing.options import Need
from omniroute.secret import Secret
from omniroute.services.access import Caller, CallerKind, ModelRules

CATALOGUE = catalog.load()
KEY = Secret("sk-test-0123456789abcdef")
KNOWN = "llama-3.3-70b-versatile"
ANYBODY = Caller(CallerKind.LOCAL, None, "local", "local", ModelRules())


def connection(name: str, provider: str = "groq", **changes: Any) -> Connection:
    return replace(Connection(f"conn_{name}", provider, AuthType.API_KEY, name, 1, True, KEY), **changes)


def listed(name: str, *models: DiscoveredModel, provider: str = "groq", at: float = 1.0) -> DiscoveredList:
    return DiscoveredList(f"conn_{name}", provider, at, models)


def snapshot(*lists: DiscoveredList, connections: tuple[Connection, ...] = (), **parts: Any) -> Snapshot:
    return Snapshot(
        1,
        connections=connections or (connection("a"),),
        discovered={one.connection_id: one for one in lists},
        **parts,
    )


def directory(*lists: DiscoveredList, **parts: Any) -> Directory:
    return Directory.compile(snapshot(*lists, **parts), CATALOGUE)


# --- from a name to targets ------------------------------------------------------------------------------------------


def test_a_model_that_only_the_live_list_knows_can_be_called() -> None:
    found = directory(listed("a", DiscoveredModel("new/model", context_length=9000)))
    for name in ("groq/new/model", "new/model", "groq/new/model-high"):
        (option,) = found.find(name)
        assert (option.name, option.window) == ("groq/new/model", 9000)
    assert found.listing("groq").origin("new/model") is Origin.PROVIDER
    assert found.listing("groq").origin(KNOWN) is Origin.BUILTIN


def test_a_connection_whose_list_lacks_a_model_is_not_asked_for_it() -> None:
    some = tuple(connection(name) for name in "abc")
    found = directory(listed("a", DiscoveredModel("new")), listed("b", DiscoveredModel("other")), connections=some)
    (option,) = found.find("groq/new")
    assert [account.id for account in option.accounts] == ["conn_a", "conn_c"], "what c has nobody knows"
    assert set(option.handles) == {"conn_a", "conn_c"}
    (option,) = found.find(f"groq/{KNOWN}")
    assert len(option.accounts) == 3, "a built-in model may be missing from a list that is not complete"
    (option,) = found.find("groq/nobody-lists-this")
    assert len(option.accounts) == 3


def test_only_lists_of_connections_that_may_serve_count() -> None:
    some = (connection("a"), connection("off", is_active=False))
    found = directory(listed("a", DiscoveredModel("mine")), listed("off", DiscoveredModel("gone")), connections=some)
    assert "mine" in found.models_of("groq")
    assert "gone" not in found.models_of("groq")
    alone = directory(listed("off", DiscoveredModel("gone")), connections=(connection("off", is_active=False),))
    assert "gone" in alone.models_of("groq"), "where none may serve, what was known is shown"


def test_a_bare_id_leads_to_every_provider_that_lists_it() -> None:
    some = (connection("a"), connection("t", "together"))
    found = directory(
        listed("a", DiscoveredModel("some-model")),
        listed("t", DiscoveredModel("some-model"), provider="together"),
        connections=some,
    )
    assert [option.provider for option in found.find("some-model")] == ["groq", "together"]


def test_a_bare_id_at_several_providers_may_be_refused() -> None:
    some = (connection("a"), connection("t", "together"))
    lists = (
        listed("a", DiscoveredModel("some-model")),
        listed("t", DiscoveredModel("some-model"), provider="together"),
    )
    settings = {("routing", "ambiguousModelPolicy"): "refuse"}
    made = snapshot(*lists, connections=some, settings=settings)
    resolver = Resolver(Directory.compile(made, CATALOGUE), made)
    with pytest.raises(InvalidRequest) as caught:
        resolver.resolve("some-model", caller=ANYBODY)
    assert caught.value.error_code == "ambiguous_model"
    assert caught.value.extras["candidates"] == ["groq/some-model", "together/some-model"]


def test_the_models_of_a_node_have_bare_names_too() -> None:
    node = Node("node_1", "Mine", "mine", NodeType.OPENAI, "https://h.example/v1")
    found = directory(
        listed("n", DiscoveredModel("my-model"), provider="node_1"),
        connections=(connection("n", "node_1"),),
        nodes=(node,),
    )
    assert [option.name for option in found.find("my-model")] == ["mine/my-model"]


def test_a_declared_model_can_be_called_and_says_in_which_format() -> None:
    custom = CustomModel("groq", "mine", name="Mine", api_format="openai_responses", context_length=5000, max_output=99)
    found = directory(custom_models=(custom,))
    (target,) = found.resolve("groq/mine")
    assert set(target.endpoints) == {WireFormat.OPENAI_RESPONSES}
    assert target.facts is not None
    assert (target.facts.name, target.facts.context, target.facts.max_output) == ("Mine", 5000, 99)
    assert found.context_of(target.provider, target.facts).source == "override"
    assert found.listing("groq").origin("mine") is Origin.CUSTOM
    assert [option.name for option in found.find("mine")] == ["groq/mine"]


# --- facts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "tokens", "source"),
    [
        ({}, 131_072, Source.BUILTIN),
        ({"live": 100_000}, 100_000, Source.PROVIDER),
        ({"live": 100_000, "custom": 90_000}, 90_000, Source.OVERRIDE),
        ({"live": 100_000, "custom": 90_000, "override": 80_000}, 80_000, Source.OVERRIDE),
        ({"override": 80_000}, 80_000, Source.OVERRIDE),
        ({"live": None, "custom": None}, 131_072, Source.BUILTIN),
    ],
)
def test_whose_word_on_the_window_counts(parts: dict[str, int | None], tokens: int, source: Source) -> None:
    lists = (listed("a", DiscoveredModel(KNOWN, context_length=parts["live"])),) if "live" in parts else ()
    found = directory(
        *lists,
        custom_models=(CustomModel("groq", KNOWN, context_length=parts["custom"]),) if "custom" in parts else (),
        model_overrides=(ModelOverride("groq", KNOWN, context_length=parts["override"]),)
        if "override" in parts
        else (),
    )
    provider = CATALOGUE.providers["groq"]
    window = found.context_of(provider, found.models_of("groq")[KNOWN])
    assert (window.tokens, window.source) == (tokens, source)
    (option,) = found.find(f"groq/{KNOWN}")
    assert option.window == tokens


def test_a_window_that_nobody_states_is_planned_as_the_operator_assumes() -> None:
    made = snapshot(connections=(connection("a", "reka"),))
    found = Directory.compile(made, CATALOGUE, default_context=50_000)
    (option,) = found.find("reka/reka-flash-3")
    assert (option.window, option.planned_window) == (None, 50_000)


def test_the_smaller_of_two_stated_sizes_holds() -> None:
    found = directory(
        listed("a", DiscoveredModel("m", context_length=200_000, max_output=9000)),
        listed("b", DiscoveredModel("m", name="M", context_length=100_000)),
        connections=(connection("a"), connection("b", priority=2)),
    )
    model = found.models_of("groq")["m"]
    assert (model.context, model.max_output, model.name) == (100_000, 9000, None)


def test_the_kind_of_a_model_that_is_built_in_stays() -> None:
    found = directory(
        listed("a", DiscoveredModel("whisper-large-v3", kind="chat"), DiscoveredModel("x", kind="rerank"))
    )
    assert found.models_of("groq")["whisper-large-v3"].kind is ModelKind.AUDIO
    assert found.models_of("groq")["x"].kind is ModelKind.RERANK


def able(found: Directory, model: str) -> set[str] | None:
    words = capabilities_of(found.listing("groq").facts(model))
    return None if words is None else {str(word) for word in words}


def needs(*some: Need) -> set[str]:
    return {need.value for need in some}


def test_what_nobody_says_denies_nothing() -> None:
    said = DiscoveredModel("m", able=frozenset({"tools"}), unable=frozenset({"reasoning"}))
    found = directory(listed("a", said, DiscoveredModel("silent")))
    assert able(found, "m") == needs(Need.TOOLS, Need.VISION, Need.SCHEMA, Need.AUDIO, Need.DOCUMENT)
    assert able(found, "silent") is None
    assert found.models_of("groq")["m"].capabilities == ("tools",), "and nothing is shown that is not stated"


def test_what_a_model_takes_says_whether_it_sees() -> None:
    sees = DiscoveredModel("sees", able=frozenset({"vision"}), input=("text", "image"))
    blind = DiscoveredModel("blind", unable=frozenset({"vision"}), input=("text",))
    found = directory(listed("a", sees, blind))
    assert able(found, "sees") == needs(Need.VISION, Need.TOOLS, Need.SCHEMA, Need.REASONING)
    assert able(found, "blind") == needs(Need.TOOLS, Need.SCHEMA, Need.REASONING)


def test_a_profile_takes_only_what_is_denied_away() -> None:
    said = DiscoveredModel("m", unable=frozenset({"tools"}))
    found = directory(listed("a", said, DiscoveredModel("n", able=frozenset({"vision"}))))
    profiles = {
        name: profile_of(CATALOGUE.providers["groq"], name, found.models_of("groq")[name], WireFormat.OPENAI_CHAT, "c")
        for name in ("m", "n")
    }
    assert (profiles["m"].takes_tools, profiles["n"].takes_tools) == (False, True)


def test_an_override_has_the_last_word_on_capabilities() -> None:
    live = DiscoveredModel("m", able=frozenset({"tools", "vision"}))
    override = ModelOverride("groq", "m", able=frozenset({"reasoning"}), unable=frozenset({"tools"}))
    found = directory(listed("a", live), model_overrides=(override,))
    assert found.models_of("groq")["m"].capabilities == ("vision", "reasoning")
    assert Need.TOOLS not in (able(found, "m") or ())


def test_an_override_of_a_model_that_nobody_lists_holds_when_it_is_called() -> None:
    found = directory(model_overrides=(ModelOverride("groq", "secret-model", context_length=7000),))
    assert "secret-model" not in found.models_of("groq")
    (option,) = found.find("groq/secret-model")
    assert option.window == 7000


def test_whose_price_counts() -> None:
    live = DiscoveredModel(KNOWN, prices=(("input", "1"), ("output", "2")))
    imported = PriceRow("groq", KNOWN, "import", 0.0, 0.0, input="9", output="9", cache_read="0.1")
    own = PriceRow("groq", KNOWN, "override", 0.0, 0.0, output="5")
    builtin = directory().prices.row("groq", KNOWN)
    assert builtin is not None
    assert builtin.source == "builtin"
    row = directory(listed("a", live), prices=(imported,)).prices.row("groq", KNOWN)
    assert row is not None
    assert (row.source, row.input, row.output, row.cache_read) == ("provider", "1", "2", "0.1")
    row = directory(listed("a", live), prices=(imported, own)).prices.row("groq", KNOWN)
    assert row is not None
    assert (row.source, row.input, row.output) == ("override", "1", "5")


def test_a_free_model_of_a_live_list_costs_nothing() -> None:
    free = DiscoveredModel("a:free", prices=(("input", "0"), ("output", "0")))
    found = directory(listed("a", free, DiscoveredModel("b")))
    assert [found.resolve(f"groq/{name}")[0].cost_kind for name in ("a:free", "b")] == ["free", "billed"]


# --- hidden ----------------------------------------------------------------------------------------------------------


def test_a_hidden_model_is_refused() -> None:
    some = (connection("a"), connection("t", "together"))
    hidden = ModelOverride("groq", "new", is_hidden=True)
    found = directory(
        listed("a", DiscoveredModel("new"), DiscoveredModel("other")), connections=some, model_overrides=(hidden,)
    )
    assert "new" not in found.models_of("groq")
    for name in ("groq/new", "groq/new-high", "new", "new-high"):
        with pytest.raises(PermissionDenied) as caught:
            found.find(name)
        assert caught.value.error_code == "model_not_allowed"
    with pytest.raises(PermissionDenied):
        found.pinned("groq", "new")
    with pytest.raises(ModelNotFound):
        found.find("no-such-model")
    assert found.find("groq/other")


def test_a_model_that_is_hidden_at_one_provider_goes_to_another() -> None:
    some = (connection("a"), connection("t", "together"))
    found = directory(
        listed("a", DiscoveredModel("m")),
        listed("t", DiscoveredModel("m"), provider="together"),
        connections=some,
        model_overrides=(ModelOverride("groq", "m", is_hidden=True),),
    )
    assert [option.provider for option in found.find("m")] == ["together"]


def test_a_hidden_default_model_is_not_offered() -> None:
    found = directory(
        connections=(connection("a", default_model="mine"),),
        model_overrides=(ModelOverride("groq", "mine", is_hidden=True),),
    )
    assert found.legs_of("groq")[0].default_model is None


def test_a_step_of_a_combo_says_that_its_model_is_hidden() -> None:
    combo = Combo("combo_1", "best", steps=(ComboStep("s1", model=f"groq/{KNOWN}"), ComboStep("s2", model="groq/x")))
    made = snapshot(combos=(combo,), model_overrides=(ModelOverride("groq", KNOWN, is_hidden=True),))
    steps = Resolver(Directory.compile(made, CATALOGUE), made).resolve("best", caller=ANYBODY).block.steps
    assert [(step.id, step.problem) for step in steps] == [("s1", "hidden"), ("s2", None)]


# --- cheap -----------------------------------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_merged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    merged: list[str] = []
    merge = Listings._merged

    def noted(self: Listings, provider_id: str, key: Any) -> Any:
        merged.append(provider_id)
        return merge(self, provider_id, key)

    monkeypatch.setattr(Listings, "_merged", noted)
    first = listed("a", DiscoveredModel("m", prices=(("input", "1"), ("output", "2"))))
    second = listed("t", DiscoveredModel("m"), provider="together")
    some = (connection("a"), connection("t", "together"))
    directories = Directories(CATALOGUE, snapshot(first, second, connections=some))
    before = directories.current
    assert sorted(merged) == ["groq", "together"]
    renamed = (replace(some[0], name="renamed"), some[1])
    directories.rebuild(snapshot(first, second, connections=renamed))
    assert directories.current is not before
    assert sorted(merged) == ["groq", "together"]
    assert directories.current.prices is before.prices
    newer = listed("a", DiscoveredModel("m2"), at=2.0)
    directories.rebuild(snapshot(newer, second, connections=renamed))
    assert sorted(merged) == ["groq", "groq", "together"]
    assert "m" not in directories.current.models_of("groq")
    assert directories.current.prices is not before.prices


def test_equal_lists_of_many_connections_share_their_models() -> None:
    names = [str(number) for number in range(5)]
    lists = [listed(name, DiscoveredModel("m", context_length=5000)) for name in names]
    found = directory(*lists, connections=tuple(connection(name) for name in names))
    listing = found.listing("groq")
    assert listing.holders["m"] == {f"conn_{name}" for name in names}
    assert listing.models["m"].context == 5000
