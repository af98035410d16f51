"""A checkpoint is not trained on, nor judged by, what it should not have seen."""

from __future__ import annotations

import pytest

from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.corpora.protocols import leave_one_speaker_out, random_clip_folds
from wavshap_lightning.errors import CheckpointError
from wavshap_lightning.training.checkpoints import check_same_training, check_unseen


def record(protocol, fold):
    return {**protocol.to_dict(), "hash": protocol.hash, "fold": fold}


@pytest.fixture(scope="module")
def speakers(corpus):
    return leave_one_speaker_out(read_manifest(corpus))


@pytest.fixture(scope="module")
def buckets(corpus):
    clips = read_manifest(corpus)
    return [random_clip_folds(clips, num_folds=3, seed=seed) for seed in (0, 1)]


def test_a_checkpoint_is_tested_on_its_own_fold(speakers):
    for fold in range(4):
        check_unseen(record(speakers, fold), record(speakers, fold))


def test_the_test_speakers_of_another_fold_have_trained_it(speakers):
    (tested,) = speakers.folds[1].test
    with pytest.raises(
        CheckpointError, match=rf"holds speakers=\['{tested}'\] of the test split of fold=1; .*data\.fold=0"
    ):
        check_unseen(record(speakers, 0), record(speakers, 1))


def test_a_training_speaker_is_known_in_another_spelling(speakers):
    other = record(speakers, 1)
    (tested,) = speakers.folds[1].test
    other["folds"] = [{**fold, "test": [name.upper() for name in fold["test"]]} for fold in other["folds"]]
    with pytest.raises(CheckpointError, match=rf"holds speakers=\['{tested.upper()}'\] of the test split"):
        check_unseen(record(speakers, 0), other)


def test_validation_speakers_of_another_fold_may_have_trained_it_too(speakers):
    (validated,) = speakers.folds[1].validation
    assert validated in speakers.folds[0].train
    with pytest.raises(CheckpointError, match=rf"holds speakers=\['{validated}'\] of the validation split"):
        check_unseen(record(speakers, 0), record(speakers, 1), "validation")
    for fold in range(4):
        check_unseen(record(speakers, fold), record(speakers, fold), "validation")


def test_buckets_of_another_draw_are_other_clips(buckets):
    first, second = buckets
    check_unseen(record(first, 0), record(second, 1))
    with pytest.raises(CheckpointError, match="holds clips="):
        check_unseen(record(first, 0), record(first, 1))


def test_another_corpus_and_an_unknown_one_are_no_matter(speakers):
    other = {**record(speakers, 1), "corpus": "elsewhere"}
    check_unseen(record(speakers, 0), other)
    check_unseen({}, other)
    check_unseen(other, {})
    check_same_training({}, other)


def test_a_run_goes_on_with_its_own_fold_alone(speakers, buckets):
    check_same_training(record(speakers, 2), record(speakers, 2))
    for other in (record(speakers, 1), record(buckets[0], 2)):
        with pytest.raises(CheckpointError, match=r"fold=2 .*, this run has .*start again"):
            check_same_training(record(speakers, 2), other)


def test_a_run_goes_on_with_its_own_clips_alone(speakers):
    one, other = ({**record(speakers, 0), "digest": digest, "clips": {"train": 3}} for digest in "ab")
    check_same_training(one, one)
    with pytest.raises(CheckpointError, match=r"clips={'train': 3}, and not the same clips"):
        check_same_training(one, other)


def test_a_run_does_not_go_on_with_shortened_clips(build_datamodule, build_module, build_trainer, checkpoint):
    cut = build_datamodule(protocol="leave-one-speaker-out", max_duration_s=0.4)
    with (
        pytest.warns(UserWarning, match="the audit of the clips found"),
        pytest.raises(CheckpointError, match="not the same clips"),
    ):
        build_trainer(max_epochs=2).fit(build_module(), datamodule=cut, **checkpoint)


@pytest.fixture
def checkpoint(build_datamodule, build_module, build_trainer, tmp_path):
    trainer = build_trainer()
    trainer.fit(build_module(), datamodule=build_datamodule(protocol="leave-one-speaker-out"))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    return {"ckpt_path": str(tmp_path / "a.ckpt"), "weights_only": True}


def test_trainers_ask(build_datamodule, build_module, build_trainer, checkpoint):
    same, other = (build_datamodule(protocol="leave-one-speaker-out", fold=fold) for fold in (0, 1))
    build_trainer().test(build_module(), datamodule=same, verbose=False, **checkpoint)
    with pytest.raises(CheckpointError, match="of the test split of fold=1"):
        build_trainer().test(build_module(), datamodule=other, verbose=False, **checkpoint)
    with pytest.raises(CheckpointError, match="of the validation split of fold=1"):
        build_trainer().validate(build_module(), datamodule=other, verbose=False, **checkpoint)
    with pytest.raises(CheckpointError, match="start again"):
        build_trainer(max_epochs=2).fit(build_module(), datamodule=other, **checkpoint)
    accepted = build_datamodule(protocol="leave-one-speaker-out", fold=1, allow_shared_speakers=True)
    build_trainer().test(build_module(), datamodule=accepted, verbose=False, **checkpoint)
