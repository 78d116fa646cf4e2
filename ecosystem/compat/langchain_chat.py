"""LangChain's standard tests of a chat model, for one integration over every model prefix.

`tests/compat` runs this file with pytest in the lab's own environment; the environment variable LAB says for which
client, where the gateway is, and which prefixes there are.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.integration_tests import chat_models as standard

LAB = json.loads(os.environ["LAB"])
URL, KEY = LAB["url"], LAB["key"]
OLLAMA = "lab-ollama"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DOCUMENT = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n%%EOF\n"


@dataclass(frozen=True, slots=True)
class Integration:
    """A package, how it is pointed at the gateway, and what it says of itself in its own standard tests."""

    model_class: type[BaseChatModel]
    parameters: dict[str, Any]
    structured_output: str
    can: frozenset[str] = field(default_factory=frozenset)


INTEGRATIONS = {
    "langchain-openai": Integration(
        ChatOpenAI,
        {"base_url": f"{URL}/v1", "api_key": KEY, "use_responses_api": False, "stream_usage": True, "max_retries": 0},
        "json_schema",
        frozenset({"image", "pdf", "another model"}),
    ),
    "langchain-openai-responses": Integration(
        ChatOpenAI,
        {"base_url": f"{URL}/v1", "api_key": KEY, "use_responses_api": True, "max_retries": 0},
        "json_schema",
        frozenset({"image", "pdf", "image in a result", "another model"}),
    ),
    "langchain-anthropic": Integration(
        ChatAnthropic,
        {"base_url": URL, "api_key": KEY, "max_retries": 0},
        "function_calling",
        frozenset({"image", "pdf", "image in a result", "another model"}),
    ),
    "langchain-google-genai": Integration(
        ChatGoogleGenerativeAI,
        {"base_url": URL, "google_api_key": KEY, "max_retries": 1},
        "json_schema",
        frozenset({"image", "pdf"}),
    ),
}
INTEGRATION = INTEGRATIONS[LAB["client"]]


def sandbox_model(test: str) -> str:
    """Return the model of the sandbox that behaves as a test expects of a real one."""
    if "structured_output" in test:
        # Models of pydantic's first version cannot be given as a schema; the packages turn them into a tool.
        return "tools" if INTEGRATION.structured_output == "function_calling" or "v1" in test else "json"
    if "inputs" in test or "image" in test or "pdf" in test:
        return "image-desc"
    return "tools" if any(word in test for word in ("tool", "agent_loop", "few_shot")) else "echo"


class StandardTests(ChatModelIntegrationTests):
    """The standard tests, pointed at the gateway."""

    prefix: str

    @pytest.fixture(autouse=True)
    def _downloads_are_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give the tests the pictures and documents that they would fetch from the internet."""

        def get(url: str, **_: Any) -> SimpleNamespace:
            return SimpleNamespace(content=DOCUMENT if url.endswith(".pdf") else PICTURE)

        monkeypatch.setattr(standard, "httpx", SimpleNamespace(get=get))

    @pytest.fixture
    def model(self, request: pytest.FixtureRequest) -> BaseChatModel:
        """Return the integration with the model that suits the test."""
        name = f"{self.prefix}/{sandbox_model(request.function.__name__)}"
        more = getattr(request, "param", {})
        parameters = {**self.standard_chat_model_params, **self.chat_model_params, "model": name, **more}
        return self.chat_model_class(**parameters)

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """Say which integration is tested."""
        return INTEGRATION.model_class

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Say how it reaches the gateway."""
        return {**INTEGRATION.parameters, "model": f"{self.prefix}/echo"}

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        """Say how structured output is asked for."""
        return {"method": INTEGRATION.structured_output}

    @property
    def supports_json_mode(self) -> bool:
        """Say that JSON without a schema is not asked for: the keys stand in prose, which the sandbox cannot read."""
        return False

    @property
    def supports_image_inputs(self) -> bool:
        """Say whether pictures can be given."""
        return "image" in INTEGRATION.can

    @property
    def supports_pdf_inputs(self) -> bool:
        """Say whether documents can be given; Ollama has no place for them."""
        return "pdf" in INTEGRATION.can and self.prefix != OLLAMA

    @property
    def supports_image_tool_message(self) -> bool:
        """Say whether results of tools can have pictures."""
        return "image in a result" in INTEGRATION.can

    @property
    def supports_anthropic_inputs(self) -> bool:
        """Say that this test is left out: its thinking has a signature that only the vendor itself can check."""
        return False

    @property
    def supports_model_override(self) -> bool:
        """Say whether a single call can name another model."""
        return "another model" in INTEGRATION.can

    @property
    def model_override_value(self) -> str:
        """Name another model for a single call."""
        return f"{self.prefix}/story-3-1"


for _prefix in LAB["prefixes"]:
    _name = f"Test{_prefix.title().replace('-', '')}"
    globals()[_name] = type(_name, (StandardTests,), {"prefix": _prefix, "__module__": __name__})
del StandardTests
