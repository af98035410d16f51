"""Train speech-emotion heads on frozen WavLM and explain what they rely on.

The public names below are imported on first use, so that `import wavshap_lightning` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavshap_lightning.attribution.record import Attribution
    from wavshap_lightning.audio.io import load_audio
    from wavshap_lightning.corpora.catalogue import load_corpus
    from wavshap_lightning.corpora.clip import Clip, Span
    from wavshap_lightning.errors import WavshapError
    from wavshap_lightning.explainer.compare import Comparison, compare
    from wavshap_lightning.explainer.explainer import Explainer, explain
    from wavshap_lightning.explainer.explanation import Explanation
    from wavshap_lightning.explainer.settings import ExplainSettings
    from wavshap_lightning.models.backbone import BackboneSettings, SpeechBackbone
    from wavshap_lightning.models.classifier import EmotionClassifier
    from wavshap_lightning.models.head import EmotionHead, HeadSettings
    from wavshap_lightning.models.loading import load_classifier
    from wavshap_lightning.training.data.datamodule import EmotionDataModule
    from wavshap_lightning.training.module import EmotionModule
    from wavshap_lightning.training.monitoring.monitor import ExplanationMonitor
    from wavshap_lightning.viz.clip_view import ClipView
    from wavshap_lightning.viz.comparisons import plot_comparison, plot_epochs, plot_methods
    from wavshap_lightning.viz.figures import plot
    from wavshap_lightning.viz.report.page import build_report

__version__ = "0.2.0"

_HOME = {
    "Attribution": "attribution.record",
    "BackboneSettings": "models.backbone",
    "Clip": "corpora.clip",
    "ClipView": "viz.clip_view",
    "Comparison": "explainer.compare",
    "EmotionClassifier": "models.classifier",
    "EmotionDataModule": "training.data.datamodule",
    "EmotionHead": "models.head",
    "EmotionModule": "training.module",
    "ExplainSettings": "explainer.settings",
    "Explainer": "explainer.explainer",
    "Explanation": "explainer.explanation",
    "ExplanationMonitor": "training.monitoring.monitor",
    "HeadSettings": "models.head",
    "Span": "corpora.clip",
    "SpeechBackbone": "models.backbone",
    "WavshapError": "errors",
    "build_report": "viz.report.page",
    "compare": "explainer.compare",
    "explain": "explainer.explainer",
    "load_audio": "audio.io",
    "load_classifier": "models.loading",
    "load_corpus": "corpora.catalogue",
    "plot": "viz.figures",
    "plot_comparison": "viz.comparisons",
    "plot_epochs": "viz.comparisons",
    "plot_methods": "viz.comparisons",
}

__all__ = [
    "Attribution",
    "BackboneSettings",
    "Clip",
    "ClipView",
    "Comparison",
    "EmotionClassifier",
    "EmotionDataModule",
    "EmotionHead",
    "EmotionModule",
    "ExplainSettings",
    "Explainer",
    "Explanation",
    "ExplanationMonitor",
    "HeadSettings",
    "Span",
    "SpeechBackbone",
    "WavshapError",
    "build_report",
    "compare",
    "explain",
    "load_audio",
    "load_classifier",
    "load_corpus",
    "plot",
    "plot_comparison",
    "plot_epochs",
    "plot_methods",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
