"""ONNX files of several exporters, with half of each layer's filters zeroed in the file, and what the surgeon makes of them
compared by code that shares nothing with its own verification. ``benchmarks/onnx_surgery.py`` does it with large networks."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import onnx_compare
import onnx_zeros
import slimnet
from slimnet.onnx_surgery import slim_onnx

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "tests" / "onnx_corpus"
"""Small files of exporters that are not installed here, with weights by chance: benchmarks/onnx_files.py made them."""
MADE = (
    "old mobile-op9", "old mobile-op10-unfolded", "old mobile-op11", "old mobile-op12-inputs", "old mobile-op14-static",
    "old mobile-op16-unfolded", "old mobile-op17", "old resnet20-op11-preserve", "old resnet20-op13", "old twice-op13",
    "old unet-op11", "old unet-op13",
    "new mobile-op18", "new mobile-op20-external", "new mobile-op21-static", "new twice-op18", "new unet-op18",
    "caffe2 squeezenet",
)  # fmt: skip
"""Files that are made here: by PyTorch's exporters, old and new, and one of the onnx package, exported by Caffe2."""
FILES = (*(path.name for path in sorted(SHIPPED.glob("*.onnx"))), *MADE)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The file of a name, made once."""
    folder = tmp_path_factory.mktemp("corpus")

    @cache
    def find(name: str) -> Path:
        if name.endswith(".onnx"):
            return SHIPPED / name
        path = folder / f"{name.replace(' ', '-')}.onnx"
        exporter, network = name.split()
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            patch.syspath_prepend(ROOT / "benchmarks" / "onnx_files")
            warnings.simplefilter("ignore")
            with redirect_stderr(io.StringIO()):
                write(exporter, network, path)
        return path

    return find


def write(exporter: str, network: str, path: Path) -> None:
    if exporter == "caffe2":
        import packaged_files

        packaged_files.light(network, path)
    else:
        import torch_files

        cases = torch_files.NEW if exporter == "new" else torch_files.OLD
        cases[network].write(path, dynamo=exporter == "new")


def example(model: onnx.ModelProto, batch: int, seed: int) -> dict[str, NDArray[Any]]:
    stored = {tensor.name for tensor in model.graph.initializer}
    (given,) = [value for value in model.graph.input if value.name not in stored]
    shape = [dim.dim_value or batch for dim in given.type.tensor_type.shape.dim]
    return {given.name: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def test_there_are_25_files_of_7_exporters() -> None:
    exporters = {name.split()[0] if " " in name else name.split("-")[0] for name in FILES}
    assert len(FILES) >= 25
    assert exporters == {"old", "new", "caffe2", "chainer", "jax2onnx", "mxnet", "paddle2onnx", "tf2onnx"}


@pytest.mark.parametrize("name", FILES)
def test_half_of_the_filters_are_cut_and_nothing_changes(name: str, made: Any, tmp_path: Path) -> None:
    mode = onnx_zeros.MODES[FILES.index(name) % 3]
    zeroed = onnx_zeros.zero_half(onnx.load(made(name)), mode)
    onnx.save(zeroed.model, tmp_path / "zeroed.onnx")
    result = slim_onnx(tmp_path / "zeroed.onnx")
    result.save(tmp_path / "slim.onnx")
    slim = onnx.load(tmp_path / "slim.onnx")
    onnx.checker.check_model(slim)
    for batch, seed in ((1, 1), (3, 2)):
        feed = example(zeroed.model, batch, seed)
        assert onnx_compare.worst(onnx_compare.run(slim, feed), onnx_compare.run(zeroed.model, feed)) <= 1e-5
    exact = onnx_compare.worst(onnx_compare.run_double(slim, feed), onnx_compare.run_double(zeroed.model, feed))
    assert exact <= (1e-6 if result.plan.folds else 1e-9)  # what is folded into a bias is stored in float32
    left = sum(zero for zero, _ in onnx_zeros.zero_filters(slim).values())
    assert left <= 0.5 * zeroed.filters
    assert onnx_compare.multiply_adds(slim, feed) < 0.75 * onnx_compare.multiply_adds(zeroed.model, feed)
    assert interface(slim) == interface(zeroed.model)


def interface(model: onnx.ModelProto) -> list[Any]:
    stored = {tensor.name for tensor in model.graph.initializer}
    values = [[value for value in part if value.name not in stored] for part in (model.graph.input, model.graph.output)]
    opsets = sorted((entry.domain, entry.version) for entry in model.opset_import)
    return [*values, opsets, [(entry.key, entry.value) for entry in model.metadata_props]]


@pytest.mark.parametrize("name", ["resnet20", "mobile"])
def test_a_network_and_its_file_lose_the_same_channels(name: str, tmp_path: Path) -> None:
    import torch

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.syspath_prepend(ROOT / "benchmarks" / "onnx_files")
        warnings.simplefilter("ignore")
        import torch_files

        case = torch_files.OLD[{"resnet20": "resnet20-op13", "mobile": "mobile-op17"}[name]]
        x = torch.randn(2, 3, case.size, case.size)
        model = torch_files.randomise(case.build(), x.shape)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                chosen = torch.randperm(module.num_features, generator=torch.Generator().manual_seed(module.num_features))
                with torch.no_grad():
                    module.weight[chosen[: module.num_features // 2]] = 0
                    module.bias[chosen[: module.num_features // 2]] = 0
        torch.onnx.export(model, (x,), tmp_path / "net.onnx", dynamo=False, opset_version=13, **torch_files.UNFOLDED)
    there = slimnet.slim(model, x).model
    file = slim_onnx(tmp_path / "net.onnx").model
    ours = [tuple(module.weight.shape) for module in there.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    stored = {tensor.name: tuple(tensor.dims) for tensor in file.graph.initializer}
    theirs = [stored[node.input[1]] for node in file.graph.node if node.op_type in onnx_zeros.LAYERS]
    assert sorted(ours) == sorted(theirs)
    before = [tuple(module.weight.shape) for module in model.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    assert sum(prod(shape) for shape in ours) < 0.95 * sum(prod(shape) for shape in before)


def test_zeros_are_where_they_are_said_to_be() -> None:
    model = onnx.load(SHIPPED / "tf2onnx-small-op18.onnx")
    zeroed = onnx_zeros.zero_half(model, "together")
    assert all(
        len(zeroed.layers[name]) == size // 2
        for name, (_, size) in onnx_zeros.zero_filters(model).items()
        if name in zeroed.layers
    )
    assert set(zeroed.skipped.values()) == {"the network's output"}
    found = onnx_zeros.zero_filters(zeroed.model)
    assert {name: zero for name, (zero, _) in found.items() if zero} == {name: len(rows) for name, rows in zeroed.layers.items()}
    assert not any(zero for zero, _ in onnx_zeros.zero_filters(model).values())


def test_the_comparison_sees_one_wrong_weight() -> None:
    model = onnx.load(SHIPPED / "paddle2onnx-small-op9.onnx")
    feed = example(model, 2, 0)
    assert onnx_compare.worst(onnx_compare.run_double(model, feed), onnx_compare.run(model, feed)) < 1e-5
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    tensor = next(tensor for tensor in wrong.graph.initializer if len(tensor.dims) == 4)
    value = numpy_helper.to_array(tensor).copy()
    value.reshape(-1)[0] *= 1.01
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    assert onnx_compare.worst(onnx_compare.run(wrong, feed), onnx_compare.run(model, feed)) > 1e-5
    assert onnx_compare.worst(onnx_compare.run_double(wrong, feed), onnx_compare.run_double(model, feed)) > 1e-9
