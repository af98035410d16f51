"""The tutorial: train a small classifier, explain a clip, look at it, compare two epochs.

Run it from the folder of the project, `python docs/tutorial.py`; it needs neither network, GPU nor data, and
takes some minutes. In a notebook, each step is a cell, and `plot(found)` shows the figure.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lightning as L  # noqa: N812

from wavshap_lightning import (
    BackboneSettings,
    Comparison,
    EmotionDataModule,
    EmotionModule,
    Explainer,
    Explanation,
    HeadSettings,
    compare,
    explain,
    plot,
    plot_comparison,
)


def train(data: EmotionDataModule, epochs: int) -> EmotionModule:
    """Train a head on PlantedSpeech, synthetic speech in which a known cue decides the class."""
    model = EmotionModule(data.labels, BackboneSettings("tiny"), HeadSettings(layer=0, pooling="attentive"))
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    return model


def explain_clip(model: EmotionModule, data: EmotionDataModule, folder: Path, num_draws: int) -> Explanation:
    """Explain a clip of a test speaker, print the top frames and draw the figure."""
    clip = data.clips("test")[0]
    found = explain(
        model.classifier.eval(), clip, target=clip.label, stages=["frames", "layers"], num_draws=num_draws
    )
    print(found.prediction, found.probabilities)  # noqa: T201 - a tutorial prints
    for frame in found.top("frames", 3):
        print("{start_s:.2f}-{end_s:.2f} s  {attribution:+.3f} +- {half_width:.3f}".format(**frame))  # noqa: T201
    figure = plot(found, label=clip.label, evidence=clip.evidence)
    figure.savefig(folder / "clip.png")
    found.save(folder / "clip.explanation")
    return found


def compare_models(
    early: EmotionModule, late: EmotionModule, data: EmotionDataModule, found: Explanation, folder: Path
) -> Comparison:
    """Compare the maps of two models. Both use the same draws, so that sampling error cancels."""
    clip = data.clips("test")[0]
    explainer = Explainer(early.classifier.eval(), found.settings)
    before = explainer.explain(clip, found.targets[0])
    comparison = compare(explainer, late.classifier.eval(), clip, before)
    figure = plot_comparison(comparison, names=("early", "late"), label=clip.label, evidence=clip.evidence)
    figure.savefig(folder / "early_and_late.png")
    return comparison


def main(
    folder: Path,
    *,
    num_speakers: int = 12,
    num_draws: int = 64,
    epochs: tuple[int, int] = (2, 30),
    **options: object,
) -> Comparison:
    """Run all steps and write the figures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data = EmotionDataModule("planted", options={"num_speakers": num_speakers, **options})
    early, late = (train(data, count) for count in epochs)
    found = explain_clip(late, data, folder, num_draws)
    return compare_models(early, late, data, found, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial"))
