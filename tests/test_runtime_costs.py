"""Cost tables of other runtimes: what is told apart, how times of whole runs become times of layers, and a target for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from imagined_costs import CONV, staircase
from onnx_nets import CONV as CONV_NODES
from onnx_nets import CONV_WEIGHTS, HEAD, HEAD_WEIGHTS, model
from slimnet import build_model
from slimnet.commands import prune_checkpoint
from slimnet.errors import ArgumentError, ExportError, MeasureError, SlimnetError, TimeLimitError
from slimnet.export import export_onnx
from slimnet.limits import time_limit
from slimnet.measure.costs import CostTable, Site, Target
from slimnet.measure.costs.grid import Span
from slimnet.measure.costs.probe import PLANES, repeated_model
from slimnet.onnx.session import open_session
from slimnet.runtimes import formats, probing
from slimnet.runtimes.apart import Worker
from slimnet.runtimes.costs import ApartTimer, cost_table
from slimnet.runtimes.probing import MOST_COPIES, Prober, copies_of

DEPTHWISE = Site("depthwise", (8, 8), (3, 3), (2, 2), (1, 1))
SITES = [CONV, DEPTHWISE, Site("linear")]
BASE, EMPTY, LONGER = 7.0, 2.0, 1.25
SETTINGS = {"model": "resnet8", "num_classes": 10, "in_channels": 3, "image_size": 16}


def imagine_runtime(monkeypatch: pytest.MonkeyPatch, whole: float = 500.0) -> list[str]:
    """Whole runs take what the imagined machine says, a network ``LONGER`` than a fixed time; the list says which were opened."""
    opened: list[str] = []

    def asked(self: ApartTimer, _: str, job: dict[str, Any]) -> Any:
        prober = Prober(self._target.runtime, threads=1, batch=1)
        prober.__dict__["runtime"] = self._target.runtime
        kind, *pairs = job.get("site", ["conv", (8, 8)])
        return prober.layer(Site(kind, *pairs), job["reads"], job["makes"]) if job["do"] == "layer" else (whole, EMPTY)

    def probe(self: Prober, site: Site, reads: int, makes: int, copies: int) -> Callable[[], object]:
        opened.append(f"{self.__dict__['runtime']}: {site.key}, {reads} to {makes}, {copies} times")
        taken = EMPTY if reads == PLANES and not copies else BASE
        return lambda: taken + copies * staircase(site, reads, makes)

    monkeypatch.setattr(ApartTimer, "_asked", asked)
    monkeypatch.setattr(Prober, "_probe", probe)
    monkeypatch.setattr(probing, "in_turns", lambda runs, _: [run() if runs[0] is run or i else 0 for i, run in enumerate(runs)])
    return opened


# --- tables ---------------------------------------------------------------------------------------------------------------


def test_each_runtime_has_a_table_of_its_own(tmp_path: Path) -> None:
    tables = [cost_table(name, folder=tmp_path) for name in ("onnxruntime", "openvino", "litert")]
    paths = [table.path.name for table in tables if table.path]
    assert len(set(paths)) == 3 and paths[1].startswith("costs-openvino-") and paths[2].startswith("costs-litert-")
    machine = tables[1].target.machine
    assert "onnxruntime" not in machine and machine["openvino"] == formats.distribution("openvino").version
    newer = Target(machine={**machine, "openvino": "9999.1"}, runtime="openvino")
    assert newer.name != paths[1]


def test_tables_of_onnx_runtime_are_named_as_before() -> None:
    target = Target(machine={"cpu": "x", "instructions": "y", "system": "z", "onnxruntime": "1"})
    assert set(target.as_dict()) == {"threads", "batch", "precision", "machine"}
    assert target.name == "costs-c321a8c3c00e17b6.json"


def test_a_layer_is_a_difference_of_whole_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = imagine_runtime(monkeypatch)
    table = cost_table("litert", folder=tmp_path)
    table.measure([(CONV, Span(32), Span(32))])
    for width in (15, 16, 31, 32):
        assert table.microseconds(CONV, width, width) == pytest.approx(staircase(CONV, width, width), abs=2e-3)
    count = len(opened)
    again = cost_table("litert", folder=tmp_path)
    again.measure([(CONV, Span(32), Span(32))])
    assert len(opened) == count and again.damaged == 0
    assert cost_table("openvino", folder=tmp_path).missing([(CONV, Span(32), Span(32))]) > 0


def test_short_layers_may_differ_by_the_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    imagine_runtime(monkeypatch)
    table: CostTable = cost_table("litert", folder=None)
    assert table._confirmed([1.0, 1.0 + table.timer.resolution]) and not table._confirmed([100.0, 115.0])
    assert not CostTable(folder=None)._confirmed([1.0, 1.2])


# --- probes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.kind)
def test_a_probe_holds_the_layer_so_many_times(site: Site) -> None:
    for copies in (0, 1, 3):
        data = repeated_model(site, 8, 8, copies)
        nodes = [node.op_type for node in onnx.load_from_string(data).graph.node]
        assert nodes.count("Gemm" if site.kind == "linear" else "Conv") == 1 + copies
        images = np.zeros((2, PLANES, *site.size), np.float32)
        (found,) = open_session(data, threads=1).raw.run(None, {"images": images})
        assert found.shape == (2, 8 * max(copies, 1))


def test_short_layers_are_timed_several_times_over() -> None:
    assert copies_of(Site("conv", (1, 1)), 8, 8, 1) == MOST_COPIES and copies_of(Site("conv", (56, 56), (3, 3)), 64, 64, 1) == 1
    middle = Site("conv", (16, 16), (3, 3), padding=(1, 1))
    assert MOST_COPIES > copies_of(middle, 16, 32, 1) > copies_of(middle, 16, 32, 4) >= 1


@pytest.mark.parametrize("name", ["openvino", "litert"])
def test_probes_run_in_their_runtime(name: str) -> None:
    timer = cost_table(name, folder=None).timer
    assert all(timer.layer(site, 8, 8) > 0 for site in SITES)


def test_a_process_that_ends_is_one_error_and_the_next_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = ApartTimer(cost_table("litert", folder=None).target)
    assert timer.layer(CONV, 8, 8) > 0
    with monkeypatch.context() as dying, pytest.raises(MeasureError, match=r"conv .* does not run in litert: .* by SIGKILL"):
        dying.setattr(Worker, "_send", lambda worker, _: worker._kill())
        timer.layer(CONV, 8, 16)
    assert timer.layer(CONV, 8, 16) > 0
    with pytest.raises(MeasureError, match=r"does not run in litert: .+"):
        timer.layer(Site("conv", (1, 1), (5, 5)), 8, 8)  # smaller than its kernel
    with time_limit(1e-3), pytest.raises(TimeLimitError, match=r"timing a layer .* did not end in 0.001 s"):
        timer.layer(CONV, 16, 16)


def test_probes_do_not_stay_open_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Prober("litert", threads=1, batch=1)
    monkeypatch.setattr(Prober, "_opened", lambda *_: int)
    monkeypatch.setattr(probing, "KEPT_OPEN", 4)
    for width in range(1, 10):
        timer._probe(CONV, width, width, 1)
    assert [key[1] for key in timer._open] == [6, 7, 8, 9]
    monkeypatch.setattr(probing, "KEPT_BYTES", 1)
    timer._probe(CONV, 10, 10, 1)
    assert [key[1] for key in timer._open] == [9, 10]


# --- a target -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.save(build_model("resnet8", num_classes=10).state_dict(), tmp_path / "resnet8.pth")
    return tmp_path / "resnet8.pth"


def test_prune_to_a_target_in_a_runtime(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = 500.0
    opened = imagine_runtime(monkeypatch, whole)
    report = prune_checkpoint(weights, tmp_path / "out", target={"speedup": 1.2}, runtime="litert", **SETTINGS)
    found = json.loads((tmp_path / "out" / "report.json").read_text())["allocation"]
    assert report["allocation"]["runtime"] == found["runtime"] == "litert"
    assert opened and all(entry.startswith("litert") for entry in opened)
    assert found["predicted"]["dense_ms"] == pytest.approx(whole / 1e3) and found["predicted"]["speedup"] >= 1.2


def test_what_the_runtime_cannot_convert_is_an_error_before_layers_are_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = imagine_runtime(monkeypatch)
    pool = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.PixelShuffle(2), *pool).eval()
    export_onnx(model, torch.randn(2, 3, 8, 8), tmp_path / "net.onnx")
    with pytest.raises(ExportError, match="the network cannot be converted for litert: "):
        cost_table("litert", folder=None).timer.network(tmp_path / "net.onnx", [(3, 8, 8)])
    assert not opened


@pytest.mark.parametrize("name", ["openvino", "litert"])
def test_a_network_of_open_size_is_timed_at_the_size_that_is_given(name: str, tmp_path: Path) -> None:
    open_sizes = "float[N, 3, H, W] x"
    onnx.save(model(CONV_NODES + HEAD, CONV_WEIGHTS | HEAD_WEIGHTS, inputs=open_sizes), tmp_path / "net.onnx")
    nodes, beside = cost_table(name, folder=None).timer.network(tmp_path / "net.onnx", [(3, 8, 8)])
    assert nodes.total() > 0 and beside > 0


def test_wrong_runtimes(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"`runtime` must be one of onnxruntime, openvino, .* got 'tensorflow'"):
        prune_checkpoint(weights, tmp_path / "no", target={"speedup": 2}, runtime="tensorflow", **SETTINGS)
    with pytest.raises(ArgumentError, match="`runtime` is for a target"):
        prune_checkpoint(weights, tmp_path / "no", rate=0.5, runtime="litert", **SETTINGS)
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    with pytest.raises(SlimnetError, match=r"pip install 'slimnet\[openvino\]'"):
        prune_checkpoint(weights, tmp_path / "no", target={"speedup": 2}, runtime="openvino", **SETTINGS)
    assert not (tmp_path / "no").exists()
