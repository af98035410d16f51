"""`train.py predict`: a table of a model's outputs for any recordings, also as challenges want it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.cli.clips import ModelOptions, attempt, find_clips, open_for, open_model
from wavshap_lightning.cli.output import status_of, writing_to
from wavshap_lightning.cli.terminal import on_one_line, say
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.msp_podcast import LABELS, VALUE_COLUMNS
from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import write_csv
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import SOFTMAX_TASKS, Outputs, logits_to_outputs, split_outputs
from wavshap_lightning.models.loading import models_in
from wavshap_lightning.training.data.dataset import pad_waveforms
from wavshap_lightning.training.data.extraction import CPU_BATCH_S, GPU_BATCH_S, batches_of

Format = Literal["table", "classes", "values"]
CODES = {label: code for code, label in LABELS.items()}
SCALE = (1.0, 7.0)
"""Lowest and highest value in a submission."""


def predict(
    model: str,
    audio: list[str],
    opening: ModelOptions,
    *,
    out: str = "predictions.csv",
    models: Sequence[str] = (),
    format: Format = "table",  # noqa: A002 - the option's name
    device: str = "cpu",
) -> int:
    """Write a model's outputs for recordings into a table, a row for each.

    Args:
        model: Checkpoint, run, exported folder or Hugging Face model; of a cross-validation, all its folds.
        audio: Recordings.
        opening: What the model does not tell about itself.
        out: CSV file to write.
        models: Further models, with whose outputs its own are averaged.
        format: Columns of the table: all outputs, or those of a submission to the challenges Odyssey 2024 and
            Interspeech 2025, classes or values.
        device: Where to compute, such as cpu, cuda or cuda:1.

    Returns:
        The exit status.

    Raises:
        WavshapError: If a model cannot be opened, two have different outputs, or there are no recordings.
    """
    if not audio:
        raise SettingError("audio=[]: give recordings, folders or manifests")
    place = Path(out)
    if place.is_dir():
        raise SettingError(f"out={out} must be a CSV file, and is a folder; give another with --out")
    clips = [*find_clips(audio, place).values()]
    opened = [one for name in (model, *models) for one in models_in(name)]
    classifiers = [open_model(name, device, opening) for name in opened]
    first = classifiers[0]
    for name, one in zip(opened, classifiers, strict=True):
        if (one.outputs, one.backbone.frame_grid) != (first.outputs, first.backbone.frame_grid):
            raise SettingError(f"models={name} must have the same outputs and frames as model={opened[0]}")
    to_row = table_row if format == "table" else partial(submission_row, format)
    if format != "table":
        width = sum(len(one.labels) for one in first.outputs)
        submission_row(format, first.outputs, clips[0], torch.zeros(1, width))  # to be refused at once
        name, count = Counter(clip.path.name for clip in clips).most_common(1)[0]
        if count > 1:
            told = f"{on_one_line(name)} stands for {count} clips; give them names of their own"
            raise SettingError(f"format={format!r} tells clips by the names of their files, and {told}")
    rows = [to_row(first.outputs, clip, found) for clip, found in predict_clips(classifiers, clips)]
    if rows:
        with writing_to(place):
            write_csv(place, [[*rows[0]], *(row.values() for row in rows)])
        say("Written to", f"{on_one_line(place)} ({len(rows)} of {len(clips)} clips, models: {len(opened)})")
    return status_of(len(rows), len(clips))


def predict_clips(
    classifiers: Sequence[EmotionClassifier], clips: Sequence[Clip]
) -> Iterator[tuple[Clip, Float[Tensor, "models outputs"]]]:
    """Outputs of each clip by each classifier; clips that cannot be read are named and left out.

    Args:
        classifiers: Classifiers with the same outputs and frames.
        clips: The clips.
    """
    opened = ((clip, attempt(partial(open_for, classifiers[0]), clip)[0]) for clip in clips)
    read = ((clip, recording) for clip, recording in opened if recording is not None)
    limit_s = CPU_BATCH_S if next(classifiers[0].parameters()).is_cpu else GPU_BATCH_S
    for batch in batches_of(read, limit_s, lambda one: one[1].duration_s):
        waveforms = [recording.waveform for _, recording in batch]
        found = torch.stack([predict_batch(one, waveforms) for one in classifiers], 1)
        yield from zip((clip for clip, _ in batch), found, strict=True)


@torch.inference_mode()
def predict_batch(
    classifier: EmotionClassifier, waveforms: Sequence[Tensor]
) -> Float[Tensor, "batch outputs"]:
    """Probabilities and values; of the first task at the temperature that its run found, if it did."""
    device = next(classifier.parameters()).device
    padded, lengths = (one.to(device) for one in pad_waveforms(waveforms))
    logits = [*split_outputs(classifier(padded, lengths), classifier.outputs)]
    logits[0] = logits[0] / classifier.provenance.scores.get("test", {}).get("temperature", 1.0)
    by_task = zip(logits, classifier.outputs, strict=True)
    return torch.cat([logits_to_outputs(found, one.task) for found, one in by_task], 1).cpu()


def table_row(
    outputs: Sequence[Outputs], clip: Clip, found: Float[Tensor, "models outputs"]
) -> dict[str, Any]:
    """Prediction and outputs of each task by column; of several models mean and standard deviation."""
    row: dict[str, Any] = {"path": str(clip.path), "start_s": clip.start_s, "end_s": clip.end_s}
    spread = found.std(0, correction=min(1, len(found) - 1))
    parts = (split_outputs(columns, outputs) for columns in (found.mean(0), spread))
    for one, means, deviations in zip(outputs, *parts, strict=True):
        if one.task in SOFTMAX_TASKS:
            row[f"{one.task}_prediction"] = one.labels[int(means.argmax())]
        for label, mean, deviation in zip(one.labels, means.tolist(), deviations.tolist(), strict=True):
            row[f"{one.task}_{label}"] = round(mean, 6)
            if len(found) > 1:
                row[f"{one.task}_{label}_std"] = round(deviation, 6)
    return row


def submission_row(
    kind: Format, outputs: Sequence[Outputs], clip: Clip, found: Float[Tensor, "models outputs"]
) -> dict[str, Any]:
    """A row of a submission: the name of the file, and the code of its class or its three values.

    Raises:
        SettingError: If the model has not the outputs for it.
    """
    parts = zip(outputs, split_outputs(found.mean(0), outputs), strict=True)
    means = {one.task: dict(zip(one.labels, part.tolist(), strict=True)) for one, part in parts}
    shares, values = means.get("classes", means.get("distribution", {})), means.get("dimensions", {})
    (low, high), on_scale = SCALE, SCALE in {one.scale for one in outputs}
    if kind == "classes" and shares and shares.keys() <= CODES.keys():
        return {"FileName": clip.path.name, "EmoClass": CODES[max(shares, key=shares.__getitem__)]}
    if kind == "values" and on_scale and VALUE_COLUMNS.keys() <= values.keys():
        limited = {column: min(max(values[name], low), high) for name, column in VALUE_COLUMNS.items()}
        return {"FileName": clip.path.name, **limited}
    needed = {"classes": f"classes among {', '.join(CODES)}", "values": f"{', '.join(VALUE_COLUMNS)}, 1 to 7"}
    has = ", ".join(name for one in outputs for name in one.labels)
    raise SettingError(f"format={kind!r} needs a model of {needed[kind]}; this one is of {has}")
