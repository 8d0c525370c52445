"""Networks of timm through the commands: half of the filters closed, cut out, verified, exported; or why not.

    python benchmarks/timm_networks.py                # what is not there yet from this machine and these versions
    python benchmarks/timm_networks.py resnet18       # these again
    python benchmarks/timm_networks.py stale          # drop what today's code would not say, see drop_stale; seconds a network

Each goes through `slimnet prune --rate 0.5`, `slimnet slim` (which compares the cut network with the one before in float64, and
its ONNX file in ONNX Runtime at batch 1, 2 and 7) and `slimnet verify` (which builds it again from the folder alone), twice: with
norms closed along with their filters, as by default, and with `--no-mask-norm`, where every closed filter leaves a constant
behind. Random weights; norms, running statistics and biases random as well, scaled on random pictures. At the end the ONNX file
is held once more against the network that was pruned, by this script. Expected: nothing wrong, no traceback; half a minute a
network and way on one core. Needs timm. Writes results/timm_networks.json.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from _results import RESULTS, own_run, read_runs, write_result
from _tables import Result, of_runs, percent, table, when
from torch import nn

import slimnet
from slimnet.errors import GraphError
from slimnet.files import read_tensors, write_json, write_tensors
from slimnet.onnx.session import open_session

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo
from command import Done, slimnet_cli

NAME = "timm_networks"
MODES = {"default": (), "norms left": ("--no-mask-norm",)}
LARGEST_ERROR = 1e-4
"""Of the ONNX file in float32 against the pruned network, relative to the largest logit, on other pictures than the gate's."""

FAMILIES = {
    "ResNet": "resnet10t resnet18 resnet26d",
    "ResNetV2": "resnetv2_18",
    "ResNeXt": "resnext26ts",
    "SENet": "legacy_seresnet18 seresnext26d_32x4d",
    "ECA": "eca_resnext26ts",
    "GCNet": "gcresnext26ts",
    "SKNet": "skresnet18",
    "ResNeSt": "resnest14d",
    "Res2Net": "res2net50_26w_4s",
    "RegNet": "regnetx_002 regnety_002 regnetz_005",
    "DenseNet": "densenet121",
    "RDNet": "rdnet_tiny",
    "DPN": "dpn48b",
    "DLA": "dla46_c dla34",
    "HRNet": "hrnet_w18_small",
    "SelecSLS": "selecsls42",
    "VoVNet": "ese_vovnet19b_slim",
    "CSPNet": "cspresnet50 cs3darknet_s",
    "GerNet": "gernet_s",
    "RepVGG": "repvgg_a0",
    "MobileOne": "mobileone_s0",
    "VGG": "vgg11_bn",
    "Inception": "inception_v3",
    "Xception": "legacy_xception xception41",
    "InceptionNeXt": "inception_next_atto",
    "MobileNet": "mobilenetv1_100 mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small_050 mobilenetv4_hybrid_medium",
    "MNASNet": "mnasnet_small semnasnet_075",
    "Single-Path NAS": "spnasnet_100",
    "FBNet": "fbnetc_100 fbnetv3_b",
    "HardCoRe-NAS": "hardcorenas_a",
    "MixNet": "mixnet_s",
    "TinyNet": "tinynet_e",
    "LCNet": "lcnet_035",
    "HGNet": "hgnetv2_b0",
    "EfficientNet": "efficientnet_b0 efficientnet_lite0 efficientnet_es tf_efficientnetv2_b0",
    "GhostNet": "ghostnet_050 ghostnetv2_100 ghostnetv3_050 repghostnet_050",
    "ReXNet": "rexnet_100",
    "NFNet": "nf_resnet26 eca_nfnet_l0",
    "TResNet": "tresnet_m",
    "StarNet": "starnet_s1",
    "ConvNeXt": "convnext_atto convnextv2_atto",
    "ConvMixer": "convmixer_768_32",
    "MambaOut": "mambaout_femto",
    "PoolFormer": "poolformer_s12",
    "EdgeNeXt": "edgenext_xx_small",
    "FastViT": "fastvit_t8",
    "RepViT": "repvit_m0_9",
    "MobileViT": "mobilevit_xxs mobilevitv2_050",
    "EfficientViT": "efficientvit_b0 efficientvit_m0",
    "SHViT": "shvit_s1",
    "SwiftFormer": "swiftformer_xs",
    "EfficientFormer": "efficientformer_l1 efficientformerv2_s0",
    "LeViT": "levit_128s",
    "TinyViT": "tiny_vit_5m_224",
    "PVT": "pvt_v2_b0",
    "Visformer": "visformer_tiny",
    "BoTNet": "botnet26t_256",
    "ViT": "vit_tiny_patch16_224",
    "Swin": "swin_tiny_patch4_window7_224",
}
FAMILY = {name: family for family, names in FAMILIES.items() for name in names.split()}
FIXED = "efficientformer_l1 efficientformerv2_s0 levit_128s visformer_tiny vit_tiny_patch16_224 swin_tiny_patch4_window7_224"
SIZES = {**dict.fromkeys(FIXED.split(), 224), "inception_v3": 96, "botnet26t_256": 256}
"""Side of the picture where it is not 64."""


class _Stopped(Exception):  # noqa: N818
    """A command that said why it does not go on."""


def measure(name: str, mode: str) -> dict[str, Any]:
    """One row, of one way."""
    size, start = SIZES.get(name, 64), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        torch.manual_seed(0)
        model = slimnet.build_model(f"timm:{name}", num_classes=10).eval()
        pictures = torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(1))
        zoo.roughen(model, pictures, torch.Generator().manual_seed(0))
        write_tensors(weights, model.state_dict())
        try:
            found = through_commands(name, model, weights, Path(folder), size, MODES[mode])
        except _Stopped as error:
            found = {"reason": str(error)}
    found["seconds"] = time.perf_counter() - start
    return {"network": name, "family": FAMILY[name], "image": size, mode: found}


def held(name: str) -> dict[str, Any]:
    """Why channels of a network cannot be closed at all: reason → how many; empty where all can, or nothing is known of it."""
    size = SIZES.get(name, 64)
    model = slimnet.build_model(f"timm:{name}", num_classes=10).eval()
    reasons: Counter[str] = Counter()
    with suppress(GraphError):
        for group in slimnet.channel_groups(model, torch.zeros(2, 3, size, size)):
            if not group.weights and not group.pinned:
                reasons["made by a weight that is computed in the forward pass"] += group.size
            elif group.weights and group.pinned != "output of the network" and group.pinned:
                told = re.sub(r"^\S+\.weight ", "a layer ", group.pinned).partition(" (")[0]
                reasons[re.sub(r"_\d+$", "", told)] += group.size
    return {"network": name, "held": dict(reasons.most_common(2))}


def through_commands(name: str, model: nn.Module, weights: Path, folder: Path, size: int, flags: Sequence[str]) -> dict[str, Any]:
    """What prune, slim and verify say, and what the ONNX file computes."""
    network = ("--model", f"timm:{name}", "--num-classes", "10", "--in-channels", "3", "--image-size", str(size), "--json")
    pruned, slim = folder / "pruned", folder / "slim"
    done(slimnet_cli("prune", weights, *network, "--rate", "0.5", *flags, "--out", pruned), "prune")
    report = done(slimnet_cli("slim", pruned / "model.safetensors", *network, "--out", slim), "slim")
    verified = done(slimnet_cli("verify", slim, "--json"), "verify")
    model.load_state_dict(read_tensors(pruned / "model.safetensors"))
    error, difference = compare(model, slim / "model.onnx", size)
    reasons: Counter[str] = Counter()
    for group in report["groups"]:
        for reason, channels in group["reasons"].items():
            reasons[reason.partition(" (")[0]] += channels
    return {
        "flops": {key: report["cost"][key]["flops"] for key in ("before", "after")},
        "params": {key: report["cost"][key]["params"] for key in ("before", "after")},
        "channels": {key: report["surgery"][key] for key in ("closed", "removed")},
        "parity": report["surgery"]["verification"]["worst"],
        "onnx": max(check["relative"] for check in report["parity"]["checks"] if check["dtype"] == "float32"),
        "rebuilt": verified["figures"]["parity"],
        "again": error,
        "sensitivity": difference,
        "wrong": not error <= LARGEST_ERROR,
        "reasons": dict(reasons.most_common(2)),
    }


def done(result: Done, command: str) -> Any:
    """What a command printed; a reason where it printed one and gave no result.

    Raises:
        RuntimeError: if it went wrong without a reason.
    """
    if result.status == 0:
        return json.loads(result.out)
    lines = [line for line in result.err.splitlines() if line.startswith("slimnet: error: ")]
    if result.status != 1 or not lines or "Traceback" in result.err:
        raise RuntimeError(f"{command}: status {result.status}: {result.err}")
    raise _Stopped(f"{command}: {lines[-1].removeprefix('slimnet: error: ')}")


@torch.no_grad()
def compare(model: nn.Module, file: Path, size: int) -> tuple[float, float]:
    """How far the ONNX file is from the network on two new pictures, and how far its answers for the two are apart."""
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    expected = model.eval()(x)
    session = open_session(file)
    found = torch.from_numpy(session.run({session.inputs[0].name: x.numpy()})[0])
    scale = float(expected.abs().max())
    return float((found - expected).abs().max()) / scale, float((expected[0] - expected[1]).abs().max()) / scale


HEAD = ("family", "network", "image", "FLOPs", "removed", "removed, norms left", "exact", "ONNX", "what stays, or why not")


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    found = [row.get(mode, {}) for mode in MODES]
    good = [each for each in found if "flops" in each]
    shares = [percent(1 - each["flops"]["after"] / each["flops"]["before"], 1) if "flops" in each else "–" for each in found]
    why = list(dict.fromkeys(each["reason"] for each in found if "reason" in each))
    left = Counter(row.get("held", {})) | Counter(found[0].get("reasons", {}))
    stays = [f"{channels:,} {reason}" for reason, channels in left.most_common(2)]
    return (
        row["family"],
        row["network"],
        f"{row['image']}²",
        f"{good[0]['flops']['before'] / 1e6:,.0f} M" if good else "–",
        *shares,
        "WRONG" if any(each["wrong"] for each in good) else f"{max(each['parity'] for each in good):.0e}" if good else "–",
        f"{max(each['onnx'] for each in good):.0e}" if good else "–",
        "; ".join(why + stays).replace("|", "\\|") or ("–" if why else "nothing"),
    )


def merged(new: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The new rows and those that are there from this machine, in the order of the table."""
    rows: dict[str, dict[str, Any]] = {row["network"]: dict(row) for row in own_run(NAME).get("rows", [])}
    for row in new:
        rows[row["network"]] = {**rows.get(row["network"], {}), **row}
    return [rows[name] for name in FAMILY if name in rows]


def drop_stale() -> None:
    """Hold every row against today's analysis of its network, which takes seconds where the row took minutes.

    A row whose channels are held for other reasons gets these. A row of which other channels can be closed than then is dropped:
    what was removed, too, would be another share; so is one of a network that was refused in other words.
    """
    path = RESULTS / f"{NAME}.json"
    runs, now = read_runs(NAME), {}
    for run in runs:
        for row in list(run["rows"]):
            name = row["network"]
            now[name] = found = now.get(name) or held(name)["held"]
            refused = [row[mode]["reason"] for mode in MODES if "reason" in row.get(mode, {})]
            if list(found.values()) != list(row.get("held", {}).values()) or any(
                "slimnet inspect" in reason for reason in refused
            ):
                run["rows"].remove(row)
                print(f"{name}: dropped, {row.get('held')} is {found} now", flush=True)
            elif found != row.get("held"):
                print(f"{name}: {row.get('held')} is {found} now", flush=True)
                row["held"] = found
            write_json(path, {"runs": runs})


def main(names: Sequence[str]) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here asks the network
    torch.set_num_threads(1)
    if names == ["stale"]:
        drop_stale()
        return
    there = {(row["network"], mode) for row in own_run(NAME).get("rows", []) for mode in MODES if mode in row}
    pairs = [(name, mode) for mode in MODES for name in names or sorted(FAMILY, key=SIZES.__contains__)]
    failed = []
    for name, mode in pairs if names else [pair for pair in pairs if pair not in there]:
        try:
            row = measure(name, mode)
        except Exception as error:
            failed.append(name)
            print(f"{name} ({mode}) FAILED: {type(error).__name__}: {error}", flush=True)
            continue
        print(*cells(row), sep=" | ", flush=True)
        write_result(NAME, {"threads": 1, "timm": version("timm"), "rows": merged([row])})
        gc.collect()
    for row in own_run(NAME).get("rows", []):
        if "held" not in row:
            write_result(NAME, {"threads": 1, "timm": version("timm"), "rows": merged([held(row["network"])])})
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


@of_runs(NAME)
def timm_networks(runs: list[Result]) -> str:
    """All networks, each from the newest run that has it, and how many of them."""
    of = {row["network"]: run for run in reversed(runs) for row in run["rows"]}
    runs = [run for run in runs if any(run is other for other in of.values())]
    found = {row["network"]: row for run in reversed(runs) for row in run["rows"]}
    rows = [found[name] for name in FAMILY if name in found]
    cut = [row for row in rows if any("flops" in row.get(mode, {}) for mode in MODES)]
    wrong = [row for row in rows if any(row.get(mode, {}).get("wrong") for mode in MODES)]
    versions = ", ".join(f"{name} {version}" for name, version in runs[0]["versions"].items())
    said = (
        f"{len(rows)} networks of {len({row['family'] for row in rows})} families: {len(cut)} cut, verified and exported, "
        f"{len(rows) - len(cut)} with a reason, {len(wrong)} wrong."
    )
    body = table(HEAD, [cells(row) for row in rows])
    return f"{said}\n\n{body}\n\nMeasured: {when(runs)}; {versions}, timm {runs[0]['timm']}."


TABLES = {"timm-networks": timm_networks}


if __name__ == "__main__":
    main(sys.argv[1:])
