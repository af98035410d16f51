"""State of a monitor that is kept between epochs and when a run is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.training.monitoring.probes import Probe, Why
from wavshap_lightning.training.monitoring.shortcut_alarm import Glance, OffSpeech


@dataclass
class WatchMemory:
    """Probe clips, their first and last explanations, and the course of the shares.

    Args:
        probes: By part of the split, the content keys of the clips and why each was chosen.
        frames: By content key, the frames' attributions in the `first` and in the `previous` epoch.
        glances: One for each epoch that was explained while training.
        scalars: As last logged.
    """

    probes: dict[str, list[tuple[str, Why]]] = field(default_factory=dict)
    frames: dict[str, dict[str, Float[Tensor, " frames"]]] = field(default_factory=dict)
    glances: list[Glance] = field(default_factory=list)
    scalars: dict[str, float] = field(default_factory=dict)

    @property
    def epochs(self) -> list[int]:
        """Probes that were explained."""
        return [glance.epoch for glance in self.glances]

    def probes_of(self, part: str, keys: Sequence[str]) -> list[Probe] | None:
        """The clips chosen before, wherever they stand now; None if there are none or one is not there."""
        chosen = self.probes.get(part)
        if chosen is None or not {key for key, _ in chosen} <= set(keys):
            return None
        return [Probe(keys.index(key), why) for key, why in chosen]

    def choose(self, part: str, probes: Sequence[Probe], keys: Sequence[str]) -> None:
        """Remember which clips are watched."""
        self.probes[part] = [(keys[probe.position], probe.why) for probe in probes]

    def remember(self, key: str, when: Float[Tensor, " frames"]) -> None:
        """Keep a clip's attributions for the epochs to come."""
        seen = self.frames.setdefault(key, {"first": when})
        seen["previous"] = when

    def glance(self, glance: Glance) -> None:
        """Keep an epoch's shares; a repeated epoch takes the place of what was there."""
        self.glances = [*(one for one in self.glances if one.epoch < glance.epoch), glance]

    def to_state(self) -> dict[str, Any]:
        """Plain types and tensors, for a checkpoint."""
        return {
            "probes": {part: [list(probe) for probe in chosen] for part, chosen in self.probes.items()},
            "frames": {key: dict(seen) for key, seen in self.frames.items()},
            "glances": [asdict(glance) for glance in self.glances],
            "scalars": dict(self.scalars),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `to_state` gave."""
        self.probes = {part: [(key, why) for key, why in chosen] for part, chosen in state["probes"].items()}
        self.frames = {key: dict(seen) for key, seen in state["frames"].items()}
        self.glances = [_glance(values) for values in state["glances"]]
        self.scalars = dict(state["scalars"])


def _glance(values: Mapping[str, Any]) -> Glance:
    off_speech = {label: OffSpeech(**found) for label, found in values["off_speech"].items()}
    return Glance(**{**values, "off_speech": off_speech})
