"""Pages hold what they are given, escaped, and need no other file."""

from __future__ import annotations

from napari_cvsuite.reports.claims import HOLDS, NOT, UNKNOWN, Claim, claims_table, verdict
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.reports.markup import figure, page, table


def test_text_of_users_is_escaped() -> None:
    shown = page("a <b> & c", [table("<x>", ("<y>",), [("<z>", "&")])])
    for raw in ("<b>", "<x>", "<y>", "<z>"):
        assert raw not in shown.replace("<body>", "")
    assert "a &lt;b&gt; &amp; c" in shown


def test_pages_name_no_other_file() -> None:
    shown = page("title", [figure(b"png", "caption")])
    assert "http" not in shown and "data:image/png;base64,cG5n" in shown


def test_cells_show_intervals_and_missing_numbers() -> None:
    shown = table("", (), [("row", Interval(0.5, 0.25, 0.75), float("nan"), 0.00123, 250.4, None)])
    assert "0.500 [0.250, 0.750]" in shown
    assert shown.count(">none<") == 2
    assert ">0.0012<" in shown and ">250<" in shown


def test_claims_are_marked_by_their_verdict() -> None:
    claims = [
        Claim("one", verdict(True), "rule", "numbers"),
        Claim("two", verdict(False), "rule", "numbers"),
        Claim("three", UNKNOWN, "rule", "reason"),
    ]
    shown = "".join(claims_table(claims, "careful"))
    assert f"✓ {HOLDS}<" in shown and f"✗ {NOT}<" in shown and f"– {UNKNOWN}<" in shown
    assert "careful" in shown
