"""`/api/usage/receipts` and `/api/usage/reconcile`: what requests cost, and whether a provider's bill agrees."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

from flask import Blueprint, Request, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from omniroute.blueprints.management.bodies import answer, iso_time
from omniroute.blueprints.management.usage import query_time
from omniroute.container import container
from omniroute.errors import RequestTooLarge, UnsupportedMediaType, ValidationFailed
from omniroute.money.tariff import NANO, usd_text
from omniroute.records import Charge
from omniroute.services.receipts import Receipt
from omniroute.services.reconciliation import MOST_BYTES, document_of

blueprint = Blueprint("management_receipts", __name__)

_TYPES: Final = frozenset({"text/csv", "text/plain", "application/csv", "application/vnd.ms-excel"})
_TOLERANCE_NANO: Final = NANO // 100
_MOST_TOLERANCE: Final = 1_000_000


@blueprint.get("/api/usage/receipts/<request_id>")
def receipt(request_id: str) -> Response:
    """Show what a request cost, and where each figure is from."""
    return answer({"receipt": receipt_row(container().receipts.get(request_id))})


@blueprint.post("/api/usage/reconcile")
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


def receipt_row(found: Receipt) -> dict[str, Any]:
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


def _charge(charge: Charge) -> dict[str, Any]:
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
