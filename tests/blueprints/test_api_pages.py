"""The description of the API as pages, and as values for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from omniroute.blueprints.api_reference import Described, Tag, tags_of
from omniroute.blueprints.dashboard.api_pages import prose
from omniroute.blueprints.openapi import describe
from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    data_dir = tmp_path_factory.mktemp("pages") / "data"
    data_dir.mkdir(mode=0o700)
    with whole_app(Settings(data_dir=data_dir, instance_name="test", app_log_to_file=False)) as app:
        yield app


@pytest.fixture(scope="module")
def inside(running: App) -> FlaskClient:
    client = running.client()
    answer = client.post("/api/auth/login", json={"password": PASSWORD})
    assert answer.status_code == 200
    return client


@pytest.fixture(scope="module")
def tags(running: App) -> list[Tag]:
    return tags_of(describe(running.app))


def operation(tags: list[Tag], name: str) -> Described:
    return next(one for tag in tags for one in tag.operations if one.id == name)


def test_the_pages_are_behind_the_login(running: App) -> None:
    for path in ("/docs/api", "/docs/api/keys"):
        answer = running.client().get(path)
        assert answer.status_code == 302
        assert answer.headers["Location"] == f"/login?next={path}"


def test_the_first_page_has_every_operation(inside: FlaskClient, tags: list[Tag]) -> None:
    answer = inside.get("/docs/api")
    page = answer.get_data(as_text=True)
    assert answer.status_code == 200
    assert [one.path for tag in tags for one in tag.operations if f"<code>{one.path}</code>" not in page] == []
    assert "/api/openapi.json" in page
    assert "<strong>Credentials.</strong>" in page


def test_a_search_narrows_it(inside: FlaskClient) -> None:
    page = inside.get("/docs/api?q=provider-nodes").get_data(as_text=True)
    assert "/api/provider-nodes/{nodeId}" in page
    assert "/api/keys" not in page
    nothing = inside.get("/docs/api?q=<script>").get_data(as_text=True)
    assert "No operation holds “&lt;script&gt;”" in nothing


def test_each_tag_has_a_page_whose_links_lead_somewhere(inside: FlaskClient, tags: list[Tag]) -> None:
    for tag in tags:
        answer = inside.get(f"/docs/api/{tag.slug}")
        page = answer.get_data(as_text=True)
        assert answer.status_code == 200
        assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))
        assert [one.id for one in tag.operations if f'id="{one.id}"' not in page] == []


def test_the_pages_need_no_script(inside: FlaskClient) -> None:
    answer = inside.get("/docs/api/keys")
    page = answer.get_data(as_text=True)
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert re.findall(r"<script(?![^>]*(?:\bsrc=|application/json))", page) == []
    assert re.findall(r"\bon[a-z]+=|\bstyle=", page) == []


def test_an_unknown_tag_is_not_found(inside: FlaskClient) -> None:
    assert inside.get("/docs/api/weather").status_code == 404


def test_an_operation_is_read_whole(tags: list[Tag]) -> None:
    made = operation(tags, "keysCreate")
    assert (made.method, made.path, made.tier, made.scope) == ("POST", "/api/keys", "M:w", "write")
    names = {shape.name: shape for tag in tags for shape in tag.shapes}
    body = names[made.bodies[0].type[0].schema or ""]
    name = next(row for row in body.rows if row.name == "name")
    assert (name.is_required, name.type_text, name.text) == (True, "string", "At most 200 characters.")
    assert [answer.status for answer in made.answers if not answer.is_refusal] == ["201"]
    assert made.answers[0].contents[0].type_text == "NewKey"
    assert made.curl.splitlines() == [
        'curl -X POST "$OMNIROUTE_URL/api/keys" \\',
        '  -H "Authorization: Bearer $OMNIROUTE_KEY" \\',
        '  -H "Content-Type: application/json" \\',
        """  -d '{"name":"…"}'""",
    ]


def test_examples_of_calls_are_such_that_they_work(tags: list[Tag], running: App) -> None:
    made = operation(tags, "chatChatCompletions")
    found = re.search(r"-d '(.*)'$", made.curl, re.DOTALL)
    assert found is not None
    answer = running.client(running.key()).post(made.path, data=found[1], content_type="application/json")
    assert answer.status_code == 200


def test_parameters_of_the_path_and_query_are_told_apart(tags: list[Tag]) -> None:
    places = {row.name: row.place for row in operation(tags, "combosShowChannel").parameters}
    assert places == {"channel": "path", "apiKeyId": "query"}
    limit = next(row for row in operation(tags, "keysIndex").parameters if row.name == "limit")
    assert limit.text == "How many rows at most; 50 unless given. 1 to 200."


def test_types_are_said_in_words() -> None:
    def read(schema: dict[str, Any]) -> str:
        answer = {"description": "", "content": {"application/json": {"schema": schema}}}
        one = {
            "operationId": "x", "tags": ["t"], "summary": "", "x-omniroute-tier": "P", "security": [],
            "responses": {"200": answer},
        }  # fmt: skip
        tag = {"name": "t", "description": ""}
        document = {"tags": [tag], "paths": {"/x": {"get": one}}, "components": {"schemas": {"Thing": {}}}}
        return tags_of(document)[0].operations[0].answers[0].contents[0].type_text

    assert read({"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}) == "list of Thing"
    assert read({"type": ["string", "null"]}) == "string or null"
    assert read({"type": "object", "additionalProperties": {"type": "integer"}}) == "map of integer"
    assert read({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}) == "time or null"
    assert read({"enum": ["a", "b"]}) == '"a", "b"'
    assert read({"const": "ok"}) == '"ok"'
    assert read({}) == "anything"


def test_prose_is_escaped() -> None:
    assert prose("a **b** `c`\n\n<d>") == "<p>a <strong>b</strong> <code>c</code></p>\n<p>&lt;d&gt;</p>"
