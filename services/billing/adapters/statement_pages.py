"""Statements as HTML and as PDF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.billing.payments.statements import Statement, iso, summary
from services.common.money import usd_from_nanousd

if TYPE_CHECKING:
    from fpdf import FPDF

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
)
LINES_SHOWN_MAX = 2_000


def facts(statement: Statement, *, test_mode: bool) -> dict[str, Any]:  # Any: texts and rows
    """What both show, as texts."""
    return {
        "month": statement.month.name,
        "account_id": statement.account_id,
        "test_mode": test_mode,
        "opening": money(statement.opening_nanousd),
        "closing": money(statement.closing_nanousd),
        "summary": [(name, money(amount)) for name, amount in summary(statement)],
        "usage": [
            (model, requests, money(amount))
            for model, (amount, requests) in sorted(
                statement.usage.items(), key=lambda item: (-item[1][0], item[0])
            )
        ],
        "lines": [
            (iso(one.booked_at_ms)[:16].replace("T", " "), one.kind, one.what,
             money(one.amount_nanousd))
            for one in statement.lines[:LINES_SHOWN_MAX]
        ],
        "entries": statement.entries,
    }  # fmt: skip


def html(statement: Statement, *, test_mode: bool) -> bytes:
    """The statement as one page without any script or reference."""
    template = _TEMPLATES.get_template("statement.html.j2")
    return template.render(**facts(statement, test_mode=test_mode)).encode()


def pdf(statement: Statement, *, test_mode: bool) -> bytes:
    """The statement as PDF. It takes its time: call it in a thread."""
    # A second to import, of which billing's start need not know.
    from fpdf import FPDF

    found = facts(statement, test_mode=test_mode)
    page = FPDF(format="A4")
    page.set_title(f"Statement {found['month']}")
    page.set_auto_page_break(auto=True, margin=18)
    page.add_page()
    page.set_font("Helvetica", "B", 18)
    page.cell(0, 10, f"Statement for {found['month']}", new_x="LMARGIN", new_y="NEXT")
    page.set_font("Helvetica", "", 10)
    about = f"Account {found['account_id']}, UTC, US dollars, prepaid"
    page.cell(0, 6, about, new_x="LMARGIN", new_y="NEXT")
    if found["test_mode"]:
        page.set_font("Helvetica", "B", 10)
        text = "TEST MODE. Payments in this statement moved no money."
        page.cell(0, 8, text, new_x="LMARGIN", new_y="NEXT")
    page.ln(4)
    _rows(
        page,
        [("Opening balance", found["opening"]), *found["summary"],
         ("Closing balance", found["closing"])],
        widths=(130, 60),
    )  # fmt: skip
    if found["usage"]:
        _heading(page, "Usage by model")
        rows = [("Model", "Requests", "Cost"), *found["usage"]]
        _rows(page, rows, widths=(100, 30, 60))
    if found["lines"]:
        _heading(page, "Payments, credits and corrections")
        rows = [("Booked", "What", "Reference", "Amount"), *found["lines"]]
        _rows(page, rows, widths=(34, 44, 72, 40))
    page.ln(4)
    page.cell(0, 6, f"{found['entries']} entries, each of them in the journal.")
    return bytes(page.output())


def _heading(page: FPDF, text: str) -> None:
    page.ln(5)
    page.set_font("Helvetica", "B", 12)
    page.cell(0, 8, text, new_x="LMARGIN", new_y="NEXT")


def _rows(page: FPDF, rows: Any, *, widths: tuple[int, ...]) -> None:  # Any: rows of texts
    page.set_font("Helvetica", "", 9)
    for row in rows:
        for width, value in zip(widths[:-1], row[:-1], strict=True):
            text = _latin(str(value))
            while page.get_string_width(text) > width - 2:
                text = text[:-1]
            page.cell(width, 6, text, border="B")
        page.cell(widths[-1], 6, _latin(str(row[-1])), border="B", align="R")
        page.ln(6)


def money(amount_nanousd: int) -> str:
    """Dollars, exact."""
    text = usd_from_nanousd(amount_nanousd)
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def _latin(text: str) -> str:
    """The PDF's built-in fonts know Latin-1 alone."""
    return text.encode("latin-1", "replace").decode("latin-1")
