"""A step of the prediction: a clip on one thread, and none for a process that was left alone."""

from __future__ import annotations

import os

import pytest
import torch

from wavshap_lightning.training.corpus_run.predict import ExplainModule


@pytest.fixture
def build_step(build_module, build_trainer):
    """`(explain, local_rank=0) -> predict_step` on a process of that number."""

    def build_step(explain, local_rank=0):
        module = ExplainModule(build_module().classifier, explain)
        module.trainer = build_trainer()
        module.trainer.strategy.local_rank = local_rank
        return module.predict_step

    return build_step


def test_a_clip_is_explained_on_one_thread_with_gradients(build_step, threads):
    def explain(position):
        assert threads == [1]
        weight = torch.ones(1, requires_grad=True)
        (gradient,) = torch.autograd.grad((position * weight).sum(), weight)
        return gradient.item()

    with torch.inference_mode():
        assert build_step(explain)(3) == 3.0
    assert threads == [4]


def test_a_process_that_was_left_alone_stops(build_step, monkeypatch):
    """The first process may well outlive the shell that it was started from."""
    steps = [build_step(lambda position: position, local_rank) for local_rank in (0, 1)]
    assert [step(3) for step in steps] == [3, 3]
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert steps[0](3) == 3
    with pytest.raises(SystemExit, match="is gone"):
        steps[1](3)
