"""Write the table of providers in `docs/providers.md` anew from the rows: run it after adding or changing one.

python ecosystem/provider_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from omniroute.formats.wire import WireFormat  # noqa: E402
from omniroute.providers.catalog import Catalogue, load  # noqa: E402
from omniroute.providers.spec import Provider, ProviderStatus, Tier  # noqa: E402

PAGE = ROOT / "ecosystem" / "docs" / "providers.md"
BEGIN, END = "<!-- providers: begin -->", "<!-- providers: end -->"
_TIERS = {
    Tier.SUBSCRIPTION: "Subscriptions",
    Tier.CHEAP: "Flat or cheap plans",
    Tier.API_KEY: "Paid by use",
    Tier.FREE: "Free",
    Tier.LOCAL: "On your own machines",
}
_FORMATS = {
    WireFormat.OPENAI_CHAT: "chat",
    WireFormat.OPENAI_RESPONSES: "responses",
    WireFormat.ANTHROPIC_MESSAGES: "messages",
    WireFormat.GEMINI: "gemini",
    WireFormat.OLLAMA: "ollama",
}
_HEAD = "| Id | Prefix and aliases | Name | Credential | Formats | Services | Needs |\n|---|---|---|---|---|---|---|"


def table(catalogue: Catalogue) -> str:
    """Return the part of the page between the markers."""
    parts = []
    for tier, title in _TIERS.items():
        rows = sorted((row for row in catalogue if row.tier is tier), key=lambda row: row.id)
        parts.append(f"### {title}\n\n{_HEAD}\n" + "\n".join(_line(row) for row in rows))
    return "\n\n".join(parts)


def _line(row: Provider) -> str:
    names = dict.fromkeys(name for name in (row.prefix, *row.aliases) if name != row.id)
    needs = [f"`{name}`" for name in row.parameters if name not in row.defaults]
    state = {
        ProviderStatus.OK: "",
        ProviderStatus.UNVERIFIED: " (unverified)",
        ProviderStatus.DISCONTINUED: " (discontinued)",
    }[row.status]
    cells = (
        f"`{row.id}`",
        ", ".join(f"`{name}`" for name in names),
        row.name + state,
        ", ".join(row.auth),
        ", ".join(_FORMATS[key] for key in _FORMATS if key in row.urls),
        ", ".join(row.services),
        ", ".join(needs),
    )
    return f"| {' | '.join(cells)} |"


def rewritten(page: str, catalogue: Catalogue) -> str:
    """Return the page with the present table."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table(catalogue)}\n\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), load()), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} is up to date")
