"""ncnn: a text of layers and a file of weights, made by pnnx. The façade over both."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimnet.errors import ExportError, FileFormatError
from slimnet.onnx.file import MAX_NODES
from slimnet.runtimes.base import Array, Runner, Runtime

_MAGIC = "7767517"


class Ncnn(Runtime):
    """Runs .param and .bin, image by image. Precisions are of the weights: fp16 is computed in float32, as elsewhere on CPUs."""

    def version(self) -> str:
        """As ``1.0.20261020``."""
        import ncnn

        return str(ncnn.__version__)

    def convert(self, onnx: Path, out: Sequence[Path], precision: str, images: Array | None) -> None:
        """By pnnx, a program, on a copy in the folder of ``out``: it writes eight files beside what it reads."""
        import pnnx

        work = out[0].parent / "pnnx"
        work.mkdir()
        copy = work / "net.onnx"
        copy.write_bytes(onnx.read_bytes())
        shape = ",".join(map(str, (1, *_image_shape(onnx))))
        command = [pnnx.EXEC_PATH, copy.name, f"inputshape=[{shape}]f32", f"fp16={int(precision == 'fp16')}"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace", check=False)
        made = [work / f"net.ncnn{path.suffix}" for path in out]
        if done.returncode or not all(path.is_file() for path in made):
            raise ExportError(f"pnnx failed (exit status {done.returncode}): {_last(done.stderr) or _last(done.stdout)}")
        _check_layers(made[0])
        try:
            _net(made, None)
        except FileFormatError:
            left = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.startswith("ignore ")]
            raise ExportError(f"ncnn has no layer for all of it; pnnx says: {'; '.join(left) or 'nothing'}") from None
        for path, target in zip(made, out, strict=True):
            path.replace(target)

    def open(self, files: Sequence[Path], *, threads: int | None, batch: int | None) -> Runner:
        """With float32 throughout."""
        _check_layers(files[0])
        return _Runner(_net(files, threads))


def _net(files: Sequence[Path], threads: int | None) -> Any:
    """It is open.

    Raises:
        FileFormatError: if ncnn cannot read it.
    """
    import ncnn

    net = ncnn.Net()
    options = net.opt
    options.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed"):
        setattr(options, name, False)
    if threads is not None:
        options.num_threads = threads
    if net.load_param(str(files[0])) or net.load_model(str(files[1])):
        raise FileFormatError(f"{files[0]} is no network that ncnn {ncnn.__version__} reads.")
    if len(net.input_names()) != 1 or not net.output_names():
        raise FileFormatError(f"{files[0]} is no network of one input of images.")
    return net


class _Runner(Runner):
    def __init__(self, net: Any) -> None:
        self._net, self._input, self._output = net, net.input_names()[0], net.output_names()[0]

    def run(self, images: Array) -> Array:
        import ncnn

        return np.stack([self._one(ncnn.Mat(image).clone()) for image in images])

    def ready(self, images: Array) -> Callable[[], object]:
        import ncnn

        mats = [ncnn.Mat(image).clone() for image in images]
        return lambda: [self._one(mat) for mat in mats]

    def _one(self, mat: Any) -> Array:
        extractor = self._net.create_extractor()
        extractor.input(self._input, mat)
        failed, out = extractor.extract(self._output)
        if failed:
            raise RuntimeError(f"ncnn gives {failed}")
        return np.array(out, np.float32)


def _image_shape(onnx: Path) -> list[int]:
    from slimnet.onnx.metadata import interface, parse

    (entry,) = interface(parse(onnx.read_bytes(), str(onnx)))["inputs"]
    return [int(size) for size in entry["shape"][1:]]


def _check_layers(param: Path) -> None:
    """A file that claims more layers than it has lines is not given to ncnn, which would set memory aside for them.

    pnnx leaves operators that it does not know in place, under their names: ncnn has no such layer.
    """
    try:
        lines = param.read_text(encoding="utf-8").splitlines()
        layers, blobs = map(int, lines[1].split())
        right = lines[0] == _MAGIC and 0 < layers <= MAX_NODES and 0 < blobs <= 4 * MAX_NODES and len(lines) >= layers + 2
    except (UnicodeDecodeError, IndexError, ValueError):
        right = False
    if not right:
        raise FileFormatError(f"{param} is no list of layers of ncnn.")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


RUNTIME = Ncnn()
