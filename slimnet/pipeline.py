"""The compositions behind the commands: a run in, a bundle out; a bundle in, a comparison out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.errors import ArgumentError, DataError, FileFormatError, ModelError, SurgeryError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimnet.data import Dataset, Split
    from slimnet.export import Bundle
    from slimnet.measure import Cost, LatencyReport
    from slimnet.training import Evaluation, Run

Say = Callable[[str], None]
MASKED = "the masked network at full size"
DATA_SETTINGS = ("data", "data_dir", "image_size", "val_fraction", "seed", "normalise")
REAL_IMAGES = 64


def _quiet(_: str) -> None:
    return None


def export_run(
    run_dir: Path | str,
    out: Path | str,
    *,
    dense: Path | str | None = None,
    data_dir: Path | str | None = None,
    align: int | None = None,
    opset: int | None = None,
    force: bool = False,
    say: Say = _quiet,
) -> Bundle:
    """Cut the closed channels of a run out, export, pass the parity gate, and write a bundle: all or nothing.

    Args:
        run_dir: directory of a finished run.
        out: folder of the bundle.
        dense: the baseline: a run directory, or a file of weights for the same network. Default: the weights that the run
            started from, or, if it started from scratch, the masked network at full size.
        data_dir: where the data set of the run lies now; default: where it lay in training.
        align: keep closed channels so that each group has a multiple of this many.
        opset: of the ONNX files.
        force: replace an existing bundle (and nothing but a bundle).
        say: told what is being done.

    Returns:
        The bundle; its report holds surgery, parity, cost (dense, realised, paper accounting) and test accuracy.

    Raises:
        ArgumentError: if ``out`` exists and ``force`` is not set.
        FileFormatError: if the run is not finished or corrupt.
        VerificationError: if the slim model computes something else than the masked one.
        ParityError: if ONNX Runtime does.
    """
    from slimnet._files import check_output
    from slimnet.export import write_bundle
    from slimnet.export._opset import chosen_opset
    from slimnet.export.manifest import ALL_FILES
    from slimnet.surgery import slim
    from slimnet.training import Run

    check_output(Path(out), force=force, ours=ALL_FILES)
    chosen_opset(opset)
    run = Run.open(run_dir)
    masked = run.load_model()
    baseline, source = _dense_model(run, dense)
    data = _load(run.config.as_dict(), data_dir=data_dir)
    if source == MASKED:
        say(f"the run started from scratch: the dense baseline is {MASKED} (--dense names a trained one)")
    real = real_batch(data.val, data, REAL_IMAGES)
    say("cutting")
    result = slim(masked, real[:4], align=align)
    say("evaluating on the test split")
    accuracy = {
        "split": "test",
        "count": len(data.test),
        "slim": _evaluate(result.model, data.test, data).accuracy,
        "dense": _evaluate(baseline, data.test, data).accuracy,
    }
    say("exporting and comparing")
    return write_bundle(
        out,
        masked=masked,
        slim=result.model,
        dense=baseline,
        example_inputs=real[:2],
        plan=result.plan.as_dict(),
        config=network_config(run),
        labels=run.classes,
        preprocessing=preprocessing(run),
        real_inputs=[real],
        accuracy=accuracy,
        extra_report={
            "surgery": result.report.as_dict(),
            "paper_accounting": paper_accounting(masked, real[:2]),
            "dense_source": source,
            "training": run.result,
            "method": run.method.as_dict(),
        },
        opset=opset,
        force=force,
    )


def real_batch(split: Split, data: Dataset, count: int) -> Tensor:
    """The first ``count`` images of a split as the network takes them: (n, C, H, W) float32."""
    import torch

    from slimnet.data import Batches

    subset = split.subset(torch.arange(min(count, len(split))))
    images, _ = next(iter(Batches(subset, count, mean=data.mean, std=data.std).epoch(0)))
    return images.contiguous()


def network_config(run: Run) -> dict[str, Any]:
    """What it takes to build the network of a run, and to feed it: no local path in it."""
    settings = run.config.as_dict()
    return {
        "model": run.config.model,
        "num_classes": len(run.classes),
        "in_channels": run.image_shape[0],
        "image_shape": list(run.image_shape),
        "mean": list(run.mean),
        "std": list(run.std),
        **{name: settings[name] for name in DATA_SETTINGS if name != "data_dir"},
    }


def preprocessing(run: Run) -> dict[str, Any]:
    """How a picture becomes the input of a run's network."""
    channels, height, width = run.image_shape
    return {
        "size": [height, width],
        "channels": channels,
        "color": "grey" if channels == 1 else "rgb",
        "range": [0.0, 1.0],
        "mean": list(run.mean),
        "std": list(run.std),
        "layout": "NCHW",
        "resize": "shorter side to the size, bilinear, then centre crop",
    }


def _dense_model(run: Run, dense: Path | str | None) -> tuple[nn.Module, str]:
    from slimnet.models import load_weights
    from slimnet.training import Run

    if dense is not None and Path(dense).is_dir():
        other = Run.open(dense)
        if (other.config.model, other.image_shape, other.classes) != (run.config.model, run.image_shape, run.classes):
            raise ArgumentError(f"{dense} trained another network than {run.path}: give a dense run of the same.")
        return other.load_model(), "run"
    file = dense if dense is not None else run.config.init
    if file is None:
        return run.load_model(), MASKED
    if not Path(file).is_file():
        raise FileFormatError(f"{file}, the weights of the dense network, does not exist: name them with --dense.")
    model = run.build_model()
    load_weights(model, file)
    return model.eval(), "initial weights" if dense is None else "weights"


def _evaluate(model: nn.Module | Path, split: Split, data: Dataset) -> Evaluation:
    from slimnet.training import evaluate

    return evaluate(model, split, mean=data.mean, std=data.std)


def paper_accounting(masked: nn.Module, example: Tensor) -> dict[str, Any]:
    """FLOPs as the papers' formula has them (see :func:`slimnet.measure.paper_flops`), from the zero filters of a network.

    Returns:
        Multiply-adds ``dense`` and ``live``, and the share ``saved``.
    """
    from slimnet.graph import analyse
    from slimnet.measure import LayerCost, count, paper_flops

    flops = count(masked, example).by_module
    layers = []
    for reader in analyse(masked, example).readers:
        weight = masked.get_parameter(reader.weight)
        live_in = 1.0
        if len(reader.sources) == 1:
            source = masked.get_parameter(next(iter(reader.sources)))
            live_in = _live_rows(source) / len(source)
        out, columns = weight.shape[reader.out_dim], weight.shape[reader.in_dim]
        live_out = _live_rows(weight) if reader.out_dim == 0 and weight.dim() > 2 else out
        name = reader.weight.rpartition(".")[0]
        layers.append(LayerCost(name, flops.get(name, 0), out, live_out, columns, columns * live_in))
    return paper_flops(layers).as_dict()


def _live_rows(weight: Tensor) -> int:
    return int((weight.detach() != 0).flatten(1).any(dim=1).sum())


def load_slim(path: Path | str) -> nn.Module:
    """Build the small network of a bundle again in PyTorch, without pickle.

    Args:
        path: a bundle, or any folder with ``config.json``, ``plan.json`` and ``slim.safetensors``.

    Returns:
        The slim model in eval mode, on the CPU.

    Raises:
        FileFormatError: if a file is missing, corrupt, or does not fit the others.
    """
    from slimnet._files import read_json, read_tensors
    from slimnet.surgery import Plan

    folder = Path(path)
    config, tensors = read_json(folder / "config.json"), read_tensors(folder / "slim.safetensors")
    model = _bare_model(folder / "config.json", config)
    described = read_json(folder / "plan.json")
    try:
        Plan.from_dict(described).apply(model)
    except (FileFormatError, SurgeryError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise FileFormatError(f"{folder / 'plan.json'} does not fit {config['model']}: {error}") from None
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise FileFormatError(f"{folder / 'slim.safetensors'} does not fit plan.json: {reason}") from None
    return model.eval()


def _bare_model(file: Path, config: Mapping[str, Any]) -> nn.Module:
    """The network that ``config.json`` describes, without weights."""
    import torch

    from slimnet.models import build_model

    kinds = {"model": str, "num_classes": int, "in_channels": int}
    wrong = [name for name, kind in kinds.items() if not isinstance(config.get(name), kind)]
    if wrong:
        raise FileFormatError(f"{file} does not describe a network: `{wrong[0]}` is missing or malformed.")
    try:
        with torch.device("meta"):
            return build_model(config["model"], num_classes=config["num_classes"], in_channels=config["in_channels"])
    except (ArgumentError, ModelError) as error:
        raise FileFormatError(f"{file}: {error}") from None


@dataclass(frozen=True)
class BenchReport:
    """Variants side by side: cost, size on disk, paired latency.

    Attributes:
        rows: one dictionary a variant: name, file_bytes, flops and params (None where unknown), accuracy.
        latency: the paired comparison.
        paper: paper accounting of the masked network, where known.
    """

    rows: tuple[Mapping[str, Any], ...]
    latency: LatencyReport
    paper: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "variants": [dict(row) for row in self.rows],
            "latency": self.latency.as_dict(),
            "paper_accounting": dict(self.paper) if self.paper else None,
        }


def bench_bundle(path: Path | str, **settings: Any) -> BenchReport:
    """Compare the dense and the slim network of a bundle.

    Args:
        path: a bundle.
        **settings: of :func:`slimnet.measure.compare_latency`.

    Raises:
        FileFormatError: if the bundle is incomplete or corrupt.
    """
    from slimnet.export import read_bundle
    from slimnet.measure import compare_latency

    bundle = read_bundle(path)
    files = {"dense": bundle.dense_onnx, "slim": bundle.onnx}
    latency = compare_latency(files, **settings)
    accuracy = bundle.report.get("accuracy") or {}  # report.json is the file whose SHA-256 was checked
    rows = tuple(
        _row(name, files[name], cost, accuracy.get(name))
        for name, cost in (("dense", bundle.cost_dense), ("slim", bundle.cost_slim))
    )
    return BenchReport(rows, latency, bundle.report.get("paper_accounting"))


def bench_files(paths: Mapping[str, Path], **settings: Any) -> BenchReport:
    """Compare any ONNX files; the first is the baseline.

    Args:
        paths: name → ONNX file.
        **settings: of :func:`slimnet.measure.compare_latency`.
    """
    from slimnet.measure import compare_latency

    latency = compare_latency(paths, **settings)
    return BenchReport(tuple(_row(name, file, None, None) for name, file in paths.items()), latency)


def _row(name: str, file: Path, cost: Cost | None, accuracy: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "file_bytes": file.stat().st_size,
        "flops": cost.flops if cost else None,
        "params": cost.params if cost else None,
        "unknown_operators": cost.unknown if cost else None,
        "accuracy": accuracy,
    }


def evaluate_any(
    what: Path | str,
    *,
    split: str = "test",
    data: str | None = None,
    data_dir: str | None = None,
    batch_size: int = 256,
) -> tuple[Evaluation, tuple[str, ...]]:
    """Evaluate a run, the slim network of a bundle, or an ONNX file.

    Args:
        what: a run directory, a bundle, or an ONNX file.
        split: ``"train"``, ``"val"`` or ``"test"``.
        data: name of the data set; default: the one the network was trained on (an ONNX file alone does not know it).
        data_dir: where the data set lies.
        batch_size: images at a time.

    Returns:
        The evaluation, and the names of the classes.

    Raises:
        ArgumentError: if the data set is not known.
        FileFormatError: if ``what`` is none of these, or corrupt.
        DataError: if the data set is missing or does not fit the network.
    """
    from slimnet.training import evaluate

    model, settings, statistics = _subject(Path(what), data)
    loaded = _load(settings, data=data, data_dir=data_dir)
    mean, std = statistics or (loaded.mean, loaded.std)
    if len(mean) != len(loaded.mean):
        raise DataError(f"{what} takes images of {len(mean)} channels, those of {loaded.name} have {len(loaded.mean)}.")
    chosen = {"train": loaded.train, "val": loaded.val, "test": loaded.test}[split]
    result = evaluate(model, chosen, mean=mean, std=std, batch_size=batch_size)
    if len(result.per_class) != len(loaded.classes):
        raise DataError(f"{what} has {len(result.per_class)} outputs, {loaded.name} has {len(loaded.classes)} classes.")
    return result, loaded.classes


Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def _subject(path: Path, data: str | None) -> tuple[nn.Module | Path, Mapping[str, Any], Statistics | None]:
    """What is to be evaluated, the settings of its data, and the mean and deviation that it was trained with."""
    from slimnet._files import read_json
    from slimnet.export import read_bundle
    from slimnet.training import Run

    if not path.exists():
        raise FileFormatError(f"{path} does not exist: give a run, a bundle, or an ONNX file.")
    if not path.is_dir():
        if path.suffix != ".onnx":
            raise FileFormatError(f"{path} is neither a run, a bundle, nor an ONNX file (.onnx).")
        if data is None:
            raise ArgumentError(f"{path} does not know its data set: name it with --data.")
        return path, {}, None
    if (path / "plan.json").is_file() or (path / "model.json").is_file():
        if (path / "model.json").is_file():
            read_bundle(path)  # that its files are the ones that were exported
        config, file = read_json(path / "config.json"), path / "config.json"
        return load_slim(path), config, _statistics(config, file)
    if not (path / "config.json").is_file():
        raise FileFormatError(f"{path} is neither a run nor a bundle: it holds no config.json.")
    run = Run.open(path)
    return run.load_model(), run.config.as_dict(), (run.mean, run.std)


def _statistics(config: Mapping[str, Any], file: Path) -> Statistics | None:
    if config.get("mean") is None or config.get("std") is None:
        return None
    try:
        return tuple(map(float, config["mean"])), tuple(map(float, config["std"]))
    except (TypeError, ValueError):
        raise FileFormatError(f"{file}: `mean` and `std` must be lists of numbers.") from None


def _load(settings: Mapping[str, Any], *, data: str | None = None, data_dir: Path | str | None = None) -> Dataset:
    """The data set of a run with the same splits; or another one, or the same at another place."""
    from slimnet.data import load_data

    had = {name: settings[name] for name in DATA_SETTINGS if settings.get(name) is not None}
    name = data or had.get("data")
    if not isinstance(name, str):
        raise ArgumentError("the data set is not known: name it with --data.")
    if name != had.pop("data", name):
        had = {key: value for key, value in had.items() if key == "image_size"}
    if data_dir is not None:
        had["data_dir"] = data_dir
    return load_data(name, **{key: value for key, value in had.items() if key != "data"})
