"""The playground without a script: one model is asked, and its answer comes in one piece."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any, ClassVar

import pytest

from omniroute.blueprints.dashboard import request_code
from tests.blueprints.dashboard.conftest import Pages, field_of, text_of

PAGE = "/dashboard/playground"
BODY = {"model": "auto", "messages": [{"role": "user", "content": "it's \"{body}\" $HOME `x` '''\n</script>"}]}


def test_it_opens_with_two_models_of_the_address(pages: Pages) -> None:
    page = pages.get(f"{PAGE}?model=sandbox/echo&model=sandbox/story")
    assert field_of(page, "model") == "sandbox/echo"
    assert 'data-others="["sandbox/story"]"' in page
    assert 'data-others="[""]"' in pages.get(PAGE)
    assert '<option value="sandbox/echo">' in page


def test_an_answer_is_shown_with_its_tokens_cost_and_way(pages: Pages) -> None:
    form = {"model": "sandbox/echo", "message": "Hello <b>lamp</b>", "system": "Be brief.", "temperature": "0.5"}
    answer = pages.post(PAGE, {**form, "maxTokens": "50"}, expect=200)
    assert '<p class="play-said">Hello &lt;b&gt;lamp&lt;/b&gt;</p>' in answer.text
    page = text_of(answer)
    assert "(free)" in page
    assert "/dashboard/logs/requests/req_" in page
    assert '"content": "Be brief."' in page
    assert '"max_tokens": 50' in page
    assert field_of(page, "system") == "Be brief."


def test_a_refusal_of_the_model_is_said(pages: Pages) -> None:
    page = text_of(pages.post(PAGE, {"model": "sandbox/fail-429", "message": "Hello"}, expect=200))
    assert "limits the rate of requests" in page
    assert "rate_limit_exceeded" in page
    page = text_of(pages.post(PAGE, {"model": "sandbox/garbage", "message": "Hello"}, expect=200))
    assert "notice-danger" in page


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"model": ""}, "f-model"),
        ({"message": " "}, "f-message"),
        ({"temperature": "warm"}, "f-temperature"),
        ({"temperature": "nan"}, "f-temperature"),
        ({"temperature": "3"}, "f-temperature"),
        ({"maxTokens": "0"}, "f-maxTokens"),
        ({"maxTokens": "1.5"}, "f-maxTokens"),
    ],
)
def test_a_wrong_value_is_marked_and_nothing_is_sent(pages: Pages, form: dict[str, str], field: str) -> None:
    typed = {"model": "sandbox/echo", "message": "Hello", "system": "kept"}
    page = text_of(pages.post(PAGE, {**typed, **form}, expect=400))
    assert f'id="{field}-fault"' in page
    assert field_of(page, "system") == "kept"
    assert pages.api("GET", "/api/usage/logs")["logs"] == []


def _requested(program: list[str], **environment: str) -> Any:
    done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=True, env=environment)
    return json.loads(done.stdout)


def test_the_python_program_sends_the_request() -> None:
    """Compile it and see with what it calls `requests`."""
    code = request_code.written("python", "http://localhost:1/v1/chat/completions", BODY)
    sent: dict[str, Any] = {}

    class Answer:
        def raise_for_status(self) -> None:
            """Do nothing: all is well."""

        def json(self) -> Any:
            return {"choices": [{"message": {"content": "Hi"}}]}

    class Requests:
        def post(self, url: str, **given: Any) -> Answer:
            sent.update(given, url=url)
            return Answer()

    class Environment:
        environ: ClassVar = {"OMNIROUTE_API_KEY": "sk-x"}

    program = code.removeprefix("import os\n\nimport requests\n")
    exec(compile(program, "program", "exec"), {"os": Environment, "requests": Requests()})
    assert sent["json"] == BODY
    assert sent["headers"] == {"Authorization": "Bearer sk-x"}
    assert sent["url"] == "http://localhost:1/v1/chat/completions"


def test_the_shell_takes_the_body_as_it_is() -> None:
    code = request_code.written("curl", "http://localhost:1", BODY)
    body = _requested([shutil.which("sh") or "sh", "-c", "curl() { cat; }\n" + code], PATH="/usr/bin:/bin")
    assert body == {**BODY, "stream": True}
