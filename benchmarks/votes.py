"""Is it better to train on votes than on majority labels, and are values of unseen speakers predicted?

Planted votes: two heads that differ in their targets alone predict the votes for clips of 24 speakers of
another corpus, and the Jensen-Shannon divergences, means of three seeds, are compared clip by clip. Planted
arousal: its concordance for 24 other speakers, and whether its explanation finds the cue. RAVDESS: the
intensity of acting, normal or strong, as a value, in six folds by speaker.

    python benchmarks/votes.py --root DIR
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from _common import ROOT, Measurement, over_repeats, read_arguments, report
from _runs import OTHER_SEED, evidence_auc, kept_run, run_training
from ravdess_epochs import ravdess_flags

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.intervals import bootstrap_mean
from wavshap_lightning.models.head import Outputs
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.planted.corpus import PlantedSettings, ensure_planted_speech
from wavshap_lightning.training.cross_validation import Evaluation, score_intervals
from wavshap_lightning.training.data.dataset import pad_waveforms, read_waveform
from wavshap_lightning.training.scores import Predictions, divergences

SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)
CLIPS_EACH, QUICK_CLIPS_EACH = 5, 1
EXPLAINED, QUICK_EXPLAINED = 60, 4
LEAST_CCC, LEAST_AUC = 0.85, 0.85
INTENSITY = "--model.tasks=[{task: dimensions, labels: [intensity], scale: [1, 2]}]"


def main() -> None:
    """Train the heads, and report on the three corpora."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir"])
    report("votes", [*on_votes(arguments), *on_arousal(arguments), *on_intensity(arguments)], arguments)


def on_votes(arguments: argparse.Namespace) -> list[Measurement]:
    """Divergences with both kinds of targets, and their difference."""
    clips = other_speakers(arguments, "planted_votes")
    seeds = QUICK_SEEDS if arguments.quick else SEEDS
    found: dict[str, list[np.ndarray]] = {}
    for name, more in (("votes", ()), ("majority labels", ("--model.tasks=null",))):
        found[name] = [
            _divergences(trained(arguments, "planted_votes", f"--seed_everything={seed}", *more), clips)
            for seed in seeds
        ]
    difference = np.mean(found["majority labels"], axis=0) - np.mean(found["votes"], axis=0)
    better = bootstrap_mean(difference, [clip.speaker for clip in clips])
    unseen = f"{better.num_clips} clips of {better.num_resampled} unseen {better.resampled}"
    return [
        *(
            over_repeats(
                f"JSD, trained on {name}", [float(one.mean()) for one in of], unit="bit", note=unseen
            )
            for name, of in found.items()
        ),
        Measurement(
            "JSD lower by votes", better.value, better.low, better.high, "bit", note="range: 95% interval"
        ),
        Measurement("lower end of that interval", better.low, unit="bit", at_least=0.0),
    ]


def on_arousal(arguments: argparse.Namespace) -> list[Measurement]:
    """Concordance of arousal for other speakers, and the AUC of the evidence for it."""
    clips = other_speakers(arguments, "planted_dimensions")
    checkpoint = trained(arguments, "planted_dimensions")
    targets = torch.tensor([[dict(clip.values)["arousal"]] for clip in clips])
    predictions = _predictions(checkpoint, clips, targets)
    speakers = tuple(clip.speaker for clip in clips)
    ccc = score_intervals([Evaluation(predictions, speakers, {})])["ccc"]
    spread = np.random.default_rng(0).permutation([i for i, clip in enumerate(clips) if clip.evidence])
    chosen = spread[: QUICK_EXPLAINED if arguments.quick else EXPLAINED].tolist()
    auc = evidence_auc(checkpoint, [clips[i] for i in chosen], target="arousal")
    note = f"range: 95% interval over {ccc.num_resampled} unseen speakers, {len(clips)} clips"
    return [
        Measurement("CCC of planted arousal", ccc.value, ccc.low, ccc.high, at_least=LEAST_CCC, note=note),
        Measurement("AUC of the evidence for arousal", auc, at_least=LEAST_AUC, note=f"{len(chosen)} clips"),
    ]


def on_intensity(arguments: argparse.Namespace) -> list[Measurement]:
    """Concordance of the intensity of acting, by speaker."""
    flags = ravdess_flags(arguments.root, arguments.cache_dir, quick=arguments.quick, command="cv")
    flags += [INTENSITY, *(["--trainer.max_epochs=1"] if arguments.quick else [])]
    with tempfile.TemporaryDirectory() as folder:
        run_training(flags, Path(folder))
        (path,) = Path(folder).glob("runs/**/cv.json")
        summary = json.loads(path.read_text())
    note = (
        f"range: {summary['confidence']:.0%} interval over {summary['resampled']}; RMSE {summary['rmse']:.3f}"
    )
    return [
        Measurement(
            "CCC of RAVDESS intensity", summary["ccc"], summary["ccc_low"], summary["ccc_high"], note=note
        )
    ]


def trained(arguments: argparse.Namespace, name: str, *more: str) -> Path:
    """The best checkpoint of a configuration, which is trained unless it was before."""
    flags = [
        "fit",
        f"--config={ROOT / 'configs' / name}.yaml",
        f"--data.cache_dir={arguments.cache_dir.absolute()}",
    ]
    flags += ["--run.wandb=off", *(["--trainer.max_epochs=1"] if arguments.quick else []), *more]
    folder = kept_run(arguments.cache_dir, "-".join([name, *more]).replace("--", "").replace("/", "_"), flags)
    return folder / f"runs/{name}/version_0/checkpoints/best.ckpt"


def other_speakers(arguments: argparse.Namespace, name: str) -> list[Clip]:
    """Clips of 24 speakers of another corpus with the same options."""
    options: dict[str, Any] = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text())["data"]["options"]
    each = QUICK_CLIPS_EACH if arguments.quick else CLIPS_EACH
    options |= {"labels": tuple(options["labels"]), "seed": OTHER_SEED, "clips_per_speaker_and_label": each}
    return ensure_planted_speech(arguments.cache_dir / f"other-{name}-{each}", PlantedSettings(**options))


def _divergences(checkpoint: Path, clips: Sequence[Clip]) -> np.ndarray:
    """Divergence of votes and prediction for each clip, in bits."""
    labels = load_classifier(checkpoint).labels
    votes = torch.tensor([[dict(clip.votes).get(label, 0.0) for label in labels] for clip in clips])
    return divergences(_predictions(checkpoint, clips, votes / votes.sum(1, keepdim=True))).numpy()


@torch.no_grad()
def _predictions(checkpoint: Path, clips: Sequence[Clip], targets: torch.Tensor) -> Predictions:
    classifier, logits = load_classifier(checkpoint), []
    for start in range(0, len(clips), 16):
        waveforms = [read_waveform(clip, classifier.sample_rate) for clip in clips[start : start + 16]]
        logits.append(classifier(*pad_waveforms(waveforms)))
    positions = torch.arange(len(clips))
    outputs = (Outputs(classifier.task, classifier.labels),)
    return Predictions(torch.cat(logits), positions * 0, positions, targets, outputs)


if __name__ == "__main__":
    main()
