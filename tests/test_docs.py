"""The pages on models, noise and cues say what was measured, and the figure of noise shows it."""

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


@pytest.fixture
def docs(monkeypatch):
    pytest.importorskip("latex2mathml")
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])


def test_every_report_is_a_table_of_the_results(docs):
    import site_hooks

    tables = site_hooks.results_tables(ROOT / "benchmarks")
    for path in (ROOT / "benchmarks/results").glob("*.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        if path.stem != "models" and not report.get("quick", True):
            assert f"| {report['measurements'][0]['name']} |" in tables


def test_the_page_has_a_row_for_each(docs):
    import site_hooks

    page = site_hooks.on_page_markdown((ROOT / "docs/models.md").read_text(encoding="utf-8"))
    rows = [line for line in page.splitlines() if "<sup>" in line and line.startswith("|")]
    assert len(rows) == len(FAMILIES) + 1 + len(LAYOUTS) + len(REPORT["weighted_sums"])
    assert all(sum(f"<br>`{name}` |" in row for row in rows) == 1 for name in FAMILIES)
    assert "<!--" not in page


def noise_report(lime=0.3, split="test"):
    """A report of two clips in which Captum at 50 draws takes 2 s and changes 0.4, and ours changes 0.1."""
    of = {
        ("ours, default", 64): (1.0, 0.1),
        ("GradientShap (Captum)", 5): (0.2, 0.8),
        ("GradientShap (Captum)", 50): (2.0, 0.4),
        ("LIME (lime)", 1000): (0.5, lime),
    }
    title = "Whisper tiny.en, RAVDESS"
    methods = [
        {"classifier": title, "method": name, "draws": draws, "usual": draws != 50, "clips": 48}
        | {"seconds": seconds, "changed": changed, "low": changed - 0.05, "high": changed + 0.05}
        for (name, draws), (seconds, changed) in of.items()
    ]
    kinds = {"stable and right": 1, "stable and wrong": 2, "unstable": 1}
    evidence = [{"method": name, "draws": draws, "clips": 4, "auc": 0.7, **kinds} for name, draws in of]
    heads = [
        {"classifier": title, "method": name, "change": change, "kept": 0.6, "low": None, "high": None}
        for name, _ in list(of)[:2]
        for change in ("other draws", "another fold")
    ]
    gain = {"name": "to 90 %", "value": 12.0, "unit": "x", "note": "ours 1 s"}
    return {
        "methods": methods, "evidence": evidence, "heads": heads, "measurements": [gain], "clips": 48,
        "split": split,
    }  # fmt: skip


def test_every_number_of_the_page_on_noise_is_that_of_the_report(docs, monkeypatch, tmp_path):
    import site_hooks

    report = tmp_path / "reliability.json"
    report.write_text(json.dumps(noise_report()), encoding="utf-8")
    measured = {mark: (report, table) for mark, (_, table) in site_hooks.MEASURED.items() if "noise" in mark}
    monkeypatch.setattr(site_hooks, "MEASURED", measured)
    text = (ROOT / "docs/noise.md").read_text(encoding="utf-8")
    page = site_hooks.on_page_markdown(text)
    assert "<!--" not in page
    assert "figures/noise.png" in page
    assert "replaces 80 % of the strongest tenth" in page
    assert "40 % with 50, and 10 % with the default settings" in page
    rows = [line for line in page.splitlines() if line.startswith(("| GradientShap (Captum) |", "| LIME"))]
    assert rows[:2] == [
        "| GradientShap (Captum) | 5 | 80 % (75 % to 85 %); 0.2 s; 48 clips |",
        "| GradientShap (Captum) | 50 | 40 % (35 % to 45 %); 2 s; 48 clips |",
    ]
    assert "| LIME (lime) | 1000 | 25 % | 50 % | 25 % | 0.70 | 4 |" in rows
    assert "| Whisper tiny.en, RAVDESS | ours, default | 60 % | 60 % |" in page
    assert "| to 90 % | 12 | ours 1 s |" in page
    report.unlink()
    page = site_hooks.on_page_markdown(text)
    assert page.count("Not measured yet") == len(measured)
    assert "figures/noise.png" not in page


def test_the_page_on_noise_says_where_ours_does_not_win_and_that_a_trial_is_one(docs):
    from site_hooks import noise_summary

    assert "no method that draws at random replaces fewer" in noise_summary(noise_report())
    assert "fewer than ours: LIME (lime) with 1000 draws (W" in noise_summary(noise_report(lime=0.05))
    assert "trial" not in noise_summary(noise_report())
    assert "trial" in noise_summary(noise_report(split="validation"))


def test_the_figure_of_noise_shows_the_report(docs):
    from noise_figure import plot_noise

    report = noise_report()
    methods, evidence, heads = plot_noise(report).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in methods.lines}
    assert drawn["GradientShap (Captum)"] == [[0.2, 0.8], [2.0, 0.4]]
    assert drawn["ours, default, one clip"] == [[1.0, 0.1]]
    widths = [bar.get_width() for bar in evidence.patches]
    assert widths == [0.25, 0.5, 0.25] * len(report["evidence"])
    kept = [line.get_xdata()[0] for line in heads.lines if line.get_marker() == "o"]
    assert kept == [row["kept"] for row in report["heads"]]


def cues_report():
    """A report in which Whisper's mixtures are predicted with 0.8, and anger is 5 semitones higher."""
    spread = {"low": 0.5, "high": 0.9}
    names = {"classifier": "Whisper tiny.en", "kind": "mixtures", "method": "Shapley values"}
    bars = {"at_most": None, "at_least": 0.75, "missed": True, "note": "24 clips"}
    of = {
        "label": "angry",
        "clips": 3,
        "measured": 12,
        "expected": 1,
        "difference": {"value": 5.0, "low": 4.0, "high": 6.0},
    }
    of |= {f"Whisper tiny.en, {what}": {"value": 0.8, **spread} for what in ("value", "per unit")}
    cues = ("pitch_level", "pitch_range", "loudness", "tempo", "spectrum")
    return {
        "measurements": [{"name": "kept", "value": 0.7, **spread, **bars}],
        "effects": [{**names, "value": 0.8, **spread}],
        "shares": [{"classifier": "Whisper tiny.en", "label": "angry", "value": 0.25, **spread}],
        "profiles": [{"cue": cue, **of} for cue in cues],
    }


def test_every_number_of_the_page_on_cues_is_that_of_the_report(docs, monkeypatch, tmp_path):
    import site_hooks

    path = tmp_path / "cues.json"
    path.write_text(json.dumps(cues_report()), encoding="utf-8")
    measured = {mark: (path, table) for mark, (_, table) in site_hooks.MEASURED.items() if "cues" in mark}
    monkeypatch.setattr(site_hooks, "MEASURED", measured)
    page = site_hooks.on_page_markdown((ROOT / "docs/cues.md").read_text(encoding="utf-8"))
    assert "<!--" not in page
    assert "| kept | 0.7 | 0.5 to 0.9 | ≥ 0.75, **missed** | 24 clips |" in page
    assert "| Whisper tiny.en | mixtures | 0.80<br>(0.5 to 0.9) |" in page
    assert "| angry | 0.25<br>(0.5 to 0.9) |" in page
    assert "Required and not reached: none." in page
    assert "| **angry**<br>12 clips,<br>3 explained |" in page
    assert "+5.0 st ↑<br>Whisper +0.80 ↑<br>expected ↑" in page
