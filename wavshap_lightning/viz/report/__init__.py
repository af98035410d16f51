"""One self-contained HTML page about explained clips: numbers, pictures and sounds in a single file."""

from __future__ import annotations

from wavshap_lightning.viz.report.page import build_report

__all__ = ["build_report"]
