"""The provider rows: complete, plausible, cheap; and the operator's own rows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from omniroute.errors import ConfigurationError
from omniroute.formats.wire import WireFormat
from omniroute.providers.catalog import Catalogue, load
from omniroute.providers.sandbox.models import CONTEXT_TOKENS, LISTED, MAX_OUTPUT_TOKENS
from omniroute.providers.spec import PARAMETERS, AuthKind, ModelKind, ProviderStatus, Tier, fill

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "omniroute" / "providers" / "data"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def test_the_list_is_long_and_small(catalogue: Catalogue) -> None:
    assert len(catalogue.providers) >= 215
    assert sum(len(models) for models in catalogue.models.values()) >= 2200
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 900_000


def test_files_have_one_row_a_line_and_no_repeats() -> None:
    rows = json.loads((DATA / "providers.json").read_text(encoding="utf-8"))
    assert len((DATA / "providers.json").read_text(encoding="utf-8").splitlines()) == len(rows) + 2
    assert len({row["id"] for row in rows}) == len(rows)
    models = json.loads((DATA / "models.json").read_text(encoding="utf-8"))
    assert set(models) <= {row["id"] for row in rows}
    for listed in models.values():
        assert len({model["id"] for model in listed}) == len(listed)


def test_names_lead_to_one_provider(catalogue: Catalogue) -> None:
    owners: dict[str, str] = {}
    for row in catalogue:
        for name in set(row.names):
            assert owners.setdefault(name, row.id) == row.id, name
            assert re.fullmatch(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", name)
    assert {"auto", "combo", "models"}.isdisjoint(owners)


@pytest.mark.parametrize(
    ("name", "provider_id"),
    [
        ("cc", "claude"),
        ("claude", "claude"),
        ("gc", "gemini-cli"),
        ("DS", "deepseek"),
        ("pplx", "perplexity"),
        ("glm-cn", "glm-cn"),
        ("kmc", "kimi-coding"),
        ("azure", "azure-openai"),
        ("sandbox", "sandbox"),
    ],
)
def test_finds_by_id_prefix_and_alias(catalogue: Catalogue, name: str, provider_id: str) -> None:
    found = catalogue.find(name)
    assert found is not None
    assert found.id == provider_id


def test_addresses_are_plain_https(catalogue: Catalogue) -> None:
    for row in catalogue:
        if row.is_implicit:
            continue
        for url in (*row.urls.values(), *filter(None, (row.models_url, row.base_url))):
            values = dict.fromkeys((*PARAMETERS, "model"), "x")
            parts = urlsplit(fill(url, values))
            assert parts.scheme == "https" or (row.is_local and parts.hostname in ("localhost", "127.0.0.1")), row.id
            assert re.fullmatch(r"[A-Za-z0-9./:?=&_~-]+", fill(url, values)), url
            assert "@" not in parts.netloc
        assert WireFormat.OTHER not in row.urls
        assert set(row.key_headers) <= set(row.urls)


def test_local_rows_share_their_base(catalogue: Catalogue) -> None:
    for row in catalogue:
        if row.is_local:
            for url in (*row.urls.values(), *filter(None, (row.models_url,))):
                assert url.startswith(row.base_url), "a connection may replace the base of a local provider"


def test_parts_of_addresses_have_a_pattern(catalogue: Catalogue) -> None:
    for row in catalogue:
        assert set(row.parameters) <= set(PARAMETERS)
        assert set(row.defaults) <= set(row.parameters)
        for name, value in row.defaults.items():
            assert PARAMETERS[name].fullmatch(value)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("region", "us-east-1", "us-east-1.evil.example/"),
        ("resource", "my-resource", "a.b"),
        ("account", "xy12345.eu-central-1", "x@evil"),
        ("accountId", "0" * 32, "0" * 31),
        ("workspaceHost", "dbc-1.cloud.databricks.com", "cloud.databricks.com.evil.example"),
        ("apiHost", "api.ai.prod.eu.ml.hana.ondemand.com", "evil.example"),
        ("project", "my-project-1", "../x"),
        ("deployment", "d1.x_y-z", "a/b"),
        ("productId", "12", "12/"),
        ("userId", "user-1", "user x"),
    ],
)
def test_values_cannot_move_a_row_to_another_host(name: str, good: str, bad: str) -> None:
    assert PARAMETERS[name].fullmatch(good)
    assert not PARAMETERS[name].fullmatch(bad)
    for suffix in ("\n", "/", "#", "?", "@", "\\", "%2f", " "):
        assert not PARAMETERS[name].fullmatch(good + suffix)


def test_rows_hold_no_credential(catalogue: Catalogue) -> None:
    text = (DATA / "providers.json").read_text(encoding="utf-8")
    assert not re.search(r"client_secret|GOCSPX|sk-[A-Za-z0-9]{8}|AIza", text)
    for row in catalogue:
        if row.key_header is not None:
            assert "{key}" in row.key_header[1]
        assert not {"authorization", "x-api-key", "cookie"} & {name.lower() for name in row.headers}


def test_the_simulated_provider_lists_what_it_plays(catalogue: Catalogue) -> None:
    row = catalogue.providers["sandbox"]
    assert row.is_implicit
    assert row.auth == (AuthKind.NONE,)
    assert row.urls == {
        WireFormat.OPENAI_CHAT: "sandbox:/v1/chat/completions",
        WireFormat.ANTHROPIC_MESSAGES: "sandbox:/v1/messages",
        WireFormat.OPENAI_RESPONSES: "sandbox:/v1/responses",
        WireFormat.GEMINI: "sandbox:/v1beta/models/{model}:generateContent",
        WireFormat.OLLAMA: "sandbox:/api/chat",
    }
    listed = {model.id: model.name for model in catalogue.models_of("sandbox").values()}
    assert listed == {model.id: model.title for model in LISTED}
    windows = {(model.context, model.max_output) for model in catalogue.models_of("sandbox").values()}
    assert windows == {(CONTEXT_TOKENS, MAX_OUTPUT_TOKENS)}
    assert [row.id for row in catalogue if row.is_implicit] == ["sandbox"]


def test_facts_of_models(catalogue: Catalogue) -> None:
    model = catalogue.models_of("anthropic")["claude-opus-4-7"]
    assert model.kind is ModelKind.CHAT
    assert model.context == 1_000_000
    assert model.price is not None
    assert (model.price.input, model.price.output) == ("5", "25")
    assert "tools" in model.capabilities
    assert catalogue.models_of("openai")["text-embedding-3-small"].kind is ModelKind.EMBEDDING
    assert catalogue.models_of("openai")["whisper-1"].subtype == "transcription"
    assert catalogue.models_of("nobody") == {}


def test_prices_are_decimal_text_and_windows_are_positive(catalogue: Catalogue) -> None:
    seen = 0
    for models in catalogue.models.values():
        for model in models.values():
            assert model.context is None or model.context > 0
            assert model.max_output is None or model.max_output > 0
            assert model.id.isprintable()
            assert ".." not in model.id
            if model.price is not None:
                for name in ("input", "output", "cache_read", "cache_write"):
                    text = getattr(model.price, name)
                    assert text is None or re.fullmatch(r"\d+(\.\d+)?", text)
                    seen += text is not None
    assert seen > 2000


def test_equal_prices_are_one_object(catalogue: Catalogue) -> None:
    prices = [model.price for models in catalogue.models.values() for model in models.values() if model.price]
    assert len({id(price) for price in prices}) == len(set(prices))


def test_discontinued_rows_name_what_to_use(catalogue: Catalogue) -> None:
    gone = {row.id: row.replaced_by for row in catalogue if row.status is ProviderStatus.DISCONTINUED}
    assert gone["qwen"] == ("alibaba", "bailian-coding-plan")
    for row in catalogue:
        assert all(name in catalogue.providers for name in row.replaced_by)


def test_loading_is_cheap() -> None:
    program = (
        "import gc, resource, time, sys\n"
        "import msgspec, re, json, dataclasses, enum, hashlib, importlib.resources, pathlib\n"
        "import omniroute.records\n"  # every part of the program has that already
        "def rss():\n"
        "    return int(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])\n"
        "gc.collect(); before, start = rss(), time.process_time()\n"
        "from omniroute.providers import catalog\n"
        "loaded = catalog.load()\n"
        "cpu_ms = (time.process_time() - start) * 1000; gc.collect()\n"
        "print(cpu_ms, rss() - before)\n"
    )
    found = [
        tuple(float(figure) for figure in subprocess.check_output([sys.executable, "-c", program], cwd=ROOT).split())
        for _ in range(3)
    ]
    assert min(cpu for cpu, _ in found) <= 120, "60 ms on an idle machine"
    assert min(rss for _, rss in found) <= 8 * 1024


def test_importing_the_rows_does_not_read_them() -> None:
    program = (
        "import sys, builtins; opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "import omniroute.providers.catalog\n"
        "assert not [name for name in opened if name.endswith('.json')]\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


# --- the operator's file ---------------------------------------------------------------------------------------------


def merged(tmp_path: Path, *rows: Any) -> Catalogue:
    path = tmp_path / "providers.json"
    path.write_text(json.dumps({"providers": rows}), encoding="utf-8")
    return load(path)


def test_adds_a_row_with_models(tmp_path: Path) -> None:
    found = merged(
        tmp_path,
        {
            "id": "acme",
            "prefix": "ac",
            "name": "Acme",
            "urls": {"openai_chat": "https://llm.acme.example/v1/chat/completions"},
            "models": [{"id": "acme-1", "context": 32000, "price": {"input": "1.5"}}],
        },
    )
    row = found.find("AC")
    assert row is not None
    assert (row.id, row.tier, row.is_operator) == ("acme", Tier.API_KEY, True)
    assert row.auth == (AuthKind.API_KEY,)
    assert found.models_of("acme")["acme-1"].context == 32000


def test_changes_given_fields_of_a_row(tmp_path: Path) -> None:
    found = merged(tmp_path, {"id": "groq", "name": "Groq here", "models": [{"id": "new-1"}]})
    row = found.providers["groq"]
    assert row.name == "Groq here"
    assert row.is_operator
    assert WireFormat.OPENAI_RESPONSES in row.urls
    assert {"new-1", "llama-3.3-70b-versatile"} <= set(found.models_of("groq"))


URLS = {"openai_chat": "https://a.example/v1/chat/completions"}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([], "row 1"),
        ({}, "row 1"),
        ({"id": 5}, "row 1"),
        ({"id": "acme"}, "urls"),
        ({"id": "acme", "urls": {}}, "urls"),
        ({"id": "acme", "urls": {"other": "https://a.example"}}, "other"),
        ({"id": "acme", "urls": {"soap": "https://a.example"}}, "soap"),
        ({"id": "acme", "urls": {"openai_chat": "http://a.example"}}, "https://"),
        ({"id": "acme", "urls": {"openai_chat": "https://{evil}.example"}}, "evil"),
        ({"id": "acme", "urls": URLS, "colour": 1}, "colour"),
        ({"id": "acme", "urls": URLS, "is_operator": False}, "is_operator"),
        ({"id": "acme", "urls": URLS, "prefix": "cc"}, "belongs to claude"),
        ({"id": "acme", "urls": URLS, "aliases": ["groq"]}, "belongs to groq"),
        ({"id": "Acme", "urls": URLS}, "lower case"),
        ({"id": "auto", "urls": URLS}, "lower case"),
        ({"id": "a/b", "urls": URLS}, "lower case"),
        ({"id": "acme", "urls": URLS, "tier": "gold"}, "gold"),
        ({"id": "acme", "urls": URLS, "models": [{"name": "no id"}]}, "id"),
        ({"id": "acme", "urls": URLS, "models": [{"id": "a-1", "price": {"input": "-1"}}]}, "price of a-1 must be"),
        ({"id": "acme", "urls": URLS, "models": [{"id": "a-1", "price": {"per_image": "x"}}]}, "price of a-1 is not"),
        ({"id": "sandbox", "name": "x"}, "simulated"),
    ],
)
def test_refuses_unusable_rows(tmp_path: Path, row: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        merged(tmp_path, row)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"providers": {}}', "null"])
def test_refuses_unreadable_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "providers.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="OMNIROUTE_PROVIDERS_FILE"):
        load(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "absent.json")
