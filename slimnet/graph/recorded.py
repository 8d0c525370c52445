"""The operators of a network whose control flow depends on data, recorded while it runs: what ``torch.export`` cannot follow.

It runs on the inputs that are given and on others made of them, and what happens is written down, operator by operator. A run
that takes another path (an early exit, a block that is skipped) is written down behind the others, as if the network were used
twice: so the rules of the analysis hold for all of them. What decided the path counts as read. What no run showed is not known.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from slimnet._foreign import no_exit
from slimnet._modes import computed_tensors, flatten_outputs, in_eval_mode
from slimnet.errors import GraphError
from slimnet.graph.capture import NotFollowedError, Program, is_empty, named_tensors

HIDDEN = frozenset({"tolist", "numpy", "__array__", "__dlpack__", "data_ptr", "untyped_storage", "storage", "__deepcopy__"})
"""Methods of a tensor by which its values leave what is recorded."""

NUMBERS = frozenset({"aten.item.default", "aten._local_scalar_dense.default"})

LARGER, UNEVEN, SMALLER = "random, larger", "random, uneven", "random, smaller"
"""What inputs of other sizes than those given are called."""

Inputs = tuple[Tensor, ...]
Out = TypeVar("Out")
Step = tuple[str, str]  # a module, and an operator that runs in it
Grow = Callable[[int], int]  # a size, and the one that is tried in its place


def trials(inputs: Inputs, dtype: torch.dtype | None) -> Sequence[tuple[str, Inputs]]:
    """Inputs to compare networks on, on the CPU: those given, random ones at batch 1 and 3, and at three kinds of other sizes:
    larger; one that divides by nothing, where code that pads to a multiple does so; smaller, and higher than wide.

    Of each kind there are several, as many networks take some sizes alone: the first that the network takes is enough.

    Args:
        inputs: batch first, or single numbers, which stay single.
        dtype: of floating point inputs, and the precision of complex ones; None leaves them in their own.
    """
    generator = torch.Generator().manual_seed(0)
    given = tuple(value.detach().to("cpu", kind_of(value, dtype)) for value in inputs)

    def random(batch: int, grow: Sequence[Grow] = (), last: bool = False) -> Inputs:
        result = []
        for value in given:
            shape = [batch, *value.shape[1:]] if value.dim() else []
            for dim, other in zip(_sizes_of(value, last), cycle(grow)):
                shape[dim] = max(1, other(shape[dim]))
            kind = kind_of(value, torch.float64)
            made = _repeated(value, shape) if kind is None else torch.randn(shape, generator=generator, dtype=kind)
            result.append(made.to(value.dtype))
        return tuple(result)

    found = [("given", given), ("random", random(1)), ("random", random(3))]
    for last in (False, True):
        sizes = [value.shape[dim] for value in given for dim in _sizes_of(value, last)]
        for name, batch, grow in _other_sizes(min(sizes) < 64) if sizes else ():
            made = random(1 if last else batch, grow, last)
            if any(one.shape[1:] != other.shape[1:] for one, other in zip(made, given, strict=True)):
                found.append((name, made))
    return found


def kind_of(value: Tensor, dtype: torch.dtype | None) -> torch.dtype | None:
    """The kind of number for a tensor where those with a point are ``dtype``; None: its own."""
    if dtype is None or not value.is_complex():
        return dtype if value.is_floating_point() else None
    return dtype.to_complex()


def _sizes_of(value: Tensor, last: bool) -> range:
    """The dimensions of an input that hold no batch and no channels. ``last``: channels come last, not behind the batch.

    Whole numbers of two dimensions are places in a table, one behind another.
    """
    if value.dim() == 2 and not value.is_floating_point():
        return range(1, 2)
    return range(1, value.dim() - 1) if last else range(2, value.dim())


def _other_sizes(is_small: bool) -> Sequence[tuple[str, int, tuple[Grow, ...]]]:
    """Name, batch, and what becomes of the sizes, one dimension after the other; in the order in which they are tried."""

    def by(more: int) -> Grow:
        return lambda size: size + more

    def share(of: int) -> Grow:
        return lambda size: size // of

    more, uneven = (8, (3, 5)) if is_small else (32, (-13, -11))
    return [
        (LARGER, 2, (by(more),)),
        (UNEVEN, 2, tuple(map(by, uneven))),
        (UNEVEN, 1, (by(uneven[1]),)),  # as many rows as columns
        (SMALLER, 1, (share(2), share(4))),
        (SMALLER, 1, (share(1), share(2))),
        (SMALLER, 1, (share(2),)),
        (LARGER, 1, (lambda size: 2 * size,)),  # divides by whatever the size given does
    ]


def more_trials(inputs: Inputs, dtype: torch.dtype | None) -> Sequence[tuple[str, Inputs]]:
    """Those of :func:`trials`, and what may take another path: each example by itself (at most eight), zeros, and stronger,
    weaker and inverted signals."""
    found = [*trials(inputs, dtype)]
    given = found[0][1]
    batch = min((value.shape[0] for value in given if value.dim()), default=1)
    if batch > 1:
        for index in range(min(batch, 8)):
            found.append((f"given [{index}]", tuple(value[index : index + 1] if value.dim() else value for value in given)))
    for factor in (0.0, -1.0, 0.1, 10.0):
        scaled = tuple(value * factor if value.is_floating_point() else value for value in given)
        found.append((f"given × {factor:g}", scaled))
    return found


def taken(found: Iterable[tuple[str, Inputs]], run: Callable[[str, Inputs], Out | None]) -> Iterator[tuple[str, Inputs, Out]]:
    """Trials with what ``run`` makes of them, which is None where the network does not take them; one of each kind of size."""
    done = set[str]()
    for name, trial in found:
        if name in done:
            continue
        made = run(name, trial)
        if made is not None:
            done |= {name} & {LARGER, UNEVEN, SMALLER}
            yield name, trial, made


def _repeated(value: Tensor, shape: Sequence[int]) -> Tensor:
    """Whole numbers or truth values of another shape: those given, again and again."""
    for dim, size in enumerate(shape):
        value = value.index_select(dim, torch.arange(size) % value.shape[dim])
    return value


def record(model: nn.Module, inputs: Inputs, why: NotFollowedError) -> Program | None:
    """What a network does on its example inputs, and on others made of them, where these take another path.

    Args:
        model: in any mode; it is left as it was, and runs in eval mode.
        inputs: batch first.
        why: ``torch.export`` does not follow it, for errors.

    Returns:
        All runs one after another, as one program; None where the network does not run on the inputs, or cannot be recorded.

    Raises:
        GraphError: if layers ran in no run: which channels they read is not known.
    """
    try:
        copied = copy.deepcopy(model, computed_tensors(model))
    except Exception:  # it holds what cannot be copied
        return None
    with in_eval_mode(copied), torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with no_exit(type(model).__name__):
                runs = _different(copied, inputs)
                program = _recorded(copied, runs, model) if runs else None
        except Exception:  # whatever its recording runs into
            return None
    if program is not None:
        _check_all_ran(model, program, why)
    return program


def _different(model: nn.Module, inputs: Inputs) -> list[Inputs]:
    """The inputs given, and of the others those with which an operator runs in a module, or after another, as it did in no run
    before; none where the network does not take those given."""
    found: list[Inputs] = []
    seen: set[Any] = set()

    def moved(trial: Inputs) -> Inputs:
        return tuple(value.to(given.device) for value, given in zip(trial, inputs, strict=True))

    for name, trial, steps in taken(more_trials(inputs, None), lambda _, trial: _steps(model, moved(trial))):
        if name != "given" and not found:
            return []
        new = set(pairwise(steps)) - seen
        if new:
            seen |= new
            found.append(moved(trial))
    return found


class _Watch(TorchDispatchMode):
    """Notes the operators that run, each with the module that it runs in."""

    def __init__(self, inside: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inside = inside
        self.steps: list[Step] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.steps.append((self.inside[-1], str(func)))
        return func(*args, **(kwargs or {}))


def _steps(model: nn.Module, inputs: Inputs) -> list[Step] | None:
    """Module and operator, in the order in which they run; None where the network does not take the inputs."""
    inside = [""]

    def enter(path: str, _: nn.Module) -> None:
        inside.append(path)

    def leave() -> None:
        inside.pop()

    watch = _Watch(inside)
    with _hooked(model, enter, leave), watch:
        try:
            model(*inputs)
        except Exception:
            return None
    return watch.steps


@contextmanager
def _hooked(model: nn.Module, enter: Callable[[str, nn.Module], None], leave: Callable[[], None]) -> Iterator[None]:
    """Tell when a submodule begins and when it ends, also by an error."""
    hooks = []
    for path, module in model.named_modules():
        if path:
            hooks.append(module.register_forward_pre_hook(lambda module, _, path=path: enter(path, module)))
            hooks.append(module.register_forward_hook(lambda *_: leave(), always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Stack:
    """Tells each operator which modules it is in, as ``torch.export`` does: ``block@1`` where ``block`` runs the second time."""

    def __init__(self, model: nn.Module) -> None:
        self.graph: Graph | None = None
        self._now: dict[str, tuple[str, str]] = {"": ("", type(model).__name__)}
        self._times: dict[str, int] = {}

    def begin(self) -> None:
        """A run begins: nothing has been read in it."""
        mode = get_proxy_mode()
        if mode is not None:
            next(reversed(mode.tracer.graph.nodes)).meta["ends"] = True

    def enter(self, path: str, module: nn.Module) -> None:
        self.settle()
        times = self._times[path] = self._times.get(path, -1) + 1
        self._now = {**self._now, f"{path}@{times}": (path if not times else f"{path}@{times}", type(module).__name__)}

    def leave(self) -> None:
        self.settle()
        self._now = dict(list(self._now.items())[:-1])

    def settle(self) -> None:
        """Tell all operators since the last time."""
        if self.graph is None:
            mode = get_proxy_mode()
            if mode is None:
                return
            self.graph = mode.tracer.graph
        for node in reversed(self.graph.nodes):
            if "nn_module_stack" in node.meta:
                return
            node.meta["nn_module_stack"] = self._now


class _Reads(TorchFunctionMode):
    """Makes an operator of what takes the values of a tensor out of torch: it reads all of them. Notes what is read to decide
    alone (``if x > 0``): no number comes of that."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, mode = getattr(func, "__name__", ""), get_proxy_mode()
        if mode is None:
            return func(*args, **(kwargs or {}))
        if name in HIDDEN and args and isinstance(args[0], Tensor):
            torch.nonzero(args[0])
        result = func(*args, **(kwargs or {}))
        if name == "__bool__":
            next(reversed(mode.tracer.graph.nodes)).meta["decides"] = True
        return result


def _recorded(model: nn.Module, runs: Sequence[Inputs], original: nn.Module) -> Program:
    """The operators of all runs, one run after another."""
    stack = _Stack(model)
    flat = [value for run in runs for value in run]
    count = len(runs[0])

    def all_runs(*values: Tensor) -> list[Tensor]:
        made = []
        for first in range(0, len(values), count):
            stack.begin()
            with _Reads():
                made += flatten_outputs(model(*values[first : first + count]))
            stack.settle()
        return made

    options: dict[str, Any] = {"pre_dispatch": True, "_error_on_data_dependent_ops": False, "record_stack_traces": True}
    with _hooked(model, stack.enter, stack.leave):
        traced = make_fx(all_runs, tracing_mode="real", **options)(*flat)
    originals = named_tensors(original)
    names = {id(tensor): originals[name] for name, tensor in named_tensors(model).values()}
    tensors, lifted = {}, set()
    inputs = frozenset(node.name for node in traced.graph.nodes if node.op == "placeholder")
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            held = getattr(traced, str(node.target))
            node.op = "placeholder"  # as torch.export has what a network holds
            if id(held) in names:
                tensors[node.name] = names[id(held)]
            else:
                lifted.add(node.name)
    _tell(traced.graph)
    traced.graph.eliminate_dead_code(_is_read)
    return Program(tuple(traced.graph.nodes), tensors, inputs, frozenset(lifted), len(runs))


def _tell(graph: Graph) -> None:
    """Mark the operators behind one that gives numbers, or sizes, which depend on data: what they are given as a number may be
    another one on other inputs."""
    told = False
    for node in graph.nodes:
        node.meta["told"] = told
        tags = getattr(node.target, "tags", ())
        gives = torch.Tag.dynamic_output_shape in tags or str(node.target) in NUMBERS
        told = (told or (gives and "decides" not in node.meta)) and "ends" not in node.meta


def _is_read(node: Node) -> bool:
    """Whether something happens that is no tensor: a value is taken out of torch (and may decide what runs)."""
    if node.op != "call_function":
        return True
    tags = getattr(node.target, "tags", ())
    outside = torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags
    return outside or bool(node.is_impure())


def _paths(count: int) -> str:
    return "the one path that they took" if count == 1 else f"the {count} paths that they took"


def _check_all_ran(model: nn.Module, program: Program, why: NotFollowedError) -> None:
    used = (node for node in program.nodes if node.name in program.tensors and not all(is_empty(user) for user in node.users))
    ran = {program.tensors[node.name][0] for node in used}
    idle = [
        path
        for path, module in model.named_modules()
        if (own := [f"{path}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)]) and ran.isdisjoint(own)
    ]
    if idle:
        shown = ", ".join(idle[:4]) + (" …" if len(idle) > 4 else "")
        raise GraphError(
            f"{why.why}; its runs were recorded instead, and on {_paths(program.runs)} {shown} never ran: give example "
            f"inputs with which they do, or put nn.Identity() in their place{why.instead}"
        )
