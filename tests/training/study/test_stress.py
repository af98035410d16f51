"""The stress test: clean clips change nothing, scores are those of a test, groups are told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import UNLABELED
from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.intervals import Estimate
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import Outputs
from wavshap_lightning.training.cross_validation import Evaluation, score_intervals
from wavshap_lightning.training.study.stress import (
    CLEAN,
    Answers,
    Numbers,
    Subject,
    confidence,
    gap,
    kept,
    ladder,
)

LABELS = ("neutral", "happy", "sad")
EMOTIONS = Outputs("classes", LABELS)
FEW = [("white noise", 0.0), ("telephone", 64.0), ("tempo", 0.7), ("silence", 0.5), ("babble", 5.0)]


@pytest.fixture(scope="module")
def clips(corpus):
    return [clip for clip in read_manifest(corpus) if clip.speaker in ("cy", "di")]


@pytest.fixture
def build(opened):
    """`(outputs=LABELS, scale=4.0) -> classifier` with a head drawn from seed 0."""

    def build(outputs=LABELS, scale=4.0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            classifier = EmotionClassifier(opened, outputs).eval()
        with torch.no_grad():
            last = [one for one in classifier.head.mlp if isinstance(one, torch.nn.Linear)][-1]
            last.weight.mul_(scale)
            last.bias.mul_(scale)
        return classifier

    return build


def measure(classifier, clips, steps, num_maps=2):
    subject = Subject(classifier, clips, num_maps, seed=0)
    return {step: subject.answers(*step) for step in (*CLEAN, *steps)}


def summary(classifier, clips, steps=(), num_maps=2):
    answers = measure(classifier, clips, steps, num_maps)
    return Numbers(clips, classifier.outputs[0]).summary(answers)


class TestAnswers:
    def test_nothing_changes_where_nothing_is_degraded(self, build, clips):
        clean, *_ = summary(build(), clips)["ladder"]
        assert clean["map_correlation"] == 1.0
        assert clean["kept"] == 1.0

    def test_other_draws_agree_less(self, build, clips):
        assert summary(build(), clips)["draws_correlation"] < 1.0

    def test_a_constant_model_has_a_flat_ladder(self, build, clips):
        rows = summary(build(scale=0.0), clips, FEW)["ladder"]
        assert {row["value"] for row in rows} == {rows[0]["value"]}
        assert {row["kept"] for row in rows} == {1.0}
        assert {row["map_correlation"] for row in rows} == {None}  # of constant maps

    def test_degraded_clips_change_logits_and_maps(self, build, clips):
        answers = measure(build(), clips, FEW)
        for step in FEW:
            assert not torch.equal(answers[step].logits, answers[CLEAN[0]].logits)
            known = answers[step].correlations[~answers[step].correlations.isnan()]
            assert len(known) == 2
            assert (known < 1).all()

    def test_the_same_seed_gives_the_same_answers(self, build, clips):
        first, second = (measure(build(), clips, FEW[:1], num_maps=0)[FEW[0]].logits for _ in range(2))
        torch.testing.assert_close(first, second)

    def test_a_batch_gives_what_clips_give_alone(self, build, clips):
        subject = Subject(build(), clips, 0)
        with torch.no_grad():
            alone = [subject.model(torch.from_numpy(sound)[None])[0] for sound in subject.sounds]
        torch.testing.assert_close(subject.logits, torch.stack(alone), rtol=1e-4, atol=1e-4)

    def test_unlikeness_is_that_of_the_diagnostics(self, build, clips):
        classifier = build()
        assert summary(classifier, clips)["ladder"][0]["out_of_distribution"] is None
        norm = classifier.head.mlp[0]
        norm.num_batches_tracked.fill_(1)
        norm.running_mean.fill_(0.0)
        norm.running_var.fill_(1.0)
        found = Subject(classifier, clips, 0).answers(*CLEAN[0]).unlikeness
        assert (found > 0).all()

    def test_a_kind_that_is_unknown_is_named(self):
        with pytest.raises(SettingError, match=r"kinds=\['thunder'\] must be some of white noise"):
            ladder(["hum", "thunder"])
        assert ladder(["telephone"]) == [*CLEAN, ("telephone", 64.0), ("telephone", 13.0)]


class TestNumbers:
    def test_the_score_is_that_of_a_test(self, attach, build_datamodule, build_trainer, build_module):
        data, module = build_datamodule(), build_module()
        build_trainer().test(module, datamodule=data, verbose=False)
        tested = Evaluation(module.test_predictions, tuple(c.speaker for c in data.clips("test")), {})
        expected = score_intervals([tested])["uar"]
        (clean,) = summary(module.classifier.eval(), data.clips("test"), num_maps=0)["ladder"]
        assert clean["value"] == pytest.approx(expected.value, abs=1e-6)

    def test_without_labels_only_changes_are_measured(self, build, clips):
        bare = [Clip(clip.path, UNLABELED) for clip in clips]
        found = summary(build(), bare, FEW[:1], num_maps=0)
        assert found["score"] is None
        assert found["resampled"] == "clips"
        assert (found["groups"], found["abstention"], found["calibration"]) == ([], [], None)
        assert len(found["notes"]) == 2
        assert all(row["value"] is None and 0 <= row["kept"] <= 1 for row in found["ladder"])

    @pytest.mark.parametrize(
        ("outputs", "score"),
        [
            (Outputs("dimensions", ("arousal",), (1.0, 7.0)), "ccc"),
            (Outputs("labels", LABELS), "macro_f1"),
            (Outputs("distribution", LABELS), "jsd"),
        ],
    )
    def test_each_task_has_its_own_score(self, build, clips, outputs, score):
        rated = [replace(clip, values=(("arousal", 1.0 + i % 7),)) for i, clip in enumerate(clips)]
        found = summary(build([outputs]), rated, FEW[:1])
        assert found["score"] == score
        assert found["ladder"][1]["value"] is not None
        assert found["ladder"][0]["kept"] == 1.0

    def test_groups_are_apart_where_one_is_always_wrong(self):
        clips = [
            Clip(Path(f"{i}.wav"), "happy" if i % 2 else "sad", f"{actor:02}", "ravdess")
            for actor in (1, 2, 3, 4)
            for i in range(2)
        ]
        logits = torch.zeros(len(clips), 3)
        for row, clip in zip(logits, clips, strict=True):
            right = int(clip.speaker) % 2 == 0  # of women
            row[LABELS.index(clip.label) if right else LABELS.index("neutral")] = 5.0
        nothing = torch.full((len(clips),), torch.nan)
        steps = dict.fromkeys(CLEAN, Answers(logits, nothing, nothing))
        found = Numbers(clips, EMOTIONS).summary(steps)
        (difference,) = found["gaps"]
        assert (difference["a"], difference["b"], difference["difference"]) == ("female", "male", 1.0)
        assert (difference["low"], difference["high"]) == (1.0, 1.0)
        speakers = {one["name"]: one["value"] for one in found["groups"] if one["kind"] == "speaker"}
        assert speakers == {"01": 0.0, "02": 1.0, "03": 0.0, "04": 1.0}
        assert found["calibration"]["ece"] > 0.4

    def test_groups_without_an_interval_have_a_gap_without_one(self):
        known = Estimate(0.5, 0.4, 0.6, 9, "speakers", 4)
        found = gap(Estimate(0.6, float("nan"), float("nan"), 9, "folds", 1), known)
        assert found["difference"] == pytest.approx(0.1)
        assert (found["low"], found["high"]) == (None, None)

    def test_the_most_certain_clips_are_kept_longest(self):
        clips = [Clip(Path(f"{i}.wav"), "happy", f"s{i}") for i in range(10)]
        logits = torch.zeros(10, 3)
        logits[:, 1] = torch.arange(10.0) - 4.5  # the surer, the more it is happy
        numbers = Numbers(clips, EMOTIONS)
        rows = confidence(_predictions(numbers, logits), "uar")["abstention"]
        assert [row["kept"] for row in rows] == [x / 10 for x in range(10, 0, -1)]
        assert rows[0]["value"] == 0.5
        assert rows[-1]["value"] == 1.0

    def test_values_are_kept_where_they_are_close(self):
        outputs = Outputs("dimensions", ("arousal", "valence"), (1.0, 7.0))
        clean = torch.tensor([[3.0, 4.0]])
        assert kept(clean + 0.5, clean, outputs).tolist() == [1.0]
        assert kept(clean + torch.tensor([0.0, 0.7]), clean, outputs).tolist() == [0.5]


def _predictions(numbers, logits):
    from wavshap_lightning.training.scores import Predictions

    return Predictions(logits, *numbers.truth)
