"""A bundle is written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.bundle import manifest, seal
from slimnet.bundle.bundle import Bundle, FormatFiles, Formats, PrecisionFile
from slimnet.bundle.card import model_card
from slimnet.errors import ArgumentError
from slimnet.export.parity import DOUBLE_TOLERANCE
from slimnet.files import atomic_folder, claims_folder, read_json, write_json, write_tensors
from slimnet.onnx import metadata
from slimnet.preprocess import check as check_preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimnet.export.exporter import Exported
    from slimnet.export.gate import Examples
    from slimnet.export.parity import ParityReport, Run
    from slimnet.measure.cost import Cost
    from slimnet.names import Mode

    Check = Callable[[str, Run], ParityReport]
    """Name of a runtime, and what runs the network in it → how far it is from the networks that it should equal."""

    Judge = Callable[[str, bytes], Mapping[str, Any] | None]
    """Name of a precision, and its ONNX file → its ``confidence`` in ``model.json``; None where it cannot be said."""

INFER = Path(__file__).with_name("infer.py")


@claims_folder(*manifest.KNOWN_FILES)
def write_bundle(
    out: Path | str,
    *,
    masked: nn.Module,
    slim: nn.Module,
    dense: nn.Module,
    example_inputs: Tensor | tuple[Tensor, ...],
    plan: Mapping[str, Any],
    config: Mapping[str, Any],
    labels: Sequence[str],
    preprocessing: Mapping[str, Any],
    real_inputs: Sequence[Tensor | tuple[Tensor, ...]],
    accuracy: Mapping[str, Any] | None = None,
    precisions: Mapping[str, PrecisionFile] | Callable[[bytes], Mapping[str, PrecisionFile]] | None = None,
    formats: Callable[[bytes, Check], Formats] | None = None,
    provenance: Mapping[str, Any] | None = None,
    extra_report: Mapping[str, Any] | None = None,
    confidence: Judge | None = None,
    unsure_below: float | None = None,
    embed_preprocessing: bool = False,
    opset: int | None = None,
    tolerance: float = DOUBLE_TOLERANCE,
    optimise: Mode = "safe",
    force: bool = False,
) -> Bundle:
    """Export slim and dense network, pass the parity gate, and write the bundle: all of it or nothing.

    The same arguments give the same bytes, on the same machine with the same versions and number of threads.

    Args:
        out: folder to make.
        masked: the network that the slim one was cut from; what it must agree with.
        slim: the network to ship.
        dense: the baseline, before pruning.
        example_inputs: (N, …) tensor, or one for each input.
        plan: what the surgeon did.
        config: how to build the network that the plan applies to.
        labels: name of each output.
        preprocessing: how a picture becomes the input, as :func:`slimnet.preprocess.describe` gives it.
        real_inputs: real batches for the gate; at least one.
        accuracy: what was measured: ``split``, ``count``, ``slim``, ``dense``.
        precisions: ``int8``, ``fp16`` → the slim network in it, or what makes these from the bytes of ``model.onnx``, which is
            fp32.
        formats: makes the slim network for other runtimes, from the bytes of ``model.onnx`` and a check of what runs it against
            the slim and the masked network; see `slimnet.commands.formats`.
        provenance: where the network comes from: ``recipe``, ``method``, ``seed`` …; versions are added.
        extra_report: more for ``report.json``; of ``data`` and ``evaluation`` the model card tells.
        confidence: says of each ONNX file at what temperature its probabilities are calibrated, and how well; see
            `slimnet.commands.confidence`. Default: nothing is said, and the temperature is 1.
        unsure_below: an answer that is less probable counts as unsure, unless the user says otherwise; default: none does.
        embed_preprocessing: write ``model.uint8.onnx`` too: pictures in, probabilities out.
        opset: of the ONNX files.
        tolerance: of the slim against the masked network, see :func:`slimnet.export_onnx`.
        optimise: steps that make both graphs faster, see :func:`slimnet.export_onnx`.
        force: replace an existing folder.

    Returns:
        The bundle as written.

    Raises:
        ArgumentError: if ``out`` holds something and ``force`` is not set, or anything but a bundle; or labels,
            preprocessing or inputs do not fit.
        ExportError: if a network cannot be exported; ParityError among them. Nothing is written.
    """
    from slimnet.export.exporter import build
    from slimnet.export.gate import Examples
    from slimnet.measure.flops import count

    out = Path(out)
    check_preprocessing(preprocessing)
    manifest.check_threshold(unsure_below)
    if precisions is not None and not callable(precisions):
        _interfaces(precisions)
    if not real_inputs:
        raise ArgumentError("`real_inputs` is empty: the parity gate needs real input.")
    examples = Examples.of(example_inputs, real_inputs)
    manifest.check_input(preprocessing, [list(x.shape) for x in examples.example])
    built = build(slim, examples, reference=masked, opset=opset, tolerance=tolerance, optimise=optimise)
    slim_onnx, parity = built.data, built.parity
    interface = metadata.interface(metadata.parse(slim_onnx, "model.onnx"))
    manifest.check_labels(labels, interface["outputs"][0]["shape"])
    further = precisions(slim_onnx) if callable(precisions) else precisions or {}
    manifest.check_interfaces(_interfaces(further), interface)
    others = formats(slim_onnx, _check(slim, masked, examples)) if formats else None
    built_dense = build(dense, examples, opset=opset, optimise=optimise)
    costs = {"dense": count(dense, examples.example), "slim": count(slim, examples.example)}
    measured = {"accuracy": dict(accuracy or {})}
    report = _report({"slim": built, "dense": built_dense}, costs) | measured | dict(extra_report or {})
    model: dict[str, Any] = {
        "format": manifest.FORMAT,
        "schema": manifest.SCHEMA,
        **interface,
        "labels": list(labels),
        "preprocessing": dict(preprocessing),
        "cost": manifest.cost_summary(costs["dense"], costs["slim"]),
        **measured,
    }
    if unsure_below is not None:
        model["unsure_below"] = unsure_below
    origin = {"provenance": {**(provenance or {}), "versions": manifest.versions()}}
    example = examples if embed_preprocessing else None
    files, said = _networks(slim_onnx, built_dense.data, further, model | origin, example, confidence)
    model |= said
    if others is not None and others.made:
        model["formats"] = {name: {key: _format_entry(one) for key, one in each.items()} for name, each in others.made.items()}
    model["parity"] = {key: parity.as_dict()[key] for key in ("passed", "worst")}
    model |= origin
    if others is not None:
        report["formats"] = others.report
        files |= {name: data for each in _each_format(others) for name, data in each.files.items()}
    files |= {"MODEL_CARD.md": model_card(model, report, config).encode(), "infer.py": INFER.read_bytes()}
    with atomic_folder(out, force=force, ours=manifest.KNOWN_FILES) as folder:
        _write(folder, files, slim, {"plan": plan, "config": config, "report": report})
        (folder / "model.json").write_bytes(seal.sealed({**model, "files": seal.file_entries(folder)}))
        model = read_json(folder / "model.json")
    return Bundle(out, model, report, parity, costs["dense"], costs["slim"])


def _check(slim: nn.Module, masked: nn.Module, examples: Examples) -> Check:
    """How far what another runtime gives is from both networks."""
    from slimnet.export.gate import check_run
    from slimnet.export.parity import RUNTIME_TOLERANCE

    def check(runtime: str, run: Run) -> ParityReport:
        networks = {f"{runtime} vs model": slim, f"{runtime} vs reference": masked}
        return check_run(run, networks, examples, tolerance=RUNTIME_TOLERANCE)

    return check


def _each_format(formats: Formats) -> list[FormatFiles]:
    return [one for each in formats.made.values() for one in each.values()]


def _format_entry(one: FormatFiles) -> dict[str, Any]:
    return {"files": list(one.files), "bytes": sum(map(len, one.files.values())), **one.about}


def _report(built: Mapping[str, Exported], costs: Mapping[str, Cost]) -> dict[str, Any]:
    """What was found of each network: parity, cost, and what became of the steps on its graph."""
    return {
        "parity": {name: one.parity.as_dict() for name, one in built.items()},
        "cost": {name: cost.as_dict() for name, cost in costs.items()},
        "graph": {name: one.steps.as_dict() for name, one in built.items()},
    }


def _write(folder: Path, files: Mapping[str, bytes], slim: nn.Module, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Everything but ``model.json``."""
    for file, data in files.items():
        (folder / file).write_bytes(data)
    write_tensors(folder / "slim.safetensors", slim.state_dict())
    for name, value in values.items():
        write_json(folder / f"{name}.json", value)


def _interfaces(precisions: Mapping[str, PrecisionFile]) -> dict[str, dict[str, Any]]:
    """Opset, inputs and outputs of each precision: refused before any work is done, where a file is no ONNX."""
    manifest.check_precisions(precisions)
    files = {name: metadata.parse(file.data, f"`precisions[{name!r}]`") for name, file in precisions.items()}
    return {name: metadata.interface(proto) for name, proto in files.items()}


def _networks(
    slim: bytes,
    dense: bytes,
    precisions: Mapping[str, PrecisionFile],
    model: Mapping[str, Any],
    examples: Examples | None,
    judge: Judge | None,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """All ONNX files, with what it takes to use them in each; and what ``model.json`` says of them."""
    others = {manifest.PRECISIONS[name]: file.data for name, file in precisions.items()}
    plain = {"model.onnx": slim, "dense.onnx": dense, **others}
    files = {name: metadata.stamped(data, metadata.described(model)) for name, data in plain.items()}
    about: dict[str, dict[str, Any]] = {"fp32": {"accuracy": manifest.fp32_accuracy(model["accuracy"]), "agreement": 1.0}}
    about |= {name: dict(file.about) for name, file in precisions.items()}
    for name, told in about.items():
        found = judge(name, plain[manifest.PRECISIONS[name]]) if judge is not None else None
        if found is not None:
            told["confidence"] = dict(found)
    entries = {name: manifest.precision_entry(name, files[manifest.PRECISIONS[name]], told) for name, told in about.items()}
    said: dict[str, Any] = {"precisions": entries}
    if examples is not None:
        files["model.uint8.onnx"], said["embedded"] = embedded(files["model.onnx"], {**model, **said}, examples)
    return files, said


def embedded(plain: bytes, model: Mapping[str, Any], examples: Examples | None) -> tuple[bytes, dict[str, Any]]:
    """The network with its preprocessing inside, and what ``model.json`` says of it.

    Args:
        plain: contents of ``model.onnx``.
        model: contents of ``model.json``: its preprocessing, and the temperature of fp32.
        examples: real input to compare on; None: random input alone.

    Raises:
        ParityError: if it computes something else.
    """
    from slimnet.export.embed import check_embedded
    from slimnet.onnx.embed import embed

    temperature = manifest.temperature(model, "fp32")
    data = embed(plain, model["preprocessing"], temperature=temperature)
    real = examples.real[0] if examples is not None and examples.real else None
    parity = check_embedded(plain, data, model["preprocessing"], real, temperature=temperature)
    parity.require()
    found = metadata.interface(metadata.parse(data, "model.uint8.onnx"))
    entry = {"file": "model.uint8.onnx", "of": "fp32", "bytes": len(data)}
    return data, {**entry, "inputs": found["inputs"], "outputs": found["outputs"], "parity": parity.worst.as_dict()}
