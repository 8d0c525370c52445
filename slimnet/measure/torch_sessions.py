"""PyTorch modules made to be timed, eager or compiled. Imports torch only when one is opened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slimnet._foreign import no_exit
from slimnet._modes import kept_modes
from slimnet.errors import ArgumentError, MeasureError, one_line
from slimnet.measure.inputs import InputSpec, make_input
from slimnet.measure.timed import Setting, Timed, generator

if TYPE_CHECKING:
    from torch import Tensor, nn

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, eq=False)
class TorchNetwork:
    """A network to be run by PyTorch, as a variant of :func:`slimnet.measure.compare_latency`.

    Attributes:
        module: the network, or a function that makes it. It is run in evaluation mode, of which nothing is left when the session
            is closed, and is left on the device that it was run on.
        example_inputs: (N, …) tensor, or a tuple of such: sizes and types of the inputs.
        compiled: through ``torch.compile``.
    """

    module: nn.Module | Callable[[], nn.Module]
    example_inputs: Tensor | tuple[Tensor, ...]
    compiled: bool = False

    @property
    def runtime(self) -> str:
        """``"torch"`` or ``"torch-compile"``."""
        return "torch-compile" if self.compiled else "torch"

    def prepare(self) -> tuple[TorchNetwork, int]:
        """Import torch, its compiler where it is asked for, and make the module; the network with it, and its bytes."""
        if self.compiled:
            import torch._inductor.compile_fx  # noqa: F401
        module = self._made()
        held = sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
        return replace(self, module=module), held

    def _made(self) -> nn.Module:
        import torch

        return (self.module if isinstance(self.module, torch.nn.Module) else self.module()).eval()

    def open(self, name: str, how: Setting) -> Timed:
        """Make the module, move it to its device, make its inputs, run it once (which compiles it).

        The number of torch's threads is set for the whole process until the result is closed.

        Raises:
            ArgumentError: if torch does not know the provider, or ``inputs`` do not fit.
            MeasureError: if torch has no such device, or the module does not run or compile.
        """
        import torch

        _check_device(how.provider)
        undo = ExitStack()
        undo.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(how.threads)
        try:
            if isinstance(self.module, torch.nn.Module):
                undo.enter_context(kept_modes(self.module))
            return self._open(name, how, close=undo.close)
        except BaseException:
            undo.close()
            raise

    def _open(self, name: str, how: Setting, close: Callable[[], None]) -> Timed:
        import torch

        start = time.perf_counter_ns()
        module = self._made().to(how.provider)
        opened = time.perf_counter_ns()
        inputs = [torch.from_numpy(array).to(how.provider) for array in self._arrays(name, how)]
        run = _compiled(module) if self.compiled else module
        clock = cuda_clock(run, inputs) if how.provider == "cuda" else _cpu_clock(run, inputs)
        begin = time.perf_counter_ns()
        try:
            with _compiling_alone() if self.compiled else nullcontext(), no_exit(name):
                clock()
        except Exception as error:  # a module or its compiler may raise anything
            raise MeasureError(_reason(name, self.compiled, how, error)) from None
        first = time.perf_counter_ns() - begin
        environment = {"torch": str(torch.__version__)}
        if how.provider == "cuda":
            environment["gpu"] = torch.cuda.get_device_name()
        return Timed(name, self.runtime, None, (opened - start) / 1e6, first / 1e6, clock, close, environment)

    def _arrays(self, name: str, how: Setting) -> list[Any]:
        """Inputs as ONNX Runtime would get them; named ones are taken in their order."""
        examples = self.example_inputs if isinstance(self.example_inputs, tuple) else (self.example_inputs,)
        given = list(how.inputs.values()) if isinstance(how.inputs, Mapping) else [how.inputs] * len(examples)
        if len(given) != len(examples):
            raise ArgumentError(f"`inputs` are {len(given)} arrays, {name} takes {len(examples)}.")
        rng = generator(how)
        arrays = []
        for number, (example, array) in enumerate(zip(examples, given, strict=True)):
            spec = InputSpec(name, f"input {number}", ["batch", *example.shape[1:]], example[:0].cpu().numpy().dtype)
            arrays.append(make_input(spec, replace(how, inputs=array), rng))
        return arrays


def _check_device(provider: str) -> None:
    import torch

    if provider not in DEVICES:
        raise ArgumentError(f"torch runs on {' and '.join(DEVICES)}, not on {provider}: take ONNX Runtime for that.")
    if provider == "cuda" and not torch.cuda.is_available():
        raise MeasureError(f"PyTorch {torch.__version__} finds no CUDA device on this machine: take the provider cpu.")


def _compiled(module: nn.Module) -> Callable[..., Any]:
    """The compiled module, with a code object of its own.

    What torch has compiled hangs on code objects: networks of one class would share theirs, search each other's entries at
    every run, and beyond a number of them be run uncompiled in silence.
    """
    import torch

    def forward(*inputs: Any) -> Any:
        return module(*inputs)

    forward.__code__ = forward.__code__.replace()
    return torch.compile(forward, dynamic=False)


@contextmanager
def _compiling_alone() -> Iterator[None]:
    """Compile in this process: no pool of helpers is left that would compete with what is timed."""
    import torch._inductor.config as settings

    with settings.patch(compile_threads=1):
        yield


def _cpu_clock(run: Callable[..., Any], inputs: list[Any]) -> Callable[[], int]:
    import torch

    def clock() -> int:
        with torch.inference_mode():
            start = time.perf_counter_ns()
            run(*inputs)
            return time.perf_counter_ns() - start

    return clock


def cuda_clock(run: Callable[..., Any], inputs: list[Any]) -> Callable[[], int]:
    """Times a run on the GPU between two events, from its first kernel to its last; its launches are in it where they lag."""
    import torch

    event: Any = torch.cuda.Event
    begin, end = event(enable_timing=True), event(enable_timing=True)

    def clock() -> int:
        with torch.inference_mode():
            torch.cuda.synchronize()
            begin.record()
            run(*inputs)
            end.record()
            end.synchronize()
        return round(float(begin.elapsed_time(end)) * 1e6)

    return clock


def _reason(name: str, compiled: bool, how: Setting, error: Exception) -> str:
    if not compiled:
        return f"{name} does not run at batch {how.batch}: {one_line(error)}"
    if "C++ compiler" in str(error):
        return f"torch.compile needs a C++ compiler to run {name} on the CPU: install g++ or clang++, or take torch uncompiled."
    reason = " ".join(line.strip() for line in str(error).split("\n")[:2])  # the first often names the backend alone
    return f"torch.compile cannot compile {name}: {reason or type(error).__name__}"
