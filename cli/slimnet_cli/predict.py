"""``slimnet predict``."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo, shown_json
from slimnet_cli._emit import percent, say
from slimnet_cli._flags import Command, Named, section
from slimnet_cli._numbers import COUNT, PROBABILITY, THREADS, WORKERS, Finite
from slimnet_cli._options import BundlePath, detector_given, force, time_limit
from slimnet_cli._quick import refuse_missing_bundle, refuse_runtimes

Emit = Callable[[dict[str, Any]], None]
NAMED = 8  # of those that failed, in the last line
DIGITS = 10  # of a camera's number, at most
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


@click.command("predict", cls=Command)
@click.argument("bundle", type=BundlePath())
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@section(
    "What to look at",
    click.option("--files-from", metavar="FILE", help="Names of more images, one a line; - reads them from standard input."),
    click.option("--detect", is_flag=True, help="Find faces and classify each of them."),
    click.option(
        "--detector",
        metavar="NAME|FILE",
        help="What finds them: centerface or blazeface (docs/predict.md says where their weights are; those of blazeface are "
        "fetched once, 5 MB), cascade (needs slimnet[faces]), FILE with the weights, or auto: the first of these that is at "
        "hand.  [default: auto]",
    ),
    click.option("--min-face", type=Finite(min=0), metavar="PIXELS", help="Leave out faces whose sides are smaller."),
    click.option(
        "--min-confidence",
        type=Finite(0, 1),
        metavar="P",
        help="Leave out faces of which the detector is less sure; the cascade does not say how sure it is.  "
        "[default: 0.5, blazeface: 0.6]",
    ),
    click.option("--margin", type=float, default=0.0, show_default=True, help="Add this share of a face on each side of it."),
    click.option("--video", metavar="FILE|NUMBER", help="Classify the frames of a video, or of a camera (needs slimnet[faces])."),
    click.option("--every", type=COUNT, default=1, show_default=True, help="Look at each n-th frame."),
    click.option(
        "--smooth",
        type=COUNT,
        default=1,
        show_default=True,
        metavar="N",
        help="Answer with the mean of the probabilities of the last N frames, each face by itself.",
    ),
)
@section(
    "Network",
    click.option(
        "--precision",
        type=Named("CHOSEN_PRECISIONS"),
        help="Which network of the bundle; auto is the fastest here, by a short comparison.  [default: fp32, or the only one]",
    ),
    click.option(
        "--runtime",
        type=Named("RUN_BY"),
        default="onnxruntime",
        show_default=True,
        help="What runs it, where the bundle holds that.",
    ),
    click.option("--batch", type=COUNT, default=32, show_default=True, help="Images a run of the network."),
    click.option("--threads", type=THREADS, help="Threads of the runtime.  [default: one a processor]"),
    click.option("--workers", type=WORKERS, help="Threads that decode.  [default: one a processor, at most 8]"),
    time_limit,
)
@section(
    "Results",
    click.option("--top", type=COUNT, default=3, show_default=True, help="Classes to give of each image."),
    click.option(
        "--unsure-below",
        type=PROBABILITY,
        metavar="P",
        help="Mark answers of a lower probability as unsure.  [default: as the bundle says, or 0]",
    ),
    click.option(
        "--annotate",
        type=click.Path(path_type=Path),
        metavar="OUT",
        help="Draw boxes and labels: a picture, a folder for several, or a video.",
    ),
    force,
    click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each image, as they are done."),
)
def command(bundle: Path, images: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Classify images, faces or video with BUNDLE: a folder, or the name of a bundle that slimnet ships.

    IMAGE is a file, a folder (all images in it and below it), or - for the bytes of one image on standard input.

    \b
    slimnet predict expressions photo.jpg --detect          # shipped with slimnet
    slimnet predict build/faces photo.jpg
    slimnet predict build/faces photos --json > found.jsonl
    slimnet predict build/faces party.jpg --detect --annotate seen.png
    slimnet predict build/faces --video 0 --detect --detector blazeface
    """
    if (options["video"] is not None) == bool(images or options["files_from"]):
        raise click.UsageError("give images, folders, - or --files-from; or --video alone.")
    if options["smooth"] > 1 and options["video"] is None:
        raise click.UsageError("--smooth needs --video.")
    refuse_missing_bundle(bundle)
    refuse_runtimes((options["runtime"],))
    _say_unused(options)
    warnings.filterwarnings("ignore", module="PIL")  # what matters is an error, or a note
    emit = _emit_json if as_json else _emit_line
    from slimnet.progress import NOBODY, listening

    is_seen = sys.stdout.isatty() and sys.stderr.isatty()  # the results themselves show how far it is
    with listening(NOBODY) if is_seen else nullcontext():
        if options["video"] is None:
            _images(bundle, images, emit, options)
        else:
            _video(bundle, emit, options)


def _say_unused(options: dict[str, Any]) -> None:
    """Say which options the others leave nothing to do."""
    from slimnet.settings import does_nothing

    if options["video"] is None:
        if options["every"] > 1:
            say(does_nothing("every", "it is for frames; --video names a video"))
        return
    for name, standard in (("batch", 32), ("workers", None)):
        if options[name] != standard:
            say(does_nothing(name, "the frames of a video are looked at one by one, as they come"))


def _images(bundle: Path, images: tuple[str, ...], emit: Emit, options: dict[str, Any]) -> None:
    from slimnet.predict import Annotations, find_sources
    from slimnet.progress import Task

    sources = find_sources((*images, *_names(images, options["files_from"])), stdin=sys.stdin.buffer)
    out = options["annotate"]
    show = Annotations(out, sources, force=options["force"]) if out is not None and sources else None
    faces, predictor = _faces(options), _predictor(bundle, options)
    failed: list[Any] = []
    found = 0
    stream = predictor.stream(sources, batch=options["batch"], workers=options["workers"], faces=faces, show=show)
    with closing(stream), Task("predicting", len(sources), "images") as task:
        for result in stream:
            task.advance()
            found += len(result.predictions)
            if result.error is not None:
                failed.append(result)
                if len(sources) > 1:
                    echo(f"slimnet: {' '.join(result.error.split())}", err=True)
            emit(result.as_dict())
    _finish(len(sources), failed, found)


def _finish(count: int, failed: list[Any], found: int) -> None:
    """One error for all that failed, or for no face in any."""
    from slimnet.errors import DataError

    if count == 0:
        raise DataError("the list names no image.")
    if count == 1 and failed:
        raise DataError(failed[0].error)
    if failed:
        names = ", ".join(result.image for result in failed[:NAMED])
        more = f" and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
        raise DataError(f"{len(failed):,} of {count:,} images could not be classified: {names}{more}.")
    if found == 0:
        raise DataError("no face was found." if count == 1 else f"no face was found in any of {count:,} images.")


def _video(bundle: Path, emit: Emit, options: dict[str, Any]) -> None:
    from slimnet.errors import DataError
    from slimnet.predict import predict_video
    from slimnet.predict.outputs import check_new

    video, out = options["video"], options["annotate"]
    if out is not None:
        check_new(out, force=options["force"])
    faces, predictor = _faces(options), _predictor(bundle, options)
    is_camera = video.isascii() and video.isdigit() and len(video) <= DIGITS
    what = int(video) if is_camera else video
    frames = predict_video(predictor, what, every=options["every"], smooth=options["smooth"], faces=faces, annotate=out)
    count = failed = 0
    with closing(frames):
        for frame in frames:
            count += 1
            if frame.result.error is not None:
                failed += 1
                echo(f"slimnet: frame {frame.frame}: {' '.join(frame.result.error.split())}", err=True)
            emit(frame.as_dict())
    if failed:
        raise DataError(f"{failed:,} of {count:,} frames of {video} could not be classified.")


def _predictor(bundle: Path, options: dict[str, Any]) -> Any:
    from slimnet.predict import Predictor

    predictor = Predictor(bundle, **{name: options[name] for name in ("precision", "threads", "top", "runtime", "unsure_below")})
    if options["precision"] == "auto":
        say(f"precision: {predictor.precision}")
    return predictor


def _faces(options: dict[str, Any]) -> Any:
    """The finder of faces, if faces are to be found; which detector it has is said where it was not named."""
    names = ("margin", "detector", "min_face", "min_confidence")
    given = {name: options[name] for name in names if options[name] is not None and (name != "margin" or options[name])}
    if not options["detect"]:
        for name in given:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --detect.")
        return None
    from slimnet.names import CHOSEN_DETECTORS
    from slimnet.predict import FaceFinder

    detector = detector_given(options["detector"] or "auto", CHOSEN_DETECTORS)
    if detector == "cascade" and options["min_confidence"] is not None:
        raise click.UsageError("--min-confidence needs another detector: the cascade does not say how sure it is.")
    finder = FaceFinder(**{**given, "detector": detector})
    if finder.detector != detector and finder.detector is not None:
        more = "; --detector blazeface finds tilted and half-lit ones, too (fetched once, 5 MB)"
        say(f"faces: {finder.detector}{more if finder.detector == 'cascade' else ''}")
    return finder


def _names(images: tuple[str, ...], listed: str | None) -> list[str]:
    """The names in the list, if one is given."""
    from slimnet.errors import DataError
    from slimnet.predict import read_names

    if listed is None:
        return []
    if listed == "-" and "-" in images:
        raise click.UsageError("- is given twice: standard input holds one image, or a list of names.")
    if listed == "-":
        return read_names(sys.stdin.buffer, "the list")
    try:
        with Path(listed).open("rb") as file:
            return read_names(file, listed)
    except OSError as error:
        raise DataError(f"{listed} cannot be read ({error.strerror}): give a list of names, one a line.") from None


def _emit_json(value: dict[str, Any]) -> None:
    """Odd file names are escaped: a line is always UTF-8, and always JSON."""
    click.echo(shown_json(_encode(value).encode("utf-8", "backslashreplace").decode()))


def _emit_line(value: dict[str, Any]) -> None:
    from slimnet.predict.results import UNSURE

    if value["error"] is not None:
        return
    where = [f"frame {value['frame']}"] if "frame" in value else [value["image"]]
    for prediction in value["predictions"]:
        told = prediction.get("smoothed", prediction)
        classes = ", ".join(f"{each['label']} {percent(each['probability'])}" for each in told["top"])
        classes = f"{UNSURE}: {classes}" if told["unsure"] else classes
        where.append(classes if prediction["box"] is None else f"{classes} at {_place(*prediction['box'])}")
    notes = [f"({note})" for note in value["notes"]]
    echo("  ".join(where + notes))


def _place(x: int, y: int, width: int, height: int) -> str:
    return f"{x},{y} ({width}×{height})"
