"""`/api/usage/receipts` and `/api/usage/reconcile`: what requests cost, and whether a provider's bill agrees."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final, TypedDict

from flask import Blueprint, Request, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from omniroute.blueprints.contract import Body, Query, Time, operation
from omniroute.blueprints.management.bodies import answer, iso_time
from omniroute.blueprints.management.usage import query_time
from omniroute.container import container
from omniroute.errors import RequestTooLarge, UnsupportedMediaType, ValidationFailed
from omniroute.money.tariff import NANO, usd_text
from omniroute.records import Charge
from omniroute.services.receipts import Receipt
from omniroute.services.reconciliation import MOST_BYTES, ReconciliationDocument, document_of

blueprint = Blueprint("management_receipts", __name__)

_TYPES: Final = frozenset({"text/csv", "text/plain", "application/csv", "application/vnd.ms-excel"})
_TOLERANCE_NANO: Final = NANO // 100
_MOST_TOLERANCE: Final = 1_000_000


class ChargeLineDocument(TypedDict):
    """Some tokens, or something else that is counted, and what they cost."""

    name: str
    count: int
    source: str
    ratePer1M: str | None
    nanoUsd: int | None
    usd: str | None


class ChargeDocument(TypedDict):
    """What one attempt of a request cost."""

    kind: str
    isServing: bool
    provider: str
    model: str
    costKind: str
    nanoUsd: int | None
    usd: str | None
    priceId: str | None
    priceSource: str | None
    upstreamRequestId: str | None
    lines: list[ChargeLineDocument]


class ReceiptDocument(TypedDict):
    """What a request cost, in whole nano-USD and as decimal text, and where each figure is from."""

    requestId: str
    time: Time
    apiKeyId: str | None
    requestedModel: str
    provider: str | None
    model: str | None
    status: int
    outcome: str
    tokensIn: int | None
    tokensOut: int | None
    cacheRead: int | None
    cacheWrite: int | None
    reasoning: int | None
    isEstimated: bool
    costKind: str
    priceId: str | None
    costNanoUsd: int | None
    costUsd: str | None
    extraNanoUsd: int
    extraUsd: str | None
    totalNanoUsd: int | None
    totalUsd: str | None
    billedNanoUsd: int | None
    billedUsd: str | None
    hasDetails: bool
    charges: list[ChargeDocument]


class OneReceiptDocument(TypedDict):
    """A receipt."""

    receipt: ReceiptDocument


_INVOICE: Final = Body({"type": "string", "description": "The provider's usage export with a header."}, "text/csv")


@blueprint.get("/api/usage/receipts/<request_id>")
@operation(OneReceiptDocument)
def receipt(request_id: str) -> Response:
    """Show what a request cost, and where each figure is from."""
    return answer(OneReceiptDocument(receipt=receipt_row(container().receipts.get(request_id))))


@blueprint.post("/api/usage/reconcile")
@operation(
    ReconciliationDocument,
    body=_INVOICE,
    query=(
        Query("provider", "Whose export it is; all of the log unless given."),
        Query("since", "From this ISO 8601 time on; the first day of the file unless given."),
        Query("until", "Up to this time; the last day of the file unless given."),
        Query("tolerance", "How far two amounts in USD may lie apart; 0.01 unless given."),
    ),
    refusals=(404,),
)
def reconcile() -> Response:
    """Compare a provider's usage export, the body as CSV, with the log."""
    done = container().reconciliation.run(
        _csv(request),
        tolerance_nano_usd=_tolerance(),
        provider=request.args.get("provider") or None,
        since=query_time("since"),
        until=query_time("until"),
    )
    return answer(document_of(done))


def receipt_row(found: Receipt) -> ReceiptDocument:
    """Return a receipt as the API shows it."""
    record = found.record
    return {
        "requestId": record.request_id,
        "time": iso_time(record.time),
        "apiKeyId": record.api_key_id,
        "requestedModel": record.requested_model,
        "provider": record.provider,
        "model": record.model,
        "status": record.status,
        "outcome": record.outcome,
        "tokensIn": record.tokens_in,
        "tokensOut": record.tokens_out,
        "cacheRead": record.cache_read,
        "cacheWrite": record.cache_write,
        "reasoning": record.reasoning,
        "isEstimated": record.is_estimated,
        "costKind": record.cost_kind,
        "priceId": record.price_id,
        "costNanoUsd": record.cost_nano_usd,
        "costUsd": usd_text(record.cost_nano_usd),
        "extraNanoUsd": record.extra_nano_usd,
        "extraUsd": usd_text(record.extra_nano_usd),
        "totalNanoUsd": found.total_nano_usd,
        "totalUsd": usd_text(found.total_nano_usd),
        "billedNanoUsd": found.billed_nano_usd,
        "billedUsd": usd_text(found.billed_nano_usd),
        "hasDetails": found.has_details,
        "charges": [_charge(charge) for charge in found.charges],
    }


def _charge(charge: Charge) -> ChargeDocument:
    return {
        "kind": charge.kind,
        "isServing": charge.is_serving,
        "provider": charge.provider,
        "model": charge.model,
        "costKind": charge.cost_kind,
        "nanoUsd": charge.nano_usd,
        "usd": usd_text(charge.nano_usd),
        "priceId": charge.price_id,
        "priceSource": charge.price_source,
        "upstreamRequestId": charge.upstream_id,
        "lines": [
            {
                "name": part.name,
                "count": part.count,
                "source": "estimate" if part.is_estimated else "provider",
                "ratePer1M": usd_text(part.rate),
                "nanoUsd": part.nano_usd,
                "usd": usd_text(part.nano_usd),
            }
            for part in charge.parts
        ],
    }


def _csv(source: Request) -> bytes:
    if source.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without a content encoding.")
    if source.mimetype not in _TYPES:
        raise UnsupportedMediaType("Send the file as Content-Type: text/csv.")
    source.max_content_length = MOST_BYTES
    try:
        return source.get_data(cache=False)
    except RequestEntityTooLarge:
        raise RequestTooLarge(f"The file is larger than {MOST_BYTES >> 20} MiB.", code="too_large") from None


def _tolerance() -> int:
    text = request.args.get("tolerance")
    if not text:
        return _TOLERANCE_NANO
    try:
        amount = Decimal(text[:40])
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= _MOST_TOLERANCE:
        raise ValidationFailed([{"field": "tolerance", "message": "must be an amount in USD such as 0.01"}])
    return int(amount * NANO)
