"""The page of models says what was measured of every row of the tables of models."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from wavshap_lightning.models.families import FAMILIES
from wavshap_lightning.models.foreign_heads import LAYOUTS

ROOT = Path(__file__).parents[1]
REPORT = json.loads((ROOT / "benchmarks/results/models.json").read_text(encoding="utf-8"))


def test_every_family_and_head_was_measured_and_none_else():
    assert REPORT["families"].keys() == FAMILIES.keys()
    assert [*REPORT["heads"]] == [layout.mark for layout in LAYOUTS]


def test_every_error_is_below_the_bar():
    assert not REPORT["quick"]
    assert REPORT["measurements"]
    assert all(line["value"] <= line["at_most"] == 1e-5 for line in REPORT["measurements"])


def test_the_page_has_a_row_for_each(monkeypatch):
    pytest.importorskip("latex2mathml")
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    import site_hooks

    page = site_hooks.on_page_markdown((ROOT / "docs/models.md").read_text(encoding="utf-8"))
    rows = [line for line in page.splitlines() if "<sup>" in line and line.startswith("|")]
    assert len(rows) == len(FAMILIES) + 1 + len(LAYOUTS) + len(REPORT["weighted_sums"])
    assert all(sum(f"<br>`{name}` |" in row for row in rows) == 1 for name in FAMILIES)
    assert "<!--" not in page
