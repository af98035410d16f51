"""Baselines: the two kinds, a fixed set and a distribution, and the families for a clip.

The two kinds estimate different quantities, with standard errors of different meaning. Attributions over a
*fixed set* are a mean over exactly these baselines: the error vanishes with more draws, but the result does
not extend to other baselines. Attributions over a *distribution* are a mean over all baselines that could be
drawn: every draw takes a fresh one, and the error includes the choice of baselines. A few baselines that are
drawn once and used as a fixed set can be far from the mean of their distribution at any number of draws.

Baselines of every family have the clip's length and, except for silence, its level (root mean square).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from wavshap_lightning.attribution.estimation.chunks import in_parts
from wavshap_lightning.attribution.estimation.problem import Score, first_not_finite
from wavshap_lightning.errors import AttributionError

Encode = Callable[[Float[Tensor, "clips *input"]], Float[Tensor, "clips *encoded"]]
Waveform = Float[Tensor, " samples"]
Gain = Float[Tensor, " bins"]

SPECTRUM_WINDOW = 512
# Silence is refused if less than this share of the score's change lies between these levels of the clip
MIN_CHANGE_SHARE = 0.5
QUIET = (1.0, 0.1)


@dataclass(frozen=True)
class BaselineSet:
    """A fixed set of baselines: attributions are a mean over exactly these.

    Args:
        values: The baselines, one per row.
        name: Name of their family.

    Raises:
        AttributionError: If there is none, or one is not finite.
    """

    values: Float[Tensor, "baselines *input"]
    name: str = "declared"

    def __post_init__(self) -> None:
        if self.values.ndim == 0 or len(self.values) == 0:
            raise AttributionError(f"baselines={self.name!r} must hold at least one baseline, one per row")
        bad = first_not_finite(self.values)
        if bad is not None:
            raise AttributionError(f"baselines={self.name!r}: index {bad} is not finite; leave it out")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def estimand(self) -> str:
        """Description of the mean over exactly these baselines."""
        return f"the mean over exactly {len(self)} declared baselines ({self.name})"

    def through(self, encode: Encode) -> BaselineSet:
        """These baselines one stage further on, for an input that went through the same stage.

        Args:
            encode: The stage; called without gradients, once, or in parts where memory runs out.
        """
        return replace(self, values=_encoded(encode, self.values))


@dataclass(frozen=True)
class BaselineDistribution:
    """A distribution of baselines: attributions are a mean over all baselines that it could yield.

    Args:
        stream: Makes an iterator of single baselines from a generator, the only source of randomness; every
            draw takes the next one.
        name: Name of the family.
        encode: Function applied to every drawn baseline, a stage of the model.

    >>> steps = BaselineDistribution(lambda generator: iter([torch.zeros(2), torch.ones(2)]))
    >>> steps.draw(2, torch.Generator())
    tensor([[0., 0.],
            [1., 1.]])
    """

    stream: Callable[[torch.Generator], Iterator[Tensor]]
    name: str = "distribution"
    encode: Encode | None = None

    @property
    def estimand(self) -> str:
        """Description of the mean over the distribution."""
        return f"the mean over the distribution of baselines ({self.name})"

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "count *input"]:
        """Draw `count` baselines.

        Raises:
            AttributionError: If the distribution holds fewer.
        """
        return self.encoded(take(self.stream(generator), count, self.name))

    def encoded(self, values: Float[Tensor, "count *input"]) -> Float[Tensor, "count *encoded"]:
        """Drawn baselines after the stage."""
        return values if self.encode is None else _encoded(self.encode, values)

    def declare(self, count: int, generator: torch.Generator) -> BaselineSet:
        """A fixed set of `count` baselines drawn from the distribution."""
        return BaselineSet(self.draw(count, generator), self.name)

    def through(self, encode: Encode) -> BaselineDistribution:
        """The distribution at the next stage: `encode` is applied to every drawn baseline."""
        before = self.encode
        chained = encode if before is None else (lambda values: encode(before(values)))
        return replace(self, encode=chained)


def _encoded(encode: Encode, values: Tensor) -> Tensor:
    with torch.no_grad():
        return in_parts(lambda part, _: encode(part), values)


Baselines = BaselineSet | BaselineDistribution


def declared_only(baselines: Baselines) -> BaselineSet:
    """The baselines, for methods that need a fixed set.

    Raises:
        AttributionError: If they are a distribution.
    """
    if isinstance(baselines, BaselineDistribution):
        raise AttributionError(f"baselines={baselines.name!r} must be a fixed set; use baselines.declare()")
    return baselines


def take(stream: Iterator[Tensor], count: int, name: str) -> Float[Tensor, "count *input"]:
    """Take the next `count` baselines of a stream; `name` is their family, for the error message.

    Raises:
        AttributionError: If the stream holds fewer.
    """
    drawn = list(islice(stream, count))
    if len(drawn) < count:
        raise AttributionError(
            f"baselines={name!r} ended at {len(drawn)} of {count}; take fewer draws, or use a fixed set"
        )
    return torch.stack(drawn)


def noise(clip: Waveform) -> BaselineDistribution:
    """White Gaussian noise at the clip's level, the default.

    Raises:
        AttributionError: If the clip is empty, silent or not finite, as in every family here.
    """
    return BaselineDistribution(partial(_white, len(clip), _level(clip), None), "noise")


def spectral_noise(clip: Waveform) -> BaselineDistribution:
    """Gaussian noise with the clip's level and long-term spectrum, but without its temporal structure.

    The spectrum is the mean power of Hann windows of 512 samples, half overlapping (Welch 1967).
    """
    level = _level(clip)
    return BaselineDistribution(partial(_white, len(clip), level, _long_term_gain(clip)), "spectral_noise")


def time_shifted(clip: Waveform) -> BaselineDistribution:
    """The clip itself, shifted circularly by a random amount: the same sounds at other times."""
    _level(clip)

    def stream(generator: torch.Generator) -> Iterator[Tensor]:
        while True:
            yield clip.roll(int(torch.randint(1, max(2, len(clip)), (), generator=generator)))

    return BaselineDistribution(stream, "time_shifted")


def recordings(clip: Waveform, others: Sequence[Tensor], name: str = "other_clips") -> BaselineSet:
    """Other recordings as a fixed set: other clips, the speaker's neutral ones, another class's.

    Each is cropped or repeated to the clip's length and brought to its level. They must have the
    clip's sample rate.

    Args:
        clip: The clip that is explained.
        others: The recordings.
        name: Name of the family (`"same_speaker_neutral"`, `"another_class"`, ...).

    Raises:
        AttributionError: If there is none, or one is empty, silent or not finite; its index is named.
    """
    level, fitted = _level(clip), []
    for index, other in enumerate(others):
        repeated = other.repeat(-(-len(clip) // max(1, len(other))))[: len(clip)]
        fitted.append(repeated * (level / _level(repeated, f"{name}[{index}]")))
    return BaselineSet(torch.stack(fitted) if fitted else clip.new_empty(0, len(clip)), name)


def silence(clip: Waveform, score: Score | None) -> BaselineSet:
    """Digital silence.

    This baseline is ill-posed if the model is invariant to gain: on the path from silence the score then
    changes only where alpha is almost 0, and sums over the path miss the change. The score is evaluated at
    the clip, at a tenth of its amplitude and at silence. If less than half of the change lies between
    alpha = 0.1 and the clip, silence is refused.

    Args:
        clip: The clip that is explained.
        score: The score to check; None to skip the check, for paths in decibels.

    Raises:
        AttributionError: If less than half of the score's change lies above alpha = 0.1.
    """
    _level(clip)
    silent = torch.zeros_like(clip)
    if score is not None:
        with torch.no_grad():
            loud, quiet, none = score(torch.stack([*(level * clip for level in QUIET), silent])).float()
        early, whole = float((loud - quiet).abs().max()), float((loud - none).abs().max())
        if early < MIN_CHANGE_SHARE * whole:
            raise AttributionError(
                f"baselines='silence' is ill-posed for this score: at alpha={QUIET[1]} of the path from "
                f"silence its logits differ by {early:.3g} from the clip's, at silence by {whole:.3g}: it "
                "is invariant to gain, and most of the change lies where the clip is inaudible. Use "
                "noise at the clip's level, or integrated gradients in decibels with silence(clip, None)"
            )
    return BaselineSet(silent[None], "silence")


def _level(waveform: Waveform, what: str = "clip") -> float:
    """Root mean square, which must be a positive number."""
    level = float(waveform.double().square().mean().sqrt()) if len(waveform) else 0.0
    if not 0 < level < float("inf"):
        raise AttributionError(
            f"{what}: root mean square={level} over {len(waveform)} samples; it must be finite and above 0"
        )
    return level


def _white(num_samples: int, level: float, gain: Gain | None, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        drawn = torch.randn(num_samples, generator=generator, dtype=torch.float32, device=generator.device)
        if gain is not None:
            drawn = torch.fft.irfft(torch.fft.rfft(drawn) * gain.to(drawn.device), n=num_samples)
        yield drawn * (level / _level(drawn, "drawn noise"))


def _long_term_gain(clip: Waveform) -> Gain:
    """Root of the long-term power at the frequencies of the whole clip's Fourier transform."""
    size = min(SPECTRUM_WINDOW, len(clip))
    windows = clip.detach().float().unfold(0, size, max(1, size // 2))
    hann = torch.hann_window(size, dtype=torch.float32, device=clip.device)
    power = torch.fft.rfft(windows * hann).abs().square().mean(0)
    gain = interpolate(power.sqrt()[None, None], len(clip) // 2 + 1, mode="linear", align_corners=True)
    return gain[0, 0]
