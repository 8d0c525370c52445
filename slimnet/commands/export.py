"""A run in, a bundle out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slimnet.bundle.manifest import INITIAL_WEIGHTS, KNOWN_FILES
from slimnet.commands.paper import paper_accounting
from slimnet.commands.provenance import about_data, provenance
from slimnet.errors import ArgumentError, DataError, FileFormatError, ModelError
from slimnet.files import claims_folder
from slimnet.progress import Say, say_from
from slimnet.settings import PrecisionSettings, unused_precision_settings

if TYPE_CHECKING:
    from torch import nn

    from slimnet.data import Dataset, MeanStd, Split
    from slimnet.export import Bundle
    from slimnet.models import Trust
    from slimnet.names import Mode
    from slimnet.surgery import Plan, SlimResult
    from slimnet.training import Evaluation, Run

_say = say_from(__name__)


MASKED = "the masked network at full size"
REAL_IMAGES = 64
TIMES = ("seconds", "verify_seconds")  # of surgery: not part of a bundle, whose bytes are the same every time
FOLDED_TOLERANCE = 1e-6  # constants of folds and shut branches are rounded to float32 once; the plan is verified to 1e-9


@claims_folder(*KNOWN_FILES)
def export_run(
    run_dir: Path | str,
    out: Path | str,
    *,
    dense: Path | str | None = None,
    data_dir: Path | str | None = None,
    align: int | Literal["auto"] | None = None,
    opset: int | None = None,
    embed_preprocessing: bool = False,
    unsure_below: float | None = None,
    precisions: PrecisionSettings | None = None,
    formats: Sequence[str] = (),
    optimise: Mode = "safe",
    force: bool = False,
    say: Say = _say,
    trust_code: Trust = False,
) -> Bundle:
    """Cut the closed channels of a run out, export, pass the parity gate, and write a bundle: all or nothing.

    Args:
        run_dir: directory of a finished run.
        out: folder of the bundle.
        dense: the baseline: a run directory, or a file of weights for the same network. Default: the weights that the run
            started from, or, if it started from scratch, the masked network at full size.
        data_dir: where the data set of the run lies now; default: where it lay in training.
        align: keep closed channels so that each group has a multiple of this many, or with ``"auto"`` where the network is
            predicted to run faster here with them.
        opset: of the ONNX files, from 11.
        embed_preprocessing: write ``model.uint8.onnx`` too: pictures in, probabilities out.
        unsure_below: an answer that is less probable counts as unsure, unless the user says otherwise.
        precisions: what the bundle is to hold beside fp32; default: nothing.
        formats: of `slimnet.names.FORMATS`: what other runtimes read, each in fp32 and in these precisions, checked in its
            runtime, or not written, with the reason in the report. ``onnx`` is always there.
        optimise: steps that make both graphs faster: ``none``, ``safe``, or ``measured``: each timed, kept only if it pays here.
        force: replace an existing bundle (and nothing but a bundle).
        say: told what is being done.
        trust_code: let a factory of the user's own that ``config.json`` names build the networks (see `slimnet.models.trust`).

    Returns:
        The bundle; its report holds surgery, parity, cost (dense, realised, paper accounting) and test accuracy.

    Raises:
        ArgumentError: if ``out`` exists and ``force`` is not set, or ``opset`` is too old.
        FileFormatError: if the run is not finished or corrupt.
        ModelError: if a factory is to build a network that is not trusted.
        SlimnetError: if what converts to a format is not installed.
        VerificationError: if the slim model computes something else than the masked one.
        ParityError: if ONNX Runtime does.
    """
    from slimnet.allocation import slim_aligned
    from slimnet.bundle.manifest import check_threshold
    from slimnet.commands.confidence import ConfidenceStep
    from slimnet.commands.formats import FormatStep, check_formats
    from slimnet.commands.precisions import PrecisionStep
    from slimnet.data import real_batch
    from slimnet.export import write_bundle
    from slimnet.onnx.opset import check_int8, chosen_opset
    from slimnet.training import Run

    check_threshold(unsure_below)
    written = chosen_opset(opset)
    if precisions and "int8" in precisions.further:
        check_int8(written)
    check_formats(formats, precisions.further if precisions else ())
    run = Run.open(run_dir, trust_code=trust_code)
    for line in unused_precision_settings(precisions) if precisions else ():
        say(line)
    masked = run.load_model()
    baseline, source = _dense_model(run, dense, say)
    data = run.dataset(data_dir=data_dir, soft=False, say=say)
    step = PrecisionStep(data, precisions, say) if precisions and precisions.further else None
    others = FormatStep(data, formats, precisions or PrecisionSettings(), say) if set(formats) - {"onnx"} else None
    if source == MASKED:
        say(f"there is no dense network that the run started from: the baseline is {MASKED} (--dense names one)")
    real = real_batch(data.val, data, REAL_IMAGES)
    say("cutting")
    result = slim_aligned(masked, real[:4], align)
    say("evaluating on the test split")
    found = {name: _evaluate(network, data.test, data) for name, network in (("slim", result.model), ("dense", baseline))}
    say("exporting and comparing")
    bundle = write_bundle(
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
        accuracy={"split": data.tested_on, "count": len(data.test), **{name: each.accuracy for name, each in found.items()}},
        provenance=provenance(run),
        precisions=step,
        formats=others,
        extra_report=_extra_report(
            run, result, source, found, tested_on=data.tested_on, paper=paper_accounting(masked, real[:2])
        ),
        confidence=ConfidenceStep(data, say),
        unsure_below=unsure_below,
        embed_preprocessing=embed_preprocessing,
        opset=opset,
        tolerance=_tolerance(result.plan),
        optimise=optimise,
        force=force,
    )
    return replace(bundle, choice=step.choice) if step else bundle


def _extra_report(
    run: Run, result: SlimResult, dense_source: str, found: Mapping[str, Evaluation], *, tested_on: str, paper: dict[str, Any]
) -> dict[str, Any]:
    """What a bundle's report says beside the export: surgery, the papers' accounting, the run, accuracy on the test split."""
    return {
        "surgery": {name: value for name, value in result.report.as_dict().items() if name not in TIMES},
        "paper_accounting": paper,
        "dense_source": dense_source,
        "training": run.result,
        "method": run.method.as_dict(),
        "data": about_data(run),
        "evaluation": {"split": tested_on, **{name: each.as_dict() for name, each in found.items()}},
        **({"target": run.target} if run.target else {}),
    }


def _tolerance(plan: Plan) -> float:
    """How far, relative and in float64, the slim network may be from the masked one."""
    from slimnet.export.parity import DOUBLE_TOLERANCE

    return FOLDED_TOLERANCE if plan.folds or plan.shuts else DOUBLE_TOLERANCE


def network_config(run: Run) -> dict[str, Any]:
    """What it takes to build the network of a run, and to feed it: no local path in it."""
    from slimnet.training.data import DATA_SETTINGS

    settings = run.config.as_dict()
    return {
        "model": run.config.model,
        **({"model_args": settings["model_args"]} if "model_args" in settings else {}),
        "num_classes": len(run.classes),
        "in_channels": run.image_shape[0],
        "image_shape": list(run.image_shape),
        "mean": list(run.mean),
        "std": list(run.std),
        **{name: settings[name] for name in DATA_SETTINGS if name != "data_dir"},
    }


def preprocessing(run: Run) -> dict[str, Any]:
    """How a picture becomes the input of a run's network."""
    from slimnet.preprocess import describe

    channels, height, width = run.image_shape
    return describe(size=(height, width), channels=channels, mean=run.mean, std=run.std)


def _dense_model(run: Run, dense: Path | str | None, say: Say) -> tuple[nn.Module, str]:
    """The baseline, its outputs in the order of the run's classes, and where it is from."""
    from slimnet.data import match_classes, recorded_statistics
    from slimnet.models import load_weights, weights_file
    from slimnet.training import Run
    from slimnet.training.network import order_head, permute_head
    from slimnet.training.slim_start import is_slim_folder

    if dense is not None and Path(dense).is_dir():
        other = Run.open(dense, trust_code=run.trust_code)
        if _network(other) != _network(run):
            raise ArgumentError(f"{dense} trained another network than {run.path}: give a dense run of the same.")
        model, names = other.load_model(), {"who": str(dense), "whose": str(run.path)}
        match = match_classes(other.classes, run.classes, whole=True, hint="give a dense run of the same", **names)
        if match.note:
            say(match.note)
        permute_head(model, match.outputs, run.example_input(), who=str(dense))
        return _for_pictures(model, (other.mean, other.std), run, str(dense), say), "run"
    file = dense if dense is not None else run.config.init
    if file is None or (dense is None and is_slim_folder(file)):
        return run.load_model(), MASKED
    if not Path(file).exists():
        raise FileFormatError(f"{file}, the weights of the dense network, does not exist: name them with --dense.")
    model = run.build_model()
    try:
        for note in load_weights(model, file, key=run.config.weights_key if dense is None else None):
            say(note)
        order_head(model, file, run.classes, run.example_input(), whose=str(run.path), say=say)
    except (ModelError, DataError):
        if dense is not None:
            raise
        return run.load_model(), MASKED  # the run gave its initial weights a new head: they are no trained network
    learnt = recorded_statistics(weights_file(Path(file)), run.image_shape[0])
    return _for_pictures(model.eval(), learnt, run, str(file), say), INITIAL_WEIGHTS if dense is None else "weights"


def _for_pictures(model: nn.Module, learnt: MeanStd | None, run: Run, who: str, say: Say) -> nn.Module:
    """The baseline for the pictures of the run: a bundle prepares them in one way, for all its networks."""
    from slimnet.commands.renormalised import Renormalised
    from slimnet.data import are_same, shown_statistics

    given = (run.mean, run.std)
    if learnt is None or are_same(learnt, given):
        return model
    its, ours = map(shown_statistics, (learnt, given))
    say(f"{who} learnt from pictures of {its}, not of {ours}: its input is brought there first, which is part of its time")
    return Renormalised(model, learnt, given).eval()


def _network(run: Run) -> tuple[Any, ...]:
    return run.config.model, run.config.model_args, run.image_shape


def _evaluate(model: nn.Module | Path, split: Split, data: Dataset) -> Evaluation:
    from slimnet.training import evaluate

    return evaluate(model, split, mean=data.mean, std=data.std)
