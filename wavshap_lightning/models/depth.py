"""How deep a backbone goes, and by what fingerprint it is known then."""

from __future__ import annotations

from hashlib import sha256

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.pretrained import PretrainedSpeechModel


def checked_depth(last_layer: int | None, num_layers: int) -> int:
    """How many transformer layers are kept.

    Args:
        last_layer: As in [`BackboneSettings`][wavshap_lightning.models.backbone.BackboneSettings].
        num_layers: How many transformer layers there are.

    Raises:
        SettingError: If there is no such layer.
    """
    if last_layer is None:
        return num_layers
    if not 0 <= last_layer <= num_layers:
        raise SettingError(f"last_layer={last_layer} must lie between 0 and this backbone's {num_layers}")
    return last_layer


def fingerprint_of(opened: PretrainedSpeechModel, depth: int, *, final_norm: bool) -> str:
    """The model's own fingerprint, or another where other layers than its own come out.

    Args:
        opened: The model, whole.
        depth: How many transformer layers are kept.
        final_norm: As in [`BackboneSettings`][wavshap_lightning.models.backbone.BackboneSettings].
    """
    config, own = opened.model.config, opened.fingerprint
    if depth < config.num_hidden_layers:
        return sha256(f"{own} up to layer {depth}".encode()).hexdigest()
    if config.do_stable_layer_norm and not final_norm:
        return sha256(f"{own} before the final norm".encode()).hexdigest()
    return own
