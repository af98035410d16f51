"""A context in which a model is frozen, and after which it is as it was."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from wavshap_lightning.errors import AttributionError


@contextmanager
def leave_no_trace(*scores: Callable[..., Any]) -> Iterator[None]:
    """Freeze the modules behind some callables, and put everything back, also when the call raises.

    Inside, their parameters take no gradient and they are in evaluation mode; gradients are on, whatever
    `no_grad` or `inference_mode` holds outside. Afterwards each parameter's gradient and
    `requires_grad`, each module's `training` flag and the global generators of torch, CUDA, NumPy and
    Python are as they were.

    Args:
        scores: The score and any further callables. Modules are found in modules, bound methods, partials,
            attributes of callable objects, closures and the globals a function names; name others too.

    Raises:
        AttributionError: If a parameter was made in inference mode, through which there is no gradient.

    Warns:
        UserWarning: If a module was in training mode: what is explained is the model in evaluation mode.

    >>> model = nn.Linear(2, 1)
    >>> with torch.no_grad(), leave_no_trace(model.eval()):
    ...     torch.is_grad_enabled(), model.weight.requires_grad
    (True, False)
    >>> model.weight.requires_grad
    True
    """
    modules = _modules_of(*scores)
    training = [(module, module.training) for module in modules]
    in_training = [type(module).__name__ for module, was_training in training if was_training]
    if in_training:
        warnings.warn(
            f"the model was in training mode ({in_training[0]}.training=True): it is explained in "
            "evaluation mode and its mode is restored afterwards; call eval() first to avoid this warning",
            stacklevel=5,  # past contextlib, twice, and open_problem(): its caller
        )
    parameters = {parameter: None for module in modules for parameter in module.parameters(recurse=False)}
    if any(parameter.is_inference() for parameter in parameters):
        raise AttributionError("a model made inside torch.inference_mode() has no gradient; make it outside")
    flags = [(parameter, parameter.requires_grad, parameter.grad) for parameter in parameters]
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - to put it back
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices), torch.inference_mode(mode=False), torch.enable_grad():
        try:
            for module in modules:
                module.training = False
            for parameter in parameters:
                parameter.requires_grad_(False).grad = None  # noqa: FBT003 - torch's signature
            yield
        finally:
            for module, was_training in training:
                module.training = was_training
            for parameter, required, gradient in flags:
                parameter.requires_grad_(required).grad = gradient
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def _modules_of(*holders: object) -> list[nn.Module]:
    """Every module reachable from some callables, submodules included, each once."""
    found: dict[nn.Module, None] = {}
    seen: set[int] = set()
    waiting = [*holders]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, nn.Module):
            found.update(dict.fromkeys(holder.modules()))
        elif callable(holder) and id(holder) not in seen:
            waiting += _held_by(holder)
        seen.add(id(holder))
    return list(found)


def _held_by(function: Callable[..., Any]) -> list[Any]:
    held = [getattr(function, "__self__", None), *(getattr(function, "__defaults__", None) or ())]
    if isinstance(function, partial):
        held += [function.func, *function.args, *function.keywords.values()]
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # not yet bound
            held.append(cell.cell_contents)
    if not isinstance(function, type):
        held += getattr(function, "__dict__", {}).values()
    held += (getattr(function, "__kwdefaults__", None) or {}).values()
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    globals_ = getattr(function, "__globals__", {})
    return held + [globals_[name] for name in names if isinstance(globals_.get(name), nn.Module)]
