# ruff: noqa: E501 -- a sentence of a vendor reads better on one line
"""The sentences in which providers say that a request is too long."""

from __future__ import annotations

import pytest

from omniroute.providers.context_numbers import ContextNumbers, context_numbers


@pytest.mark.parametrize(
    ("message", "used", "limit", "output"),
    [
        ("prompt is too long: 214031 tokens > 200000 maximum", 214031, 200000, None),
        (
            "input length and `max_tokens` exceed context limit: 190001 + 20000 > 200000, decrease input length or `max_tokens` and try again",
            190001,
            200000,
            20000,
        ),
        (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130112 tokens. Please reduce the length of the messages.",
            130112,
            128000,
            None,
        ),
        (
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the messages, 1000 in the completion). Please reduce the length of the messages or completion.",
            8000,
            8192,
            1000,
        ),
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            1200000,
            1048576,
            None,
        ),
        ("The input token count of 40,000 exceeds the maximum number of tokens allowed 32,768", 40000, 32768, None),
        ("This model's maximum context length is 4096 tokens.", None, 4096, None),
        ("Your input exceeds the context window of this model.", None, None, None),
        ("", None, None, None),
    ],
)
def test_the_numbers_are_read(message: str, used: int | None, limit: int | None, output: int | None) -> None:
    assert context_numbers(message, {}) == ContextNumbers(used, limit, output)


def test_hosts_that_have_them_as_members() -> None:
    error = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 8192}
    assert context_numbers("the request exceeds the available context size", error) == ContextNumbers(9000, 8192)


def test_members_of_another_type_are_passed_over() -> None:
    assert context_numbers("", {"n_prompt_tokens": "9", "n_ctx": None}) == ContextNumbers()
