"""ONNX files that are broken, endless, or no classifiers: one line from every command that opens one."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import bad_networks as bad
from bad_networks import Make, Shape
from command import slimnet_cli
from slimnet.bundle.seal import sealed
from slimnet.errors import ArgumentError, FileFormatError, MeasureError, TimeLimitError
from slimnet.export import Bundle
from slimnet.limits import Alarm, current_limit, within
from slimnet.measure import time_limit
from slimnet.onnx import file as onnx_file
from slimnet.onnx.file import read_network
from slimnet.onnx.flops import onnx_flops
from slimnet.onnx.session import open_session

DIGITS, HALVES = Shape(8, 10), Shape(16, 4)
SECONDS = "1"
GOOD = ""  # the message of a command that works

# name → network, what `evaluate`, `bench` and `predict` say
Row = tuple[Make, str, str, str]


def refused(make: Make, message: str) -> Row:
    """Before it is opened: by all alike."""
    return make, message, message, message


INTERFACES: dict[str, Row] = {
    "honest": (bad.honest, GOOD, GOOD, GOOD),
    "integers in": (
        bad.integer_input,
        r"x.onnx takes tensor\(int64\) \['batch', 1, 8, 8\] as 'x'",
        GOOD,
        r"takes tensor\(int64\)",
    ),
    "two inputs": (bad.two_inputs, "x.onnx takes 2 inputs and gives 1 outputs", GOOD, "takes 2 inputs and gives 1"),
    "no input": (bad.no_input, "x.onnx takes 0 inputs and gives 1 outputs", GOOD, "takes 0 inputs and gives 1"),
    "fixed batch": (bad.fixed_batch(3), GOOD, "`batch` must be 3 for x.onnx", GOOD),
    "huge fixed batch": (
        bad.fixed_batch(5000),
        "batches of 5,000 images alone",
        "`batch` must be 5000",
        "batches of 5,000 images",
    ),
    "unknown rank": (bad.unknown_rank, GOOD, "x.onnx does not run at batch 1: ", GOOD),
    "text out": (bad.text_output, r"x.onnx gives tensor\(string\) \['batch', 10\]", GOOD, r"gives tensor\(string\)"),
    "several outputs": (bad.several_outputs, GOOD, GOOD, GOOD),
    "a sequence out": (bad.sequence_output, r"x.onnx gives seq\(tensor\(float\)\)", GOOD, r"gives seq\(tensor\(float\)\)"),
    "maps out": (bad.maps_for_output, r"x.onnx gives tensor\(float\) \['batch', 10, 1, 1\]", GOOD, r"gives tensor\(float\)"),
    "one row for all": (
        bad.one_row_for_all,
        r"must give \(256, classes\) .* gives \(2, 10\)",
        GOOD,
        r"must give \(1, .*\(2, 4\)",
    ),
}
FAILING: dict[str, Row] = {
    "a node that fails": refused(bad.failing_node, "does not run .*Reshape"),
    "a huge allocation": refused(bad.huge_allocation, "does not run .*(allocate memory|bad allocation|overflow)"),
    "an unknown operator": refused(bad.unknown_operator, "is not a readable ONNX file: .*NoSuchOperator"),
    "an unknown domain": refused(bad.unknown_domain, "is not a readable ONNX file: .*nowhere"),
    "an endless loop": refused(bad.endless_loop(), r"did not finish a run in 1 s: .* give it longer with --time-limit\."),
}
REFUSED: dict[str, tuple[Make, str]] = {
    "functions that double 28 deep": (bad.doubling(28), "has more than 50,000 nodes once its functions are put in"),
    "a function that calls itself": (bad.functions(["f0"]), "has a function 'f0' that calls itself"),
    "two that call each other": (bad.functions(["f1"], ["f0"]), "has a function 'f1' that calls itself"),
    "a long chain of functions": (
        bad.functions(["Relu"], *([f"f{i}"] for i in range(40))),
        "more than 32 deep within each other",
    ),
    "too many functions": (bad.functions(*([["Relu"]] * 10_001)), "has 10,001 functions: at most 10,000"),
    "functions that double 15 deep": (bad.doubling(15), "has more than 50,000 nodes once its functions are put in"),
    "a large input": (bad.declared([2**28, 2], as_input=True), r"a tensor 'large' of shape \(268435456, 2\)"),
    "a large tensor": (bad.declared([2**31, 2]), r"a tensor 'large' of shape \(2147483648, 2\)"),
    "many dimensions": (bad.declared([1] * 33), "a tensor 'large' of 33 dimensions: at most 32"),
    "a sparse tensor": (bad.sparse(2**40), r"a tensor 'sparse' of shape \(1099511627776,\)"),
    "weights above the folder": (bad.outside("../secret.bin"), "'../secret.bin', which lies outside of its folder"),
    "weights in the system": (bad.outside("/etc/passwd"), "'/etc/passwd', which lies outside of its folder"),
    "weights up and down": (bad.outside("../../etc/passwd"), "'../../etc/passwd', which lies outside of its folder"),
    "weights behind a link": (bad.outside("link.bin"), "'link.bin', which lies outside of its folder"),
    "weights in memory": (bad.outside("*/_ORT_MEM_ADDR_/*", 4096), r"'\*/_ORT_MEM_ADDR_/\*', which does not exist"),
    "weights nowhere": (bad.outside("none.bin"), "'none.bin', which does not exist"),
    "weights in the folder itself": (bad.outside(""), "'', which does not exist"),
    "weights under no name": (bad.outside("a\0b"), r"'a\\x00b', which does not exist"),
    "weights past the end": (bad.outside("weights.bin", 2), "'weights.bin', which is too short"),
    "weights before the start": (bad.outside("weights.bin", -4), "'weights.bin', which is too short"),
    "weights at no place": (bad.outside("weights.bin", "x"), "'weights.bin', which does not exist"),
    "weights of a constant": (bad.in_a_constant(bad.outside("../secret.bin")), "which lies outside of its folder"),
}
ROWS = {**INTERFACES, **FAILING, **{name: refused(*row) for name, row in REFUSED.items()}}


@pytest.fixture
def there(here: Path) -> Path:
    """A folder with a secret, and another in it, the current one, with weights and a link to the secret."""
    (here / "secret.bin").write_bytes(b"\0\0\0\0")
    folder = here / "folder"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"\0\0\0\0")
    (folder / "link.bin").symlink_to(here / "secret.bin")
    return folder


def expect(command: str, message: str) -> None:
    done = slimnet_cli(*command.split())
    if message == GOOD:
        assert (done.status, "Traceback" in done.err) == (0, False), done.err
        return
    assert done.status == 1
    assert re.fullmatch(r"slimnet: error: [^\n]+\n", done.err), done.err
    assert re.search(message, done.err), done.err


@pytest.mark.parametrize("name", ROWS)
def test_evaluate_and_bench_say_it_in_one_line(name: str, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, evaluating, benching, _ = ROWS[name]
    monkeypatch.chdir(there)
    bad.saved(make, there / "x.onnx", DIGITS)
    expect(f"evaluate x.onnx --data digits --time-limit {SECONDS}", evaluating)
    expect(f"bench x.onnx --rounds 1 --seconds 0 --time-limit {SECONDS}", benching)


def test_the_runtimes_own_log_stays_off_the_terminal(
    there: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(there)
    bad.saved(bad.overflowing_allocation, there / "x.onnx", DIGITS)
    expect(f"evaluate x.onnx --data digits --time-limit {SECONDS}", "x.onnx does not run on float32")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ours", [True, False])
def test_only_the_command_line_sets_what_holds_for_the_process(ours: bool, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    severities: list[int] = []
    monkeypatch.setattr("onnxruntime.set_default_logger_severity", severities.append)
    monkeypatch.setattr("slimnet.onnx.session.is_ours", lambda: ours)
    bad.saved(bad.honest, there / "x.onnx", DIGITS)
    open_session(there / "x.onnx")
    assert severities == [4] * ours


def exchanged(bundle: Bundle, folder: Path, data: bytes) -> None:
    """A copy of the bundle with another network, as if it had been exported so."""
    shutil.copytree(bundle.path, folder, dirs_exist_ok=True)
    (folder / "model.onnx").write_bytes(data)
    model = json.loads((folder / "model.json").read_text())
    model["files"]["model.onnx"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    model["precisions"]["fp32"]["bytes"] = len(data)
    (folder / "model.json").write_bytes(sealed(model))


@pytest.mark.parametrize("name", ROWS)
def test_predict_and_verify_say_it_in_one_line(name: str, bundle: Bundle, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, _, _, predicting = ROWS[name]
    monkeypatch.chdir(there.parent)
    Image.new("L", (16, 16)).save("x.png")
    exchanged(bundle, there, make(HALVES).SerializeToString())
    if name == "weights behind a link":
        predicting = "link.bin is a symbolic link"  # a bundle holds none
    else:
        (there / "link.bin").unlink()
    expect(f"predict folder x.png --time-limit {SECONDS}", predicting)
    done = slimnet_cli("verify", "folder", "--time-limit", SECONDS)
    assert done.status == 1  # in any case it is not the network that model.json describes
    assert done.out == ""
    assert all(line.startswith("slimnet: error: ") for line in done.err.splitlines()), done.err
    assert any("model.onnx" in line or "link.bin" in line for line in done.err.splitlines()), done.err


def test_an_answer_of_nan_is_an_error_of_its_picture(bundle: Bundle, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(there.parent)
    (there / "link.bin").unlink()
    Image.new("L", (16, 16), 0).save("dark.png")
    Image.new("L", (16, 16), 255).save("bright.png")
    exchanged(bundle, there, bad.without_answer(HALVES).SerializeToString())
    done = slimnet_cli("predict", "folder", "dark.png", "bright.png", "--json")
    dark, bright = (json.loads(line) for line in done.out.splitlines())
    assert done.status == 1
    assert (
        dark["predictions"] == [] and dark["error"] == "dark.png cannot be classified: the network gives NaN or infinity for it."
    )
    assert bright["error"] is None and bright["predictions"]
    bad.saved(bad.without_answer, there.parent / "x.onnx", DIGITS)
    expect("evaluate x.onnx --data digits", "the network gives NaN or infinite logits for [0-9]+ of 256 images")


@pytest.mark.parametrize("name", [name for name in {**FAILING, **REFUSED} if name != "an endless loop"])
def test_no_figure_of_what_is_refused(name: str, there: Path) -> None:
    onnx_flops(bad.saved(ROWS[name][0], there / "x.onnx", DIGITS))  # it comes to an end


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_is_opened_before_it_is_looked_at(name: str, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, message = REFUSED[name]

    def seen(*_: Any, **__: Any) -> None:
        raise AssertionError("it was opened")

    for target in ("onnxruntime.InferenceSession", "onnx.checker.check_model", "onnx.shape_inference.infer_shapes"):
        monkeypatch.setattr(target, seen)
    path = bad.saved(make, there / "x.onnx", DIGITS)
    with pytest.raises(FileFormatError, match=message):
        open_session(path)
    assert onnx_flops(path) is None


def test_weights_beside_the_file_are_read(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # they lie by the file, not by the process
    path = bad.saved(bad.outside("weights.bin"), there / "x.onnx", DIGITS)
    (there / "inside.bin").symlink_to("weights.bin")
    linked = bad.saved(bad.outside("inside.bin"), there / "y.onnx", DIGITS)
    for file in (path, linked):
        read_network(file)
    assert open_session(path).run({"x": np.ones((1, 1, 8, 8), np.float32)})[0].shape == (1, 10)


def test_content_alone_must_hold_its_weights(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or they would be looked for in the current directory."""
    monkeypatch.chdir(there)
    with pytest.raises(FileFormatError, match="a network that is not opened by its path must hold all of its weights"):
        open_session(bad.outside("weights.bin")(DIGITS).SerializeToString())


def test_nodes_are_counted_as_often_as_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that calls another twice is 2 calls and twice its nodes: 1, 4, 10, 22; with its own call and two that classify, 25."""
    data = bad.doubling(3)(DIGITS).SerializeToString()
    monkeypatch.setattr(onnx_file, "MAX_NODES", 25)
    read_network(data)
    monkeypatch.setattr(onnx_file, "MAX_NODES", 24)
    with pytest.raises(FileFormatError, match="more than 24 nodes"):
        read_network(data)


def test_graphs_in_graphs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bad.nested_graphs(3)(DIGITS).SerializeToString()
    monkeypatch.setattr(onnx_file, "MAX_DEPTH", 3)
    with pytest.raises(FileFormatError, match="more than 3 deep"):
        read_network(data)
    monkeypatch.setattr(onnx_file, "MAX_DEPTH", 32)
    read_network(data)
    monkeypatch.setattr(onnx_file, "MAX_NODES", 32)
    with pytest.raises(FileFormatError, match="more than 32 nodes"):
        read_network(data)


def test_shapes_that_double_are_not_followed(tmp_path: Path) -> None:
    """`Concat` of a shape with itself, 40 times: onnx would make a list of 2⁴¹ numbers."""
    parts = bad.Parts(DIGITS)
    name = parts.node("Shape", ["x"])
    for _ in range(40):
        name = parts.node("Concat", [name, name], axis=0)
    parts.classify("x")
    path = tmp_path / "x.onnx"
    path.write_bytes(parts.model().SerializeToString())
    assert onnx_flops(path) == 640


# --- time -----------------------------------------------------------------------------------------------------------------


def test_the_process_ends_though_the_network_does_not(tmp_path: Path) -> None:
    """A loop without a node cannot be stopped: its thread is left behind."""
    path = bad.saved(bad.endless_loop(is_empty=True), tmp_path / "x.onnx", DIGITS)
    command = [sys.executable, "-m", "slimnet_cli", "bench", str(path), "--time-limit", SECONDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"slimnet: error: \S+x\.onnx did not finish a run in 1 s: [^\n]+\n", done.stderr), done.stderr


def test_a_timed_run_that_hangs_later_is_ended() -> None:
    """The first run is honest: one round, where a later one is endless."""
    model = bad.endless_loop()(DIGITS)
    times = next(item for item in model.graph.initializer if item.name == "times")
    model.graph.initializer.remove(times)
    model.graph.input.append(onnx.helper.make_tensor_value_info("times", onnx.TensorProto.INT64, []))
    session = open_session(model.SerializeToString(), threads=1, limit=1.0)
    feed = {"x": np.ones((1, 1, 8, 8), np.float32), "times": np.array(1)}
    again, close = session.timed(feed)
    again()
    feed["times"] = np.array(bad.ENDLESS)
    with pytest.raises(TimeLimitError, match="the network did not finish a run in 1 s"):
        again()
    close()


def test_a_timed_run_that_fails_later_is_no_traceback() -> None:
    session = open_session(bad.honest(DIGITS).SerializeToString(), threads=1)
    feed = {"x": np.ones((1, 1, 8, 8), np.float32)}
    again, close = session.timed(feed)
    feed["x"] = np.ones((1, 3, 9, 9), np.float32)
    with pytest.raises(MeasureError, match=r"the network does not run: .*invalid dimensions"):
        again()
    close()


def test_opening_is_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: stop.wait())
    monkeypatch.setattr("slimnet.limits.GRACE", 0.0)
    with pytest.raises(TimeLimitError, match=r"the network could not be opened in 0\.1 s"):
        open_session(bad.honest(DIGITS).SerializeToString(), limit=0.1)
    stop.set()


def test_the_limit_of_a_block() -> None:
    assert current_limit() == 600
    with time_limit(7):
        assert current_limit() == 7
        assert open_session(bad.honest(DIGITS).SerializeToString()).limit == 7
    assert current_limit() == 600
    for seconds in (0, -1, float("nan")):
        with pytest.raises(ArgumentError, match="`time_limit` must be above 0 seconds"), time_limit(seconds):
            pass


def test_work_is_asked_to_stop_and_what_it_raises_comes_out() -> None:
    stopped = threading.Event()
    with pytest.raises(TimeLimitError, match=r"it did not end in 0\.05 s"):
        within(0.05, stopped.wait, stop=stopped.set, what="it did not end")
    assert stopped.is_set()
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 // 0, stop=stopped.set, what="it")
    assert within(float("inf"), lambda: 3, stop=stopped.set, what="it") == 3


def test_an_alarm_ends_with_its_runs() -> None:
    alarm = Alarm(0.1, lambda: None)
    alarm.close()
    assert not alarm.rung
