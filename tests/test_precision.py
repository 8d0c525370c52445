"""Eight bits and half precision: what is in the graph, what is kept, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

import slimnet
from slimnet.bundle.manifest import PRECISIONS
from slimnet.commands import PrecisionSettings
from slimnet.commands.precisions import answers, calibration_images
from slimnet.data import Dataset, load_data
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError
from slimnet.export.precision import Evaluated, Precisions, make_precisions, to_fp16, to_int8
from slimnet.export.precision._choose import Compare
from slimnet.export.precision._int8 import weighted_layers
from slimnet.export.precision._processor import needs_reduced_range
from slimnet.measure import LatencyReport, compare_latency
from slimnet.names import PRECISIONS as NAMES

Images = NDArray[np.float32]


class Digits(nn.Module):
    """Random convolutions and a head fitted in closed form: classifies digits without a training loop."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(32 * 16, 10)

    def features(self, x: Tensor) -> Tensor:
        return self.pool(self.two(self.norm(self.one(x)).relu()).relu()).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def fit(self, x: Tensor, labels: Tensor) -> None:
        """Ridge regression of the classes on the features, in place."""
        with torch.no_grad():
            features = self.features(x).double()
            gram = features.T @ features + 10 * torch.eye(features.shape[1], dtype=torch.float64)
            target = nn.functional.one_hot(labels, 10).double() - 0.1
            self.head.weight.copy_(torch.linalg.solve(gram, features.T @ target).T)
            self.head.bias.fill_(0.01)  # the same for all: it decides nothing, but a zero bias is not exported


def fragile(model: Digits) -> Digits:
    """The same function with a third of the hidden channels a thousand times as large: no scale fits them all."""
    with torch.no_grad():
        model.norm.weight[::3] *= 1000
        model.norm.bias[::3] *= 1000
        model.two.weight[:, ::3] /= 1000
    return model


@dataclass(frozen=True)
class Made:
    data: Dataset
    fp32: bytes
    broken: bytes
    images: Images

    def evaluate(self, network: bytes) -> Evaluated:
        return answers(network, self.data.val, self.data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, data = tmp_path_factory.mktemp("precision"), load_data("digits")
    torch.manual_seed(0)
    model = Digits().eval()
    x = calibration_images(data, len(data.train), 0)
    model.fit(x, data.train.labels)
    slimnet.export_onnx(model, x[:2], folder / "a.onnx", metadata={"labels": "0 1 2"})
    slimnet.export_onnx(fragile(model), x[:2], folder / "b.onnx")
    images: Images = calibration_images(data, 64, 0).numpy()
    return Made(data, (folder / "a.onnx").read_bytes(), (folder / "b.onnx").read_bytes(), images)


def timing(**speedups: float) -> Compare:
    """A paired run whose speed-ups are made up, each with an interval of ±0.01 around it."""

    def compare(files: Mapping[str, Path]) -> LatencyReport:
        real = compare_latency(files, rounds=2, seconds=0, warmup=0)
        exact = replace(real.control, speedup=1.0, interval=(0.99, 1.01))
        variants = [
            replace(v, speedup=s, interval=(s - 0.01, s + 0.01)) for v in real.variants for s in [speedups.get(v.name, 1.0)]
        ]
        return replace(real, variants=tuple(variants), control=exact)

    return compare


def scripted(accuracies: Iterable[float]) -> Callable[[bytes], Evaluated]:
    """An evaluation that gives these accuracies, one after the other."""
    left = iter(accuracies)
    return lambda network: Evaluated(next(left), np.zeros(4, dtype=np.int64))


def choose(made: Made, *names: str, **how: Any) -> Precisions:
    given: dict[str, Any] = {"evaluate": made.evaluate, "compare": timing(), **how}
    return make_precisions(made.fp32, names, calibration=made.images, **given)


def constants(proto: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def float_layers(data: bytes) -> set[str]:
    """Names of the layers whose weights are not quantised."""
    proto = onnx.load_from_string(data)
    return {node.name for node in proto.graph.node if node.op_type in ("Conv", "Gemm") and node.input[1] in constants(proto)}


# --- the graph ------------------------------------------------------------------------------------------------------------


def test_int8_has_unsigned_activations_and_signed_weights_with_a_scale_a_channel(made: Made) -> None:
    proto = onnx.load_from_string(to_int8(made.fp32, made.images))
    values = constants(proto)
    quantised = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert quantised
    assert {values[node.input[2]].dtype for node in quantised} == {np.dtype(np.uint8)}
    source = {node.output[0]: node for node in proto.graph.node}
    layers = [node for node in proto.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 3
    for layer in layers:
        weights = source[layer.input[1]]
        assert weights.op_type == "DequantizeLinear"
        outputs = len(values[weights.input[0]])
        assert values[weights.input[0]].dtype == np.int8
        assert values[weights.input[1]].shape == (outputs,)
        assert not values[weights.input[2]].any()
        assert values[source[layer.input[2]].input[0]].dtype == np.int32
    assert not [node for node in proto.graph.node if node.op_type in ("Relu", "BatchNormalization")]


@pytest.mark.parametrize(("reduce_range", "most"), [(False, 127), (True, 64)])
def test_reduced_range_is_seven_bits_of_weights(made: Made, reduce_range: bool, most: int) -> None:
    values = constants(onnx.load_from_string(to_int8(made.fp32, made.images, reduce_range=reduce_range)))
    largest = {int(np.abs(value.astype(np.int64)).max()) for value in values.values() if value.dtype == np.int8 and value.any()}
    assert max(largest) in (most - 1, most)


def test_fp16_takes_and_gives_float32(made: Made) -> None:
    proto = onnx.load_from_string(to_fp16(made.fp32))
    onnx.checker.check_model(proto, full_check=True)
    ends = [*proto.graph.input, *proto.graph.output]
    assert {entry.type.tensor_type.elem_type for entry in ends} == {TensorProto.FLOAT}
    assert {value.dtype for value in constants(proto).values() if value.dtype.kind == "f"} == {np.dtype(np.float16)}
    assert [node.op_type for node in proto.graph.node].count("Cast") == 2


@pytest.mark.parametrize("convert", [to_fp16, to_int8])
def test_converted_files_keep_interface_and_metadata_and_say_nothing_of_converters(made: Made, convert: Any) -> None:
    proto, old = (
        onnx.load_from_string(data) for data in (convert(made.fp32, *([made.images] if convert is to_int8 else [])), made.fp32)
    )
    assert {entry.key: entry.value for entry in proto.metadata_props} == {"labels": "0 1 2"}
    assert list(proto.graph.input) == list(old.graph.input)
    assert list(proto.graph.output) == list(old.graph.output)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 20)]
    assert (proto.producer_name, proto.producer_version) == ("slimnet", "")


SCRIPT = """
import hashlib, sys, numpy as np
from slimnet.export.precision import to_fp16, to_int8
assert "torch" not in sys.modules
fp32, images = open(sys.argv[1], "rb").read(), np.load(sys.argv[2])
files = [to_fp16(fp32), *(to_int8(fp32, images, method=m, reduce_range=False) for m in ("minmax", "percentile", "entropy"))]
print(*(hashlib.sha256(file).hexdigest() for file in files))
"""


def test_the_same_input_gives_the_same_bytes_and_no_word_on_stdout(made: Made, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(made.fp32)
    np.save(tmp_path / "x.npy", made.images)
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "a.onnx"), str(tmp_path / "x.npy")]
    found = {
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(set(found.pop().split())) == 4


@pytest.mark.parametrize(
    ("machine", "flags", "reduced"),
    [
        ("x86_64", {"avx2", "avx512f"}, True),
        ("x86_64", {"avx2", "avx512_vnni"}, False),
        ("AMD64", {"avx2", "avx_vnni"}, False),
        ("x86_64", set(), True),
        ("aarch64", set(), False),
        ("arm64", {"asimd"}, False),
    ],
)
def test_range_is_reduced_without_vnni(machine: str, flags: set[str], reduced: bool) -> None:
    assert needs_reduced_range(frozenset(flags), machine=machine) is reduced


# --- the choice -----------------------------------------------------------------------------------------------------------


def test_good_precisions_are_kept_with_their_figures(made: Made) -> None:
    found = choose(made, "int8", "fp16", compare=timing(int8=1.5))
    assert [one.name for one in found.kept] == ["fp32", "int8", "fp16"]
    assert found.count == len(made.data.val)
    assert found["fp32"].accuracy > 0.9
    for name in ("int8", "fp16"):
        one = found[name]
        assert one.accuracy >= found["fp32"].accuracy - 0.005
        assert one.agreement > 0.97
        assert len(one.data) < 0.6 * len(made.fp32)
        assert one.accuracy == made.evaluate(one.data).accuracy
    assert found["int8"].speedup == 1.5
    said = json.loads(json.dumps(found.as_dict()))
    assert [trial["method"] for trial in said["found"][1]["trials"]][:3] == ["minmax", "percentile", "entropy"]
    assert said["found"][1]["calibration"] == {"count": 64}


def test_a_precision_that_loses_too_much_is_refused(made: Made) -> None:
    found = make_precisions(
        made.broken, ["int8", "fp16"], calibration=made.images, evaluate=made.evaluate, compare=timing(int8=3.0)
    )
    assert found["int8"].accuracy < found["fp32"].accuracy - 0.005
    assert [one.name for one in found.kept] == ["fp32", "fp16"]
    refused = found["int8"].refused
    assert refused is not None
    assert refused.startswith("it loses ")
    assert "more than the 0.5 allowed" in refused
    more = make_precisions(made.broken, ["int8"], calibration=made.images, evaluate=made.evaluate, compare=timing(), max_drop=1.0)
    assert more["int8"].kept


@pytest.mark.parametrize(
    ("accuracy", "speedup", "kept"),
    [
        (0.899, 0.80, False),
        (0.899, 0.985, True),  # within what the control is off
        (0.899, 1.20, True),
        (0.900, 0.80, True),  # slower, but no less accurate
        (0.895, 1.00, True),  # exactly what may be lost
        (0.8949, 9.00, False),
    ],
)
def test_slower_and_less_accurate_is_refused(made: Made, accuracy: float, speedup: float, kept: bool) -> None:
    found = choose(made, "fp16", evaluate=scripted([0.9, accuracy]), compare=timing(fp16=speedup))
    assert found["fp16"].kept is kept
    if not kept and speedup < 1:
        assert found["fp16"].refused == (
            "it is slower (0.80×, 0.79–0.81) and less accurate (89.90% against 90.00% of fp32 on the validation split)."
        )


FIRST, LAST = 0, -1


@pytest.mark.parametrize(
    ("accuracies", "method", "excluded", "tried"),
    [
        ([0.9, 0.9, 0.8, 0.8], "minmax", [], 3),
        ([0.9, 0.8, 0.9, 0.9], "percentile", [], 3),
        ([0.9, 0.8, 0.7, 0.91], "entropy", [], 3),
        ([0.9, 0.88, 0.89, 0.89, 0.89, 0.88, 0.89], "percentile", [], 6),
        ([0.9, 0.88, 0.89, 0.89, 0.89, 0.895, 0.895], "percentile", [LAST], 6),
        ([0.9, 0.89, 0.88, 0.88, 0.895, 0.89, 0.899], "minmax", [FIRST, LAST], 6),
    ],
)
def test_the_most_accurate_way_is_taken_and_the_simplest_of_equals(
    made: Made, accuracies: list[float], method: str, excluded: list[int], tried: int
) -> None:
    found = choose(made, "int8", evaluate=scripted(accuracies), max_drop=1.0)["int8"]
    layers = weighted_layers(made.fp32)
    assert found.made["method"] == method
    assert found.made["excluded"] == [layers[i] for i in excluded]
    assert found.accuracy == max(accuracies[1:])
    assert len(found.trials) == tried
    assert float_layers(found.data) == {layers[i] for i in excluded}


def test_output_that_is_not_finite_counts_as_wrong(made: Made) -> None:
    proto = onnx.load_from_string(made.fp32)
    bias = next(tensor for tensor in proto.graph.initializer if tensor.name == "head.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, dtype=np.float32), bias.name))
    found = made.evaluate(proto.SerializeToString())
    assert found.accuracy == 0
    assert set(found.predictions) == {-1}


# --- bad input ------------------------------------------------------------------------------------------------------------


BAD: list[tuple[Callable[[Made], object], type[SlimnetError], str]] = [
    (lambda m: choose(m, "int4"), ArgumentError, "unknown precision 'int4'; known: fp32, int8, fp16"),
    (lambda m: choose(m, "int8", max_drop=1.1), ArgumentError, "`max_drop` must be from 0 to 1, got 1.1"),
    (lambda m: to_int8(b"no", m.images), FileFormatError, "the network is not a readable ONNX file"),
    (lambda m: to_fp16(b""), FileFormatError, "the network is not valid ONNX"),
    (lambda m: to_int8(m.fp32, m.images[:0]), ArgumentError, r"must be float32 \(N, C, H, W\) with N ≥ 1, got float32 \(0, 1,"),
    (lambda m: to_int8(m.fp32, m.images.astype(np.float64)), ArgumentError, "must be float32 .* got float64"),  # type: ignore[arg-type]
    (lambda m: to_int8(m.fp32, m.images[:, :, :4]), ArgumentError, r"images of \(1, 4, 8\), the network takes \(1, 8, 8\)"),
    (lambda m: to_int8(m.fp32, m.images * np.float32("nan")), ArgumentError, "`calibration` holds NaN"),
    (lambda m: to_int8(m.fp32, m.images, method="max"), ArgumentError, "one of minmax, percentile, entropy, got 'max'"),  # type: ignore[arg-type]
    (lambda m: to_int8(m.fp32, m.images, exclude=["x"]), ArgumentError, "`exclude` names 'x', which is no layer .* it has "),
    (lambda m: PrecisionSettings(("int4",)), ArgumentError, "unknown precision 'int4'; known: fp32, int8, fp16"),
    (lambda m: PrecisionSettings(max_drop=-1), ArgumentError, "`max_drop` must be from 0 to 1, got -1"),
    (lambda m: PrecisionSettings(calibration=0), ArgumentError, "`calibration` must be at least 1 image, got 0"),
]


@pytest.mark.parametrize(("attempt", "error", "message"), BAD)
def test_bad_input_is_named(made: Made, attempt: Callable[[Made], object], error: type[SlimnetError], message: str) -> None:
    with pytest.raises(error, match=message):
        attempt(made)


# --- a run in, a bundle out -----------------------------------------------------------------------------------------------


def test_calibration_images_are_training_images_chosen_by_the_seed() -> None:
    data = load_data("digits")
    one, same, other = (calibration_images(data, 40, seed) for seed in (0, 0, 1))
    assert one.shape == (40, 1, 8, 8)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    train = (data.train.images.float() / 255 - torch.tensor(data.mean).view(1, -1, 1, 1)) / torch.tensor(data.std).view(
        1, -1, 1, 1
    )
    nearest = torch.cdist(one.flatten(1), train.flatten(1)).min(1).values
    assert float(nearest.max()) < 1e-2


def test_a_bundle_has_a_file_for_each_precision() -> None:
    assert tuple(PRECISIONS) == NAMES
