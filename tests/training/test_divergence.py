"""Training that diverges ends at once, says so, and leaves no checkpoint of what is lost."""

from __future__ import annotations

import lightning as L  # noqa: N812
import pytest
import torch

from wavshap_lightning.errors import DivergenceError, ModelError
from wavshap_lightning.models.checkpoint import read_checkpoint
from wavshap_lightning.training.callbacks import default_callbacks


class Damage(L.Callback):
    """Spoils a weight after the last batch of the second epoch."""

    def __init__(self, value):
        self.value = value

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.current_epoch == 1 and trainer.is_last_batch:
            with torch.no_grad():
                module.classifier.head.mlp[-1].weight[0, 0] = self.value


@pytest.mark.parametrize(
    ("validation", "value", "said"),
    [
        (True, float("nan"), r"logits of 7 of 7 clips .* in epoch 2: training diverged"),
        (True, 1e30, r"logits of 7 of 7 clips are huge or not finite in epoch 2: training diverged"),
        (False, float("inf"), "weights not finite in epoch 2"),
    ],
)
def test_checkpoints_of_the_epochs_before_stay(
    build_datamodule, build_module, build_trainer, tmp_path, validation, value, said
):
    own = default_callbacks(folder=tmp_path, progress=False, validation=validation)
    limit = {} if validation else {"limit_val_batches": 0}
    trainer = build_trainer(max_epochs=3, enable_checkpointing=True, callbacks=[Damage(value), *own], **limit)
    with pytest.raises(DivergenceError, match=said) as raised:
        trainer.fit(build_module(), datamodule=build_datamodule(validation=validation))
    assert "lower model.optimizer.learning_rate=0.002" in str(raised.value)
    for name in ("best", "last"):
        content = read_checkpoint(tmp_path / f"checkpoints/{name}.ckpt")
        assert content["epoch"] == 0
        assert all(value.isfinite().all() for value in content["state_dict"].values())


def test_a_loss_that_is_no_number_ends_the_epoch_it_is_in(build_datamodule, build_module, build_trainer):
    module = build_module()
    module.losses[0].class_weights = torch.tensor([1.0, float("nan"), 1.0])
    trainer = build_trainer(max_epochs=3, limit_val_batches=0)
    with pytest.raises(
        DivergenceError, match="train/loss=nan, weights not finite in epoch 1: training diverged"
    ):
        trainer.fit(module, datamodule=build_datamodule())


def test_an_evaluation_names_what_it_cannot_score(build_datamodule, build_module, build_trainer):
    module = build_module()
    with torch.no_grad():
        module.classifier.head.mlp[-1].bias[0] = float("nan")
    with pytest.raises(DivergenceError, match="logits of 6 of 6 clips are huge or not finite; take another"):
        build_trainer().test(module, datamodule=build_datamodule(cache=False), verbose=False)
    with pytest.raises(ModelError, match="logits of the first clips are not finite: a weight is not"):
        build_trainer().test(module, datamodule=build_datamodule(), verbose=False)
