"""What an attempt costs: its tokens at the price of the target that was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from omniroute.formats.usage import Usage
from omniroute.gateway.dialects import RelayedStream
from omniroute.gateway.directory import Target
from omniroute.money.tariff import Bill, Rates, Tariff, bill
from omniroute.records import Charge

BILLED: Final = "billed"
FREE: Final = "free"
UNPRICED: Final = "unpriced"
NOTHING: Final = "none"
"""Kind of the cost of a request that no provider has answered: 0, and neither free nor without a price."""

_FREE: Final = Tariff("", "", Rates(input=0, output=0))
_UNKNOWN: Final = Bill(None)


@dataclass(frozen=True, slots=True)
class Metered:
    """What is known of the length of an answer.

    Attributes:
        usage: as far as it has been reported.
        characters: about how many the model has generated, as far as they have come.
        is_whole: the answer has come to its end.
    """

    usage: Usage
    characters: int = 0
    is_whole: bool = True


def metered(stream: RelayedStream) -> Metered:
    """Return what is known of a stream by now."""
    usage = stream.usage
    is_reported = stream.is_complete and usage.input is not None and usage.output is not None
    return Metered(usage, 0 if is_reported else stream.spoken, stream.is_complete)


def charge_of(target: Target, usage: Usage, kind: str, *, is_serving: bool, upstream_id: str | None = None) -> Charge:
    """Return what an attempt cost; `usage` has all counts."""
    made, cost_kind = priced(target, usage)
    tariff = target.tariff if cost_kind not in (FREE, UNPRICED) else None
    return Charge(
        kind=kind,
        provider=target.provider.prefix,
        model=target.model,
        cost_kind=cost_kind,
        nano_usd=made.nano_usd,
        price_id=None if tariff is None else tariff.id,
        price_source=None if tariff is None else tariff.source,
        parts=made.parts,
        is_serving=is_serving,
        upstream_id=upstream_id,
    )


def priced(target: Target, usage: Usage) -> tuple[Bill, str]:
    """Return what tokens cost at a target, and what kind of cost that is."""
    kind = target.cost_kind
    if kind == FREE:
        return bill(_FREE, usage), FREE
    if target.tariff is None or usage.input is None or usage.output is None:
        made = _UNKNOWN
    else:
        made = bill(target.tariff, usage)
    return made, UNPRICED if kind == BILLED and made.nano_usd is None else kind
