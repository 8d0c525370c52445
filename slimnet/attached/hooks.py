"""The hooks of a pruner: on the gradients of masked weights, and before and after an optimiser's step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from slimnet.errors import ArgumentError
from slimnet.methods.base import Pruner, Step


class GradientHooks:
    """Multiply gradients by ζ as a backward pass makes them, before they are added up, averaged or clipped.

    Every backward pass adds to a gradient what it has found, multiplied; so gradients that are gathered over several passes
    are multiplied once, in whatever number of passes.
    """

    def __init__(self, pruner: Pruner) -> None:
        self.pruner = pruner
        self._handles: dict[int, RemovableHandle] = {}
        self._is_off = False
        weakref.finalize(self, _remove_all, self._handles).atexit = False

    @property
    def hooked(self) -> frozenset[int]:
        """Ids of the tensors whose gradients are multiplied as they come; none where the method does something else."""
        return frozenset(self._handles) if self.pruner.masks_gradients else frozenset()

    def install(self) -> None:
        """Put a hook on every masked tensor that is trained and has none."""
        mask = None if self._is_off else self.pruner.mask
        for tensor in () if mask is None else mask.tensors():
            if tensor.requires_grad and id(tensor) not in self._handles:
                self._handles[id(tensor)] = tensor.register_hook(self._hook(tensor))  # type: ignore[no-untyped-call]  # torch has no types for it

    def remove(self) -> None:
        """Take the hooks off, for good."""
        self._is_off = True
        _remove_all(self._handles)
        self._handles.clear()

    def _hook(self, tensor: Tensor) -> Callable[[Tensor], Tensor | None]:
        pruner_of, tensor_of = weakref.ref(self.pruner), weakref.ref(tensor)

        def masked(gradient: Tensor) -> Tensor | None:
            here, pruner = tensor_of(), pruner_of()
            mask = None if pruner is None else pruner.mask
            if here is None or pruner is None or mask is None or not pruner.masks_gradients:
                return None
            factor = mask.of_gradient(here)
            return None if factor is None else gradient * factor

        return masked


class OptimizerHooks:
    """Call a pruner before and after every step of the optimisers that hold parameters of a network.

    Without ``optimizers`` these are found when they make a step. A step that an optimiser makes within another's, and what a
    closure does before it comes to gradients, is not looked at: ``after_backward`` comes when gradients are there.
    """

    def __init__(self, pruner: Pruner, model: nn.Module, optimizers: Sequence[Optimizer] = ()) -> None:
        self.pruner = pruner
        self.steps = 0
        self._model = weakref.ref(model)
        self._is_alone = len(optimizers) == 1
        self._known: weakref.WeakKeyDictionary[Optimizer, tuple[int, frozenset[int]]] = weakref.WeakKeyDictionary()
        self._outermost: weakref.ref[Optimizer] | None = None
        self._finished: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._gradients: GradientHooks | None = None
        before, after = _weakly(self, "before"), _weakly(self, "after")
        handles = [each.register_step_pre_hook(before) for each in optimizers]
        handles += [each.register_step_post_hook(after) for each in optimizers]
        if not optimizers:
            handles = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
        self.remove = weakref.finalize(self, _remove_all, dict(enumerate(handles)))
        self.remove.atexit = False

    def goes_with(self, gradients: GradientHooks) -> None:
        """Leave alone, before a step, what these hooks have done."""
        self._gradients = gradients

    def begin_epoch(self) -> None:
        """Count steps from 0; forget a step that an exception ended."""
        self.steps, self._outermost = 0, None
        self._finished.clear()

    def finish(self, optimizer: Optimizer) -> None:
        """Do now what would be done to gradients when ``optimizer`` makes its next step, and do it no more then.

        The gradients are new ones also where the step that was to come last time never came (a loss scaler skips such steps).
        """
        if self._concerns(optimizer):
            self._after_backward(optimizer)
            self._finished.add(optimizer)

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Before a step: change gradients, or keep weights; with a closure, each time that it has been called."""
        outermost = self._outermost and self._outermost()
        if outermost not in (None, optimizer) or not self._concerns(optimizer):
            return None
        self._outermost = weakref.ref(optimizer)
        closure = kwargs.get("closure") if "closure" in kwargs else next(iter(args[1:]), None)
        if closure is None:
            self._finish_unless_done(optimizer)
            return None

        @wraps(closure)
        def then_masked(*inner: Any, **options: Any) -> Any:
            loss = closure(*inner, **options)
            self._finish_unless_done(optimizer)
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": then_masked}
        return (args[0], then_masked, *args[2:]), kwargs

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """After a step: what it did to masked weights is put right."""
        if self._outermost is None or self._outermost() is not optimizer:
            return
        self._outermost = None
        self._finished.discard(optimizer)
        self.steps += 1
        self.pruner.after_step(optimizer)

    def _finish_unless_done(self, optimizer: Optimizer) -> None:
        if optimizer not in self._finished:
            self._after_backward(optimizer)

    def _after_backward(self, optimizer: Optimizer) -> None:
        scale = getattr(optimizer, "grad_scale", None)  # of a loss scaler, where the optimiser itself divides it out
        parameters = None if self._is_alone else self._known[optimizer][1]
        mask = self.pruner.mask
        self.pruner.step = Step(1.0 if scale is None else float(scale), parameters)
        if mask is not None and self._gradients is not None:
            mask.hooked = self._gradients.hooked
        try:
            self.pruner.after_backward()
        finally:
            if mask is not None:
                mask.hooked = ()

    def _concerns(self, optimizer: Optimizer) -> bool:
        if self._is_alone:
            return True
        size = sum(len(group["params"]) for group in optimizer.param_groups)
        known = self._known.get(optimizer)
        if known is None or known[0] != size:
            known = self._known[optimizer] = (size, self._parameters(optimizer))
            if known[1]:
                self._check(optimizer)
        return bool(known[1])

    def _parameters(self, optimizer: Optimizer) -> frozenset[int]:
        """Ids of the network's parameters that an optimiser holds."""
        model = self._model()
        own = set() if model is None else {id(parameter) for parameter in model.parameters()}
        return frozenset(own & {id(each) for group in optimizer.param_groups for each in group["params"]})

    def _check(self, optimizer: Optimizer) -> None:
        """Refuse optimisers that masks cannot be held with."""
        check_kind(optimizer)
        kinds = {isinstance(each, SGD): type(each).__name__ for each, (_, own) in self._known.items() if own}
        if len(kinds) > 1 and self.pruner.mask is not None:
            names = " and ".join(sorted(kinds.values()))
            raise ArgumentError(f"{names} both train this network: masks scale gradients for SGD, updates for others; use one.")


def check_kind(optimizer: Optimizer) -> None:
    """Refuse an optimiser that makes several updates within a step.

    Raises:
        ArgumentError: if it is one.
    """
    if isinstance(optimizer, LBFGS):
        raise ArgumentError("LBFGS moves weights several times within a step, where masks cannot be held: use SGD or AdamW.")


def _weakly(hooks: OptimizerHooks, name: str) -> Callable[[Optimizer, Any, Any], Any]:
    """A hook that does not keep its pruner alive."""
    reference = weakref.ref(hooks)

    def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        hooks = reference()
        return None if hooks is None else getattr(hooks, name)(optimizer, args, kwargs)

    return hook


def _remove_all(handles: Mapping[int, RemovableHandle]) -> None:
    for handle in handles.values():
        handle.remove()
