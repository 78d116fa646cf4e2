"""What inference takes and gives, as far as the gateway reads or makes it itself.

Providers add members to their answers, and take more in requests than is named here: both go through as they are, so
none of these shapes is closed.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NotRequired, Required, TypedDict

from omniroute.blueprints.contract import EVENT_STREAM, NDJSON

EVENTS: Final = {EVENT_STREAM: {"type": "string", "description": "With `stream`: the dialect's events as they come."}}
LINES: Final = {NDJSON: {"type": "string", "description": "Unless `stream` is false: one object in each line."}}


# --- OpenAI ----------------------------------------------------------------------------------------------------------


class ChatRequestDocument(TypedDict, total=False):
    """A conversation to go on with. Without `model` the default combo serves it."""

    model: str
    messages: Required[list[dict[str, Any]]]
    stream: bool | None
    stream_options: dict[str, Any] | None
    max_tokens: int | None
    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    n: int | None
    stop: str | list[str] | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    response_format: dict[str, Any] | None
    reasoning_effort: str | None
    thinking: dict[str, Any] | None
    prompt_cache_key: str | None
    seed: int | None
    user: str | None
    metadata: dict[str, Any] | None


class ChatCompletionDocument(TypedDict, total=False):
    """The continuation of a conversation."""

    id: str
    object: str
    created: int
    model: str
    choices: Required[list[dict[str, Any]]]
    usage: dict[str, Any] | None


class CompletionRequestDocument(TypedDict, total=False):
    """A text to go on with."""

    model: str
    prompt: Required[str | list[Any]]
    stream: bool | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    n: int | None
    stop: str | list[str] | None
    suffix: str | None
    user: str | None


class CompletionDocument(TypedDict, total=False):
    """The continuation of a text."""

    id: str
    object: str
    created: int
    model: str
    choices: Required[list[dict[str, Any]]]
    usage: dict[str, Any] | None


class ResponsesRequestDocument(TypedDict, total=False):
    """What to answer, in the members of OpenAI's responses."""

    model: str
    input: str | list[Any]
    instructions: str | None
    previous_response_id: str | None
    stream: bool | None
    store: bool | None
    background: bool | None
    max_output_tokens: int | None
    temperature: float | None
    top_p: float | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    reasoning: dict[str, Any] | None
    text: dict[str, Any] | None
    metadata: dict[str, Any] | None


class ResponseDocument(TypedDict, total=False):
    """A response."""

    id: Required[str]
    object: str
    created_at: float
    model: str
    status: str | None
    output: list[dict[str, Any]]
    error: dict[str, Any] | None
    usage: dict[str, Any] | None


class DeletedResponseDocument(TypedDict):
    """A response that is gone."""

    id: str
    object: str
    deleted: bool


class InputItemsDocument(TypedDict, total=False):
    """What led to a response."""

    object: str
    data: Required[list[dict[str, Any]]]
    first_id: str | None
    last_id: str | None
    has_more: bool


# --- Anthropic -------------------------------------------------------------------------------------------------------


class MessagesRequestDocument(TypedDict, total=False):
    """A conversation to go on with."""

    model: str
    messages: Required[list[dict[str, Any]]]
    max_tokens: int
    system: str | list[dict[str, Any]]
    stream: bool
    temperature: float
    top_p: float
    top_k: int
    stop_sequences: list[str]
    tools: list[dict[str, Any]]
    tool_choice: dict[str, Any]
    thinking: dict[str, Any]
    metadata: dict[str, Any]


class MessageDocument(TypedDict, total=False):
    """The continuation of a conversation."""

    id: str
    type: Literal["message"]
    role: str
    model: str
    content: Required[list[dict[str, Any]]]
    stop_reason: str | None
    stop_sequence: str | None
    usage: dict[str, Any]


class MessagesCountRequestDocument(TypedDict, total=False):
    """A conversation whose tokens are counted."""

    model: str
    messages: Required[list[dict[str, Any]]]
    system: str | list[dict[str, Any]]
    tools: list[dict[str, Any]]


class TokenCountDocument(TypedDict):
    """How many tokens a conversation has, and who counted them."""

    input_tokens: int
    source: Literal["provider", "local"]
    model: NotRequired[str]
    provider: NotRequired[str]


# --- Gemini ----------------------------------------------------------------------------------------------------------


class GenerateContentRequestDocument(TypedDict, total=False):
    """A conversation to go on with, or to count the tokens of."""

    contents: list[dict[str, Any]]
    systemInstruction: dict[str, Any]
    tools: list[dict[str, Any]]
    toolConfig: dict[str, Any]
    generationConfig: dict[str, Any]
    safetySettings: list[dict[str, Any]]
    cachedContent: str
    generateContentRequest: dict[str, Any]


class GenerateContentDocument(TypedDict, total=False):
    """The continuation of a conversation, why there is none, or a count of tokens."""

    candidates: list[dict[str, Any]]
    promptFeedback: dict[str, Any]
    usageMetadata: dict[str, Any]
    modelVersion: str
    responseId: str
    totalTokens: int


class GeminiModelDocument(TypedDict):
    """A model in Gemini's members."""

    name: str
    baseModelId: str
    version: str
    displayName: str
    description: str
    inputTokenLimit: int
    outputTokenLimit: int
    supportedGenerationMethods: list[str]
    thinking: bool


class GeminiModelsDocument(TypedDict):
    """A page of models; the token leads to the next."""

    models: list[GeminiModelDocument]
    nextPageToken: NotRequired[str]


# --- Ollama ----------------------------------------------------------------------------------------------------------


class OllamaChatRequestDocument(TypedDict, total=False):
    """A conversation to go on with."""

    model: Required[str]
    messages: list[dict[str, Any]]
    stream: bool | None
    tools: list[dict[str, Any]] | None
    format: str | dict[str, Any] | None
    think: bool | str | None
    options: dict[str, Any] | None
    keep_alive: str | float | None


class OllamaGenerateRequestDocument(TypedDict, total=False):
    """A text to go on with."""

    model: Required[str]
    prompt: str
    system: str | None
    suffix: str | None
    images: list[str] | None
    stream: bool | None
    format: str | dict[str, Any] | None
    think: bool | str | None
    options: dict[str, Any] | None
    keep_alive: str | float | None


class OllamaAnswerDocument(TypedDict, total=False):
    """The continuation: a `message`, or the text of a `response`."""

    model: str
    created_at: str
    message: dict[str, Any]
    response: str
    done: Required[bool]
    done_reason: str
    prompt_eval_count: int
    eval_count: int


class OllamaDetailsDocument(TypedDict):
    """What Ollama tells of a model's file, of which there is none here."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaTagDocument(TypedDict):
    """A model as Ollama lists it."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaDetailsDocument


class OllamaTagsDocument(TypedDict):
    """The models as Ollama lists what is installed."""

    models: list[OllamaTagDocument]


class OllamaShowRequestDocument(TypedDict, total=False):
    """Which model is asked about; `name` is another name of `model`."""

    model: str
    name: str
    verbose: bool


class OllamaShowDocument(TypedDict):
    """A model as Ollama describes it; `model_info` carries the context window."""

    modelfile: str
    parameters: str
    template: str
    details: OllamaDetailsDocument
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class OllamaVersionDocument(TypedDict):
    """The version of Ollama's API that is spoken."""

    version: str


# --- model lists -----------------------------------------------------------------------------------------------------


class ModelCapabilitiesDocument(TypedDict):
    """What a model can do."""

    tools: bool
    vision: bool
    reasoning: bool
    json_schema: bool
    streaming: bool


class ModelPricingDocument(TypedDict, total=False):
    """What a model costs, in USD per million tokens."""

    input: float
    output: float
    cached: float


class ModelDocument(TypedDict):
    """A model, a combo or an `auto` channel. A context length that is only assumed is null."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    name: str
    type: str
    subtype: NotRequired[str]
    context_length: int | None
    context_source: str
    max_output_tokens: int | None
    input_modalities: list[str]
    output_modalities: list[str]
    capabilities: ModelCapabilitiesDocument
    supported_endpoints: list[str]
    pricing: NotRequired[ModelPricingDocument]
    free: NotRequired[bool]
    custom: NotRequired[bool]


class ModelsDocument(TypedDict):
    """The models that the caller may use."""

    object: Literal["list"]
    data: list[ModelDocument]


class AnthropicModelDocument(TypedDict):
    """A model in Anthropic's members."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str


class AnthropicModelsDocument(TypedDict):
    """The models for callers that send `anthropic-version`."""

    data: list[AnthropicModelDocument]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ListedComboDocument(TypedDict):
    """A combo that the caller may use, and the targets that it may reach."""

    id: str
    object: Literal["combo"]
    strategy: str
    targets: list[str]
    context_length: int | None
    capabilities: dict[str, bool]


class ListedCombosDocument(TypedDict):
    """The combos that the caller may use."""

    object: Literal["list"]
    data: list[ListedComboDocument]


class FactorDocument(TypedDict):
    """One part of a score; `known` says whether its value was measured."""

    value: float
    weight: float
    known: bool


class CandidateDocument(TypedDict):
    """A model at a connection that an `auto` channel would choose from, or why it would not."""

    model: str
    provider: str | None
    connection: str | None
    score: float | None
    factors: dict[str, FactorDocument]
    eligible: bool
    reason: NotRequired[str]


class CandidatesDocument(TypedDict):
    """What an `auto` channel would choose from now, the best first and those that are left out last."""

    channel: str
    candidates: list[CandidateDocument]


class BannerDocument(TypedDict):
    """What answers here."""

    name: str
    version: str
    endpoints: list[str]
