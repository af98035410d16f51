"""Training part of the backbone after all: its last layers, or low-rank adapters."""

from __future__ import annotations

from torch import nn

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.pretrained import TransformersModule


def unfreeze(model: TransformersModule, num_layers: int, lora_rank: int) -> list[nn.Module]:
    """Give the last layers, or new low-rank adapters, their gradients back.

    Args:
        model: The speech transformer, wholly frozen.
        num_layers: How many of its last transformer layers to train.
        lora_rank: Rank of the adapters on every query and value projection; 0 adds none.

    Returns:
        The modules that are trained, for the one who switches training mode on and off.

    Raises:
        SettingError: If a number is out of range, or peft is not installed.

    Source: Hu et al. 2021, "LoRA", for the adapters.
    """
    depth = len(model.encoder.layers)
    if not 0 <= num_layers <= depth:
        raise SettingError(
            f"unfreeze_layers={num_layers} must lie between 0 and this backbone's {depth} layers"
        )
    if lora_rank < 0:
        raise SettingError(f"lora_rank={lora_rank} must be at least 0 (0 means no adapters)")
    trained = [layer.requires_grad_(True) for layer in model.encoder.layers[depth - num_layers :]]  # noqa: FBT003
    return trained + (_add_adapters(model, lora_rank) if lora_rank else [])


def _add_adapters(model: TransformersModule, rank: int) -> list[nn.Module]:
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingError(
            f"lora_rank={rank} needs peft; install it with: pip install 'wavshap-lightning[lora]'"
        ) from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules=["q_proj", "v_proj"])
    kept = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inject_adapter_in_model(config, model)  # leaves a gradient to the adapters alone
    for parameter in kept:
        parameter.requires_grad_(True)  # noqa: FBT003
    return [module for name, module in model.named_modules() if "lora_" in name]
