"""`/api/jobs`: long work that was asked for, and how far it is."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import PAGING, SEARCH, ListDocument, Query, operation, sorting
from omniroute.blueprints.management.bodies import Order, Page, answer, iso_time, listing
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.records import JobState, LongJob

blueprint = Blueprint("management_jobs", __name__)


class JobErrorDocument(TypedDict):
    """Why long work failed."""

    code: str
    message: str


class JobDocument(TypedDict):
    """Long work and how far it is."""

    id: str
    kind: str
    state: JobState
    progress: float | None
    result: dict[str, Any] | None
    error: JobErrorDocument | None
    createdAt: str | None
    finishedAt: str | None


class JobsDocument(ListDocument):
    """A page of the long work of the last day."""

    jobs: list[JobDocument]


class AcceptedDocument(TypedDict):
    """Work was accepted; `/api/jobs/{jobId}` says how far it is."""

    jobId: str


_ORDER: Final[Order[LongJob]] = Order(
    searched=lambda job: (job.id, job.kind),
    fields={"createdAt": lambda job: job.created_at, "finishedAt": lambda job: job.finished_at},
)


def accepted(job_id: str) -> Response:
    """Return the answer to a request that started long work."""
    return answer(AcceptedDocument(jobId=job_id), 202)


@blueprint.get("/api/jobs")
@operation(
    JobsDocument,
    query=(
        *PAGING,
        *SEARCH,
        sorting("createdAt", "finishedAt"),
        Query("kind", "Only work of this kind."),
        Query("state", "Only work in this state.", choices=tuple(JobState)),
    ),
)
def index() -> Response:
    """List the long work of the last day, the newest first."""
    page = Page.read(request)
    kind, state = request.args.get("kind"), request.args.get("state")
    if state and state not in tuple(JobState):
        raise ValidationFailed([{"field": "state", "message": f"must be one of {', '.join(JobState)}"}])
    jobs = [
        job for job in container().jobs.newest() if (not kind or job.kind == kind) and (not state or job.state == state)
    ]
    found = _ORDER.apply(request, jobs)
    return listing("jobs", [shown(job) for job in page.cut(found)], total=len(found), page=page)


@blueprint.get("/api/jobs/<job_id>")
@operation(JobDocument, refusals=(404,))
def show(job_id: str) -> Response:
    """Show how far long work is.

    Finished work is kept for a day.
    """
    return answer(shown(container().jobs.get(job_id)))


def shown(job: LongJob) -> JobDocument:
    """Return long work as management answers show it."""
    error = job.error
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "progress": job.progress,
        "result": dict(job.result) if job.result is not None else None,
        "error": {"code": error["code"], "message": error["message"]} if error is not None else None,
        "createdAt": iso_time(job.created_at),
        "finishedAt": iso_time(job.finished_at),
    }
