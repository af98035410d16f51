"""One self-contained page about explained clips: numbers, pictures and sounds in a single HTML file."""

from __future__ import annotations

from wavshap_lightning.viz.report.page import build_report
from wavshap_lightning.viz.report.report_clip import ReportClip

__all__ = ["ReportClip", "build_report"]
