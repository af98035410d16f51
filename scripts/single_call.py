"""Attributions by one method of `wavshap_lightning.attribution` in a single call, as the tests need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from wavshap_lightning.attribution.estimation.problem import Score, open_problem
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.targets import Target

_OF_PROBLEM = ("views", "chunk_size", "progress")


def attribute(
    method: Callable[..., Attribution],
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    target: Target,
    *arguments: Any,  # noqa: ANN401 - those of the method
    **options: Any,  # noqa: ANN401
) -> Attribution:
    """Attributions by one method, for which a problem is opened.

    Args:
        method: The method.
        score: Function from inputs `(draws, *input)` to logits, or a `LinearFirst`.
        input: The input that is explained.
        target: Scalars computed from the logits.
        arguments: Arguments of the method that follow the problem, such as the baselines.
        options: `views`, `chunk_size` and `progress` of the problem, and further arguments of the method.
    """
    of_problem = {name: options.pop(name) for name in _OF_PROBLEM if name in options}
    with open_problem(score, input, target, **of_problem) as problem:
        return method(problem, *arguments, **options)
