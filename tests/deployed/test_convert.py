"""Networks become files of each runtime, and give there what they give in ONNX Runtime."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deployed.nets import NETWORKS, SHAPE, answers, error, exported, images, made
from slimnet.errors import ExportError, FileFormatError, SlimnetError, TimeLimitError
from slimnet.export.parity import RUNTIME_TOLERANCE
from slimnet.limits import time_limit
from slimnet.measure import Setting, compare_latency, peak_memory
from slimnet.runtimes import FORMATS, Format, formats
from slimnet.runtimes.apart import do_apart
from slimnet.runtimes.base import Runtime, runtime
from slimnet.runtimes.files import RuntimeFile, classifier, convert

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of the runtimes


@functools.cache
def converted(form: str, data: bytes, precision: str) -> dict[str, bytes]:
    return convert(FORMATS[form], data, precision, images(16) if precision == "int8" else None)


def written(form: Format, folder: Path, data: bytes, precision: str = "fp32") -> RuntimeFile:
    files = converted(form.name, data, precision)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return RuntimeFile(form.runtime, tuple(folder / name for name in files), SHAPE)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return exported(made("pooled"), tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.mark.parametrize("name", NETWORKS)
def test_tflite_agrees_at_any_batch(name: str, tmp_path: Path) -> None:
    """slimnet's own writer: every rule, with XNNPACK."""
    from slimnet.runtimes.tflite import to_tflite

    data = exported(made(name), tmp_path / "net.onnx")
    file = tmp_path / "model.tflite"
    file.write_bytes(to_tflite(data))
    run = runtime("litert").open([file], threads=1, batch=None)
    for batch in (1, 3, 2):
        x = images(batch)
        assert error(answers(data, x), run.run(x)) <= 1e-5


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_fp32_agrees_at_any_batch(form: Format, network: bytes, tmp_path: Path) -> None:
    file = written(form, tmp_path, network)
    assert {path.name for path in tmp_path.iterdir()} == set(form.files("fp32"))
    run = classifier(form.runtime, file.paths, SHAPE, threads=1)
    for batch in (1, 3, 2):
        x = images(batch)
        assert error(answers(network, x), run.run(x)) <= RUNTIME_TOLERANCE


@pytest.mark.parametrize(("name", "precision"), [(f.name, p) for f in FORMATS.values() for p in f.precisions if p != "fp32"])
def test_other_precisions_are_near_and_smaller(name: str, precision: str, network: bytes, tmp_path: Path) -> None:
    form = FORMATS[name]
    x = images(4)
    plain, other = written(form, tmp_path, network), written(form, tmp_path, network, precision)
    run = runtime(form.runtime).open(other.paths, threads=1, batch=None)
    found = error(answers(network, x), run.run(x))
    assert 0 < found < (5e-3 if precision == "fp16" else 0.25)
    if form.name != "tflite":  # where what surrounds the weights is larger than those of so small a network
        assert other.paths[-1].stat().st_size < plain.paths[-1].stat().st_size


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(x.mean((2, 3)), dim=1).values


def test_an_operator_without_a_rule_is_named(tmp_path: Path) -> None:
    data = exported(Sorted(), tmp_path / "net.onnx")
    with pytest.raises(ExportError, match=r"^Shape \(.*\) has no rule in slimnet\.runtimes\.tflite\.$"):
        convert(FORMATS["tflite"], data, "fp32")


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_failed_conversion_leaves_nothing(form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(ExportError) as told:
        convert(form, b"no network", "fp32")
    assert str(tmp_path) not in str(told.value)  # a bundle's report may say it
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_that_takes_too_long_is_ended(network: bytes) -> None:
    with time_limit(0.01), pytest.raises(TimeLimitError, match=r"to openvino in fp32 did not end in 0\.01 s"):
        convert(FORMATS["openvino"], network, "fp32")


def test_what_kills_its_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimnet.runtimes.apart._START", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(ExportError, match="it was ended by SIGSEGV"):
        do_apart("nothing", do="try")


DAMAGED = {
    "openvino": lambda data: data.replace(b"Convolution", b"Conjuration"),
    "tflite": lambda data: data[:40] + bytes(200) + data[240:],
    "ncnn": lambda data: data.replace(b"Convolution", b"Conjuration"),
}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_damaged_file_is_refused(form: Format, network: bytes, tmp_path: Path) -> None:
    file = written(form, tmp_path, network)
    first = file.paths[0]
    first.write_bytes(DAMAGED[form.name](first.read_bytes()))
    with pytest.raises(FileFormatError, match=rf"{first.name} does not run in {form.runtime}: \S"):
        file.tried()
    first.unlink()
    with pytest.raises(FileFormatError, match="does not exist"):
        file.tried()


def test_a_list_of_layers_that_claims_too_many_is_not_given_to_ncnn(network: bytes, tmp_path: Path) -> None:
    file = written(FORMATS["ncnn"], tmp_path, network)
    lines = file.paths[0].read_text().splitlines()
    file.paths[0].write_text("\n".join([lines[0], "40000 2000000000", *lines[2:]]))
    with pytest.raises(FileFormatError, match=r"is no list of layers of ncnn"):
        file.tried()


def test_a_file_of_any_size_is_not_read(network: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(FORMATS["tflite"], tmp_path, network)
    monkeypatch.setattr("slimnet.runtimes.files.MAX_BYTES", 100)
    with pytest.raises(FileFormatError, match=r"bytes: at most 100 are read\."):
        file.tried()


def test_a_file_does_not_take_more_memory_than_is_allowed(network: bytes, tmp_path: Path) -> None:
    """An image of 19 GB: more than the address space that a trial may have."""
    file = replace(written(FORMATS["tflite"], tmp_path, network), shape=(3, 40_000, 40_000))
    with pytest.raises(FileFormatError, match="does not run in litert: Unable to allocate"):
        file.tried()


def test_they_are_timed_in_one_run_and_their_memory_is_known(network: bytes, tmp_path: Path) -> None:
    onnx = tmp_path / "net.onnx"
    onnx.write_bytes(network)
    files = {form.runtime: written(form, tmp_path, network) for form in FORMATS.values()}
    report = compare_latency({"onnx": onnx, **files}, rounds=3, seconds=0, warmup=0, batch=2)
    assert [variant.name for variant in report.variants] == ["onnx", *files]
    assert [variant.runtime for variant in report.variants] == ["onnxruntime", *files]
    assert files.keys() <= report.environment.keys()
    memory = peak_memory(files["ncnn"], Setting())
    assert memory is None or memory > 0


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_what_is_said_of_a_runtime(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    found = runtime(form.runtime)
    assert isinstance(found, Runtime) and found.version()[0].isdigit()
    assert (formats.installed_bytes(form.packages) or 0) > 1 << 20
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    with pytest.raises(SlimnetError, match=rf"^{form.name} needs .*: pip install 'slimnet\[{form.runtime}\]'\.$"):
        formats.check_installed([form.name])
    assert np.isnan(formats.installed_bytes(("no-such-package",)) or np.nan)
