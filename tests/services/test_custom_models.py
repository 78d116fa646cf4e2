"""What the operator says about models: declared, hidden, overridden."""

from __future__ import annotations

from typing import Any

import pytest

from omniroute.errors import Conflict, ModelNotFound, NotFound, PermissionDenied, ValidationFailed
from omniroute.formats.wire import WireFormat
from omniroute.providers.spec import ModelKind
from omniroute.services import custom_models as service
from omniroute.services.custom_models import CustomModels
from omniroute.services.keys import SYSTEM
from tests import harness
from tests.services.providers import Providers, providers_of

KEY = "sk-live-0123456789abcdefghij"
KNOWN = "llama-3.3-70b-versatile"


@pytest.fixture
def providers(gateway: harness.Gateway) -> Providers:
    made = providers_of(gateway)
    made.connections.create({"provider": "groq", "apiKey": KEY}, SYSTEM)
    return made


@pytest.fixture
def own(providers: Providers) -> CustomModels:
    return CustomModels(
        database=providers.gateway.database,
        directories=providers.directories,
        audit=providers.gateway.audit,
        now=providers.gateway.clock,
    )


def fields_of(caught: pytest.ExceptionInfo[ValidationFailed]) -> list[str]:
    return [detail["field"] for detail in caught.value.details]


def new(**fields: Any) -> dict[str, Any]:
    return {"provider": "groq", "modelId": "mine", **fields}


# --- declared --------------------------------------------------------------------------------------------------------


def test_a_declared_model_can_be_called_and_bears_what_is_said(providers: Providers, own: CustomModels) -> None:
    made = own.create(
        new(
            modelName="Mine",
            contextLength=5000,
            maxOutputTokens=100,
            apiFormat="responses",
            supportsTools=True,
            supportsVision=False,
        ),
        SYSTEM,
    )
    assert (set(made.able), set(made.unable)) == ({"tools"}, {"vision"})
    (target,) = providers.directories.current.resolve("mine")
    assert set(target.endpoints) == {WireFormat.OPENAI_RESPONSES}
    assert target.facts is not None
    assert (target.facts.name, target.facts.context) == ("Mine", 5000)
    assert own.all() == own.all("groq") == [made]
    assert own.all("anthropic") == []
    row = providers.asked_by[-1]
    assert (row.action, row.target_kind, row.target_id) == ("model.created", "model", "groq/mine")


def test_a_model_is_declared_once(own: CustomModels) -> None:
    own.create(new(), SYSTEM)
    with pytest.raises(Conflict):
        own.create(new(modelName="again"), SYSTEM)


def test_there_is_an_end_to_declaring(own: CustomModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_MODELS", 1)
    own.create(new(), SYSTEM)
    with pytest.raises(Conflict, match="1 declared"):
        own.create(new(modelId="other"), SYSTEM)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"provider": "nobody"}, "provider"),
        ({"provider": "sandbox"}, "provider"),
        ({"modelId": "a/../b"}, "modelId"),
        ({"modelId": " padded"}, "modelId"),
        ({"modelId": "models/x"}, "modelId"),
        ({"modelId": "x" * 241}, "modelId"),
        ({"apiFormat": "gemini"}, "apiFormat"),
    ],
)
def test_what_cannot_be_declared(own: CustomModels, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        own.create(new(**fields), SYSTEM)
    assert fields_of(caught) == [field]
    assert own.all() == []


def test_a_declared_model_is_changed(providers: Providers, own: CustomModels) -> None:
    own.create(new(modelName="Mine", contextLength=5000, supportsTools=True, type="embedding"), SYSTEM)
    providers.gateway.clock.pass_(5)
    changed = own.change(new(contextLength=None, supportsVision=True, supportsTools=None, type=None), SYSTEM)
    assert (changed.name, changed.context_length, set(changed.able), changed.kind) == ("Mine", None, {"vision"}, "chat")
    assert changed.updated_at - changed.created_at == 5
    assert providers.directories.current.models_of("groq")["mine"].kind is ModelKind.CHAT
    assert providers.asked_by[-1].details["fields"] == ["contextLength", "supportsTools", "supportsVision", "type"]
    with pytest.raises(NotFound):
        own.change(new(modelId="other"), SYSTEM)


def test_declared_models_are_removed(providers: Providers, own: CustomModels) -> None:
    for name in ("a", "b", "c"):
        own.create(new(modelId=name), SYSTEM)
    assert own.delete("groq", "a", SYSTEM) == 1
    with pytest.raises(NotFound):
        own.delete("groq", "a", SYSTEM)
    assert own.delete("groq", None, SYSTEM) == 2
    assert own.delete("groq", None, SYSTEM) == 0
    assert "b" not in providers.directories.current.models_of("groq")
    with pytest.raises(ValidationFailed):
        own.delete("nobody", None, SYSTEM)


def test_what_was_said_about_a_node_goes_with_it(providers: Providers, own: CustomModels) -> None:
    fields = {"name": "n", "prefix": "mine", "type": "openai-compatible", "baseUrl": "http://127.0.0.1:1/v1"}
    node = providers.nodes.create({**fields, "isLocal": True}, SYSTEM)
    own.create({"provider": "mine", "modelId": "m"}, SYSTEM)
    own.override({"model": "mine/m", "contextLength": 5000}, SYSTEM)
    assert own.all("mine")[0].provider == node.id
    providers.nodes.delete(node.id, SYSTEM)
    assert own.all() == []
    assert own.overrides() == []


# --- hidden ----------------------------------------------------------------------------------------------------------


def test_a_model_is_hidden_and_shown_again(providers: Providers, own: CustomModels) -> None:
    assert own.hide("groq", [KNOWN], True, SYSTEM) == 1
    assert own.hide("groq", [KNOWN], True, SYSTEM) == 0
    with pytest.raises(PermissionDenied):
        providers.directories.current.resolve(f"groq/{KNOWN}")
    assert providers.asked_by[-2].action == "model.hidden"
    assert own.hide("groq", [KNOWN], False, SYSTEM) == 1
    assert providers.directories.current.resolve(f"groq/{KNOWN}")
    assert own.overrides() == []
    assert providers.asked_by[-1].action == "model.shown"


def test_all_models_of_a_provider_are_hidden(providers: Providers, own: CustomModels) -> None:
    own.create(new(), SYSTEM)
    count = len(providers.directories.current.models_of("groq"))
    assert own.hide("groq", None, True, SYSTEM) == count
    assert providers.directories.current.models_of("groq") == {}
    with pytest.raises(PermissionDenied):
        providers.directories.current.resolve("mine")
    assert own.hide("groq", None, False, SYSTEM) == count


def test_only_what_is_listed_can_be_hidden(own: CustomModels) -> None:
    with pytest.raises(ValidationFailed) as caught:
        own.hide("groq", [KNOWN, "nobody-has-this"], True, SYSTEM)
    assert fields_of(caught) == ["modelIds"]
    assert own.overrides() == []


# --- overridden ------------------------------------------------------------------------------------------------------


def test_an_override_wins_and_is_taken_back_part_by_part(providers: Providers, own: CustomModels) -> None:
    provider = providers.directories.catalogue.providers["groq"]

    def window() -> tuple[int, str]:
        directory = providers.directories.current
        found = directory.context_of(provider, directory.models_of("groq")[KNOWN])
        return found.tokens, found.source

    assert window() == (131_072, "builtin")
    said = {"contextLength": 9000, "maxOutputTokens": 500, "capabilities": {"tools": True, "vision": False}}
    made = own.override({"model": f"groq/{KNOWN}", **said}, SYSTEM)
    assert (made.context_length, made.max_output, set(made.able), set(made.unable)) == (
        9000,
        500,
        {"tools"},
        {"vision"},
    )
    assert window() == (9000, "override")
    made = own.override({"model": f"GROQ/{KNOWN}", "contextLength": None, "capabilities": {"vision": None}}, SYSTEM)
    assert (made.context_length, made.max_output, set(made.able), made.unable) == (None, 500, {"tools"}, frozenset())
    assert window() == (131_072, "builtin")
    made = own.override({"model": f"groq/{KNOWN}", "maxOutputTokens": None, "capabilities": None}, SYSTEM)
    assert made.is_empty
    assert own.overrides() == []


def test_an_override_is_dropped_and_leaves_a_hidden_model_hidden(own: CustomModels) -> None:
    own.override({"model": f"groq/{KNOWN}", "contextLength": 9000}, SYSTEM)
    own.hide("groq", [KNOWN], True, SYSTEM)
    left = own.drop_override(f"groq/{KNOWN}", SYSTEM)
    assert (left.context_length, left.is_hidden) == (None, True)
    assert own.overrides("groq") == [left]
    with pytest.raises(NotFound):
        own.drop_override(f"groq/{KNOWN}", SYSTEM)
    own.hide("groq", [KNOWN], False, SYSTEM)
    with pytest.raises(NotFound):
        own.drop_override(f"groq/{KNOWN}", SYSTEM)


@pytest.mark.parametrize("model", [KNOWN, "nobody/x", "sandbox/echo", "groq/", "groq/a/../b"])
def test_an_override_needs_a_model_with_its_provider(own: CustomModels, model: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        own.override({"model": model, "contextLength": 5}, SYSTEM)
    assert fields_of(caught) == ["model"]


def test_there_is_an_end_to_overriding(own: CustomModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_CHANGED", 1)
    own.override({"model": "groq/a", "contextLength": 5}, SYSTEM)
    own.override({"model": "groq/a", "contextLength": 6}, SYSTEM)
    with pytest.raises(Conflict):
        own.override({"model": "groq/b", "contextLength": 5}, SYSTEM)


@pytest.mark.parametrize(
    ("capabilities", "field"), [({"flying": True}, "capabilities.flying"), ({"tools": 1}, "capabilities.tools")]
)
def test_capabilities_are_known_words_with_yes_or_no(own: CustomModels, capabilities: Any, field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        own.override({"model": "groq/a", "capabilities": capabilities}, SYSTEM)
    assert fields_of(caught) == [field]


def test_a_model_that_is_gone_is_not_found(providers: Providers, own: CustomModels) -> None:
    own.create({"provider": "anthropic", "modelId": "mine"}, SYSTEM)
    with pytest.raises(ModelNotFound) as caught:
        providers.directories.current.resolve("mine")
    assert caught.value.extras["reason"] == "no_connection"
