"""slimnet export --formats, and what verify, predict and bench make of such a bundle."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import slimnet
from command import predict, slimnet_cli
from export_cases import resealed
from slimnet.bundle.seal import unlisted
from slimnet.commands import bench_bundle
from slimnet.commands.bench_runtimes import advice
from slimnet.errors import ArgumentError, ExportError, FileFormatError
from slimnet.export import compact_bundle, read_bundle
from slimnet.measure import LatencyReport, compare_latency
from slimnet.names import DEPLOYED
from slimnet.predict import Predictor
from slimnet.runtimes import FORMATS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of the runtimes
HOW = ("--precision", "int8,fp16", "--max-drop", "100", "--calibration", "16", "--formats", "onnx,openvino,tflite,ncnn")
HELD = {("openvino", "fp32"), ("openvino", "int8"), ("openvino", "fp16"), ("tflite", "fp32"), ("tflite", "int8"),
        ("tflite", "fp16"), ("ncnn", "fp32"), ("ncnn", "fp16")}  # fmt: skip


def quick(files: Mapping[str, Path], **how: Any) -> LatencyReport:
    return compare_latency(files, rounds=3, seconds=0, warmup=0, baseline=how.get("baseline"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    method = slimnet.FSDP(finetune_epochs=1)
    slimnet.train(model="resnet8", method=method, out=out, epochs=2, batch_size=64, lr=0.05, precision="fp32", seed=3)
    return out


@pytest.fixture(scope="module")
def exported(run: Path) -> tuple[Path, str, str]:
    """The bundle, and what was printed."""
    out = run.parent / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slimnet.measure.latency.compare_latency", quick)
        done = slimnet_cli("export", run, "--out", out, *HOW)
    assert done.status == 0, done.err
    return out, done.out, done.err


@pytest.fixture(scope="module")
def bundle(exported: tuple[Path, str, str]) -> Path:
    return exported[0]


def test_the_bundle_holds_and_lists_them(bundle: Path) -> None:
    held = read_bundle(bundle)
    assert held.format_files.keys() == HELD
    assert all(path.is_file() for paths in held.format_files.values() for path in paths)
    assert unlisted(bundle, held.model) == []
    for name, precision in HELD:
        entry = held.model["formats"][name][precision]
        assert entry["bytes"] == sum((bundle / file).stat().st_size for file in entry["files"])
        assert entry["runtime"]["name"] == FORMATS[name].runtime
        if precision == "fp32":
            assert entry["parity"]["passed"] and entry["parity"]["relative"] <= 1e-4
        else:
            assert entry["agreement"] > 0.5 and entry["accuracy"]["count"] > 100
    card = (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "`model.int8.tflite`" in card and "`model.openvino.xml`, `model.openvino.bin`" in card


def test_the_report_and_the_terminal_say_what_is_not_written(exported: tuple[Path, str, str]) -> None:
    bundle, out, err = exported
    told = read_bundle(bundle).report["formats"]["ncnn"]["int8"]
    assert told == {"written": False, "reason": "ncnn is made in fp32 and fp16 alone."}
    assert "warning: ncnn in int8 is not written: ncnn is made in fp32 and fp16 alone." in err
    assert re.search(r"^openvino fp32: \S+ relative in openvino \(at most 0\.0001\)$", out, re.MULTILINE)
    assert re.search(r"^tflite int8: test accuracy \S+ % in litert$", out, re.MULTILINE)


def test_verify_runs_each_in_its_runtime(bundle: Path) -> None:
    done = slimnet_cli("verify", bundle)
    assert done.status == 0, done.err
    assert re.search(r"^formats +good +what other runtimes read", done.out, re.MULTILINE)
    for runtime in DEPLOYED:
        assert re.search(rf"^parity of {runtime}: \S+ relative$", done.out, re.MULTILINE)


def test_verify_sees_a_changed_byte(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "b")
    data = bytearray((copy / "model.ncnn.bin").read_bytes())
    data[-1] ^= 1
    (copy / "model.ncnn.bin").write_bytes(data)
    done = slimnet_cli("verify", copy, "--no-parity")
    assert done.status == 1
    assert "model.ncnn.bin is not the file that was exported: its SHA-256 differs." in done.err


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_verify_sees_other_weights_though_they_are_listed(form: Any, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "b")
    weights = copy / form.files("fp32")[-1]
    data = np.frombuffer(weights.read_bytes(), np.uint8).copy()
    middle = len(data) // 2 // 4 * 4
    data[middle : middle + 4000].view("<f4")[:] *= 1.5
    weights.write_bytes(data.tobytes())
    resealed(copy)
    done = slimnet_cli("verify", copy, "--json")
    assert done.status == 1
    (fault,) = done.json["faults"]
    assert "computes something else than model.onnx" in fault or "does not run in" in fault
    assert [name for name, good in done.json["checks"].items() if not good] == ["formats"]


def test_verify_says_which_extra_is_missing_and_looks_at_the_rest(bundle: Path) -> None:
    done = without(("openvino",), "verify", str(bundle), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["notes"] == ["openvino was not looked at: openvino needs openvino: pip install 'slimnet[openvino]'."]
    assert report["figures"].keys() > {"parity of litert", "parity of ncnn"}
    assert "warning: openvino was not looked at" in done.stderr


def test_predict_agrees_with_onnx_runtime(bundle: Path, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    plain = [each.top for each in Predictor(bundle).predict(list(pictures))]
    for runtime in DEPLOYED:
        found = [each.top for each in Predictor(bundle, runtime=runtime).predict(list(pictures))]
        for right, other in zip(plain, found, strict=True):
            assert [one.index for one in other] == [one.index for one in right]
            assert [one.probability for one in other] == pytest.approx([one.probability for one in right], abs=1e-4)
    Image.fromarray(pictures[0]).save(tmp_path / "p.png")
    lines = [predict(bundle, tmp_path / "p.png", "--runtime", name) for name in ("onnxruntime", *DEPLOYED)]
    assert {line.status for line in lines} == {0} and len({line.out for line in lines}) == 1
    assert predict(bundle, tmp_path / "p.png", "--runtime", "litert", "--precision", "int8").status == 0


def test_predict_refuses_what_is_not_there(bundle: Path) -> None:
    with pytest.raises(
        FileFormatError, match=r"holds no ncnn network in int8; it has fp32, fp16: `slimnet export --formats ncnn`"
    ):
        Predictor(bundle, runtime="ncnn", precision="int8")
    with pytest.raises(ArgumentError, match=r"unknown runtime 'jax'; known: onnxruntime, openvino, litert, ncnn\."):
        Predictor(bundle, runtime="jax")
    with pytest.raises(ArgumentError, match="auto is chosen among ONNX files"):
        Predictor(bundle, runtime="ncnn", precision="auto")


def test_bench_compares_all_that_the_bundle_holds(bundle: Path) -> None:
    done = slimnet_cli("bench", bundle, "--runtimes", "all", "--rounds", "3", "--seconds", "0")
    assert done.status == 0, done.err
    rows = [line.split()[:2] for line in done.out.splitlines()[2:13]]
    runtime = {form.name: form.runtime for form in FORMATS.values()}
    assert {tuple(row) for row in rows} == {("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("onnxruntime", "fp16")} | {
        (runtime[name], precision) for name, precision in HELD
    }
    assert re.match(r"Fastest here: \w+ \w+, .*[\d,]+ bytes", done.out.splitlines()[-1])
    report = bench_bundle(bundle, runtimes=["all"], rounds=3, seconds=0, warmup=0)
    assert report.latency.baseline == "onnxruntime fp32"
    assert all(row["runtime_bytes"] > 1 << 20 and row["file_bytes"] > 1000 for row in report.rows)
    assert all(row["accuracy"] is not None for row in report.rows)


def test_bench_of_one_runtime_beside_onnx_runtime(bundle: Path) -> None:
    report = bench_bundle(bundle, runtimes=["onnxruntime", "ncnn"], rounds=3, seconds=0, warmup=0)
    assert [row["name"] for row in report.rows] == [
        "dense (onnxruntime)", "slim (onnxruntime)", "slim int8 (onnxruntime)", "slim fp16 (onnxruntime)",
        "slim (ncnn)", "slim fp16 (ncnn)"]  # fmt: skip
    assert report.latency.baseline == "dense (onnxruntime)" and report.advice is None
    size = sum((bundle / file).stat().st_size for file in FORMATS["ncnn"].files("fp32"))
    assert report.rows[4]["file_bytes"] == report.latency["slim (ncnn)"].bytes == size


def test_accuracy_is_that_of_the_runtime_that_is_measured(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "b")
    model = read_bundle(copy).model
    for held, value in ((model["precisions"], 0.125), (model["formats"]["openvino"], 0.25)):
        held["int8"]["accuracy"]["value"] = value
    resealed(copy, precisions=model["precisions"], formats=model["formats"])
    report = bench_bundle(copy, runtimes=["onnxruntime", "openvino"], rounds=3, seconds=0, warmup=0)
    accuracy = {row["name"]: row["accuracy"] for row in report.rows}
    assert (accuracy["slim int8 (onnxruntime)"], accuracy["slim int8 (openvino)"]) == (0.125, 0.25)
    assert accuracy["slim (openvino)"] == accuracy["slim (onnxruntime)"] == model["accuracy"]["slim"]


def latency_of(report: LatencyReport, speedup: float, interval: tuple[float, float]) -> LatencyReport:
    from dataclasses import replace

    plain, other = report.variants
    control = replace(report.control, speedup=1.0, interval=(0.98, 1.02))
    return replace(report, variants=(plain, replace(other, speedup=speedup, interval=interval)), control=control)


def test_the_advice_is_not_taken_from_noise(bundle: Path) -> None:
    files = {"onnxruntime fp32": bundle / "model.onnx", "onnxruntime fp16": bundle / "model.fp16.onnx"}
    report = compare_latency(files, rounds=3, seconds=0, warmup=0)
    rows = [{"name": name, "file_bytes": 1234} for name in files]
    fast = advice(rows, latency_of(report, 1.42, (1.35, 1.49)))
    assert fast == "Fastest here: onnxruntime fp16, 1.42× (1.35–1.49) onnxruntime fp32, 1,234 bytes"
    near = advice(rows, latency_of(report, 1.03, (1.01, 1.05)))
    assert near == "Fastest here: onnxruntime fp32, 1,234 bytes; what differs from it is not faster, or within the noise"


def test_int8_that_loses_accuracy_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate of int8 in ONNX holds for the others too: here with a quantiser that garbles."""
    from slimnet.runtimes import files

    real: Callable[..., dict[str, bytes]] = files.convert

    def garbling(form: Any, data: bytes, precision: str, images: Any = None) -> dict[str, bytes]:
        return real(form, data, precision, None if images is None else images * 1000)

    monkeypatch.setattr("slimnet.measure.latency.compare_latency", quick)
    monkeypatch.setattr(files, "convert", garbling)
    how = ("--precision", "int8", "--calibration", "16", "--formats", "openvino")
    done = slimnet_cli("export", run, "--out", tmp_path / "b", *how)
    assert done.status == 0, done.err
    assert re.search(r"openvino in int8 is not written: it loses \d+\.\d\d points of accuracy \(.*more than the 0\.5", done.err)
    assert read_bundle(tmp_path / "b").format_files.keys() == {("openvino", "fp32")}
    assert not (tmp_path / "b" / "model.openvino.int8.xml").exists()


def test_what_cannot_be_made_or_computes_something_else_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slimnet.runtimes import files

    real: Callable[..., dict[str, bytes]] = files.convert

    def failing(form: Any, *rest: Any) -> dict[str, bytes]:
        if form.name == "ncnn":
            raise ExportError("no rule for it.")
        data = np.frombuffer(real(form, *rest)["model.openvino.bin"], "<f4") * np.float32(1.001)
        return {**real(form, *rest), "model.openvino.bin": data.tobytes()}

    monkeypatch.setattr(files, "convert", failing)
    done = slimnet_cli("export", run, "--out", tmp_path / "b", "--formats", "ncnn,openvino")
    assert done.status == 0, done.err
    assert "warning: ncnn in fp32 is not written: no rule for it." in done.err
    assert re.search(r"warning: openvino in fp32 is not written: openvino vs \w+ on .*\(at most 0\.0001\)", done.err)
    held = read_bundle(tmp_path / "b")
    assert held.format_files == {} and "formats" not in held.model and not list(held.path.glob("*openvino*"))
    assert held.report["formats"]["ncnn"]["fp32"] == {"written": False, "reason": "no rule for it."}


def test_a_compact_bundle_leaves_them_out(bundle: Path, tmp_path: Path) -> None:
    held = compact_bundle(bundle, tmp_path / "c", precision="int8")
    assert held.format_files == {} and not list(held.path.glob("*.tflite"))
    done = slimnet_cli("export", tmp_path, "--out", tmp_path / "d", "--compact", "--formats", "ncnn")
    assert done.status == 1 and not (tmp_path / "d").exists()


def without(modules: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command where these cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({modules!r})); from slimnet_cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("modules", "command", "needs", "extra"),
    [
        (("openvino",), "export {run} --out x --formats onnx,openvino", "openvino needs openvino", "openvino"),
        (("nncf",), "export {run} --out x --formats openvino --precision int8", "openvino needs nncf", "openvino"),
        (("ai_edge_litert",), "export {run} --out x --formats tflite", "tflite needs ai_edge_litert", "litert"),
        (("ncnn", "pnnx"), "export {run} --out x --formats ncnn", "ncnn needs ncnn and pnnx", "ncnn"),
        (("ncnn",), "predict {bundle} p.png --runtime ncnn", "ncnn needs ncnn", "ncnn"),
        (("openvino",), "bench {bundle} --runtimes onnxruntime,openvino", "openvino needs openvino", "openvino"),
    ],
)
def test_a_missing_extra_is_named_at_once(
    modules: tuple[str, ...], command: str, needs: str, extra: str, run: Path, bundle: Path, here: Path
) -> None:
    done = without((*modules, "torch"), *command.format(run=run, bundle=bundle).split())  # at once: before torch
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"slimnet: error: {needs}: pip install 'slimnet[{extra}]'.\n")
    assert not any(here.iterdir())


def test_a_bundle_that_names_a_file_elsewhere_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "b")
    (copy / "model.ncnn.bin").unlink()
    (copy / "model.ncnn.bin").symlink_to(bundle / "model.ncnn.bin")
    with pytest.raises(FileFormatError, match="is a symbolic link"):
        Predictor(copy, runtime="ncnn")
