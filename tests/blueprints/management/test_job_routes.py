"""`/api/jobs` over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from omniroute.errors import Conflict
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    data_dir = tmp_path_factory.mktemp("jobs") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        yield built


def fail(report: Callable[[float], None]) -> dict[str, Any]:
    raise Conflict("It is in use.", code="in_use")


def test_work_is_followed_by_its_id(app: App) -> None:
    job_id = app.own.jobs.start("made", lambda report: {"rows": 3})
    document = app.admin.get(f"/api/jobs/{job_id}").get_json()
    assert document["createdAt"].endswith("Z")
    assert document == {
        "id": job_id,
        "kind": "made",
        "state": "succeeded",
        "progress": 1.0,
        "result": {"rows": 3},
        "error": None,
        "createdAt": document["createdAt"],
        "finishedAt": document["finishedAt"],
    }


def test_failed_work_says_why(app: App) -> None:
    job_id = app.own.jobs.start("failing", fail)
    document = app.admin.get(f"/api/jobs/{job_id}").get_json()
    assert (document["state"], document["result"]) == ("failed", None)
    assert document["error"] == {"code": "in_use", "message": "It is in use."}


def test_the_list_is_narrowed_and_paged(app: App) -> None:
    made = [app.own.jobs.start("listed", lambda report: {}) for _ in range(3)]
    broken = app.own.jobs.start("listed", fail)
    response = app.admin.get("/api/jobs?kind=listed&limit=2")
    assert [job["id"] for job in response.get_json()["jobs"]] == [broken, made[2]]
    assert response.headers["X-Total-Count"] == "4"
    failed = app.admin.get("/api/jobs?kind=listed&state=failed").get_json()
    assert [job["id"] for job in failed["jobs"]] == [broken]
    ascending = app.admin.get("/api/jobs?q=listed&sort=createdAt&limit=1").get_json()
    assert ascending["jobs"][0]["id"] == made[0]


def test_unknown_work_is_not_found(app: App) -> None:
    response = app.admin.get("/api/jobs/job_0")
    assert response.status_code == 404
    assert error_of(response)["code"] == "not_found"


@pytest.mark.parametrize("query", ["state=done", "sort=kind", "limit=0"])
def test_a_wrong_query_is_refused(app: App, query: str) -> None:
    response = app.admin.get(f"/api/jobs?{query}")
    assert response.status_code == 400
    assert error_of(response)["code"] == "validation_failed"


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/job_0"])
def test_jobs_are_for_management(app: App, path: str) -> None:
    assert app.client().get(path).status_code == 401
    assert app.client(app.key()).get(path).status_code == 403
