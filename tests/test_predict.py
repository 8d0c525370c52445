"""Pictures in, classes out: the answers, where pictures are found, and work ahead of its turn."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from command import predict
from halves import LABELS, SIDE, TOP, bright
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import Bundle, read_bundle
from slimnet.predict import Predictor, Source, ahead, choose, find_sources
from slimnet.predict import sources as sources_module
from slimnet.predict.ahead import map_ahead
from slimnet.preprocess import prepare


def noise(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8)) for _ in range(count)]


# --- answers --------------------------------------------------------------------------------------------------------------


def by_hand(bundle: Bundle, pictures: list[Image.Image]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(str(bundle.onnx), providers=["CPUExecutionProvider"])
    inputs = np.stack([prepare(picture, bundle.model["preprocessing"]) for picture in pictures])
    logits = session.run(None, {"input": inputs})[0].astype(np.float64)
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (1, 1), (7, 3), (32, 2), (200, 8)])
def test_the_answers_are_those_of_the_network_in_the_order_of_the_files(
    batch: int, workers: int, bundle: Bundle, here: Path
) -> None:
    pictures = noise(50)
    for number, picture in enumerate(pictures):
        picture.save(f"{number:02}.png")
    results = list(Predictor(bundle.path, top=4, threads=1).stream(find_sources([here]), batch=batch, workers=workers))
    assert [Path(result.image).stem for result in results] == [f"{number:02}" for number in range(50)]
    found = np.zeros((50, 4))
    for row, result in zip(found, results, strict=True):
        top = result.predictions[0].top
        assert [candidate.probability for candidate in top] == sorted((c.probability for c in top), reverse=True)
        assert all(candidate.label == LABELS[candidate.index] for candidate in top)
        row[[candidate.index for candidate in top]] = [candidate.probability for candidate in top]
    np.testing.assert_allclose(found, by_hand(bundle, pictures), rtol=1e-5)


def test_predictor_takes_files_pictures_and_arrays(bundle: Bundle, here: Path) -> None:
    TOP.save("x.png")
    colour = np.asarray(bright("left").convert("RGB"))
    predictions = Predictor(bundle.path).predict(["x.png", here / "x.png", bright("bottom"), colour, np.asarray(bright("right"))])
    assert [prediction.label for prediction in predictions] == ["top", "top", "bottom", "left", "right"]
    assert predictions[0].probability == predictions[1].probability > 0.9
    assert predictions[0].index == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: Predictor(b).predict([np.zeros((4, 4))]), r"must be a file, .* got float64 \(4, 4\)"),
        (lambda b: Predictor(b).predict([np.zeros((4, 4, 4), np.uint8)]), r"got uint8 \(4, 4, 4\)"),
        (lambda b: Predictor(b).predict([3]), "got int"),
        (lambda b: Predictor(b).predict(["no.png"]), "no.png does not exist"),
        (lambda b: Predictor(b, top=0), "`top` must be at least 1, got 0"),
        (lambda b: Predictor(b, threads=0), "`threads` must be at least 1, got 0"),
        (lambda b: Predictor(b, precision="int4"), "unknown precision 'int4'; known: auto, fp32, int8, fp16"),
        (lambda b: Predictor(b, precision="int8"), "halves holds no int8 network: it has fp32"),
        (lambda b: list(Predictor(b).stream([], batch=0)), "`batch` must be at least 1"),
    ],
)
def test_predictor_refuses(call: Callable[[Path], Any], message: str, bundle: Bundle, here: Path) -> None:
    with pytest.raises((ArgumentError, FileFormatError), match=message):
        call(bundle.path)


@pytest.mark.parametrize(("speedup", "wanted"), [(2.0, "int8"), (1.04, "fp32"), (0.5, "fp32")])
def test_auto_takes_the_fastest_here(
    speedup: float, wanted: str, bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[dict[str, Any]] = []

    def compared(files: Any, **settings: Any) -> Any:
        timed.append(settings)
        return SimpleNamespace(
            variants=(SimpleNamespace(name="fp32", speedup=1.0), SimpleNamespace(name="int8", speedup=speedup))
        )

    monkeypatch.setattr(choose, "compare_latency", compared)
    assert Predictor(bundle.path, precision="auto").precision == "fp32"
    assert timed == []
    monkeypatch.setattr(Bundle, "precision_files", {"fp32": bundle.onnx, "int8": bundle.dense_onnx})
    TOP.save("x.png")
    done = predict(bundle.path, "x.png", "--precision", "auto", "--threads", "3")
    assert (done.status, done.err) == (0, f"precision: {wanted}\n")
    assert [(settings["threads"], settings["baseline"]) for settings in timed] == [(3, "fp32")]


# --- what is given --------------------------------------------------------------------------------------------------------


def test_folders_are_searched_in_order_and_hidden_files_left_alone(here: Path) -> None:
    for name in ("b/2.png", "b/10.PNG", "a.jpg", "c/d/e.webp", "b/.hidden.png", ".git/x.png", "notes.txt", "b/x.png/y.png"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    (here / "link.png").symlink_to("nowhere")
    assert [source.name for source in find_sources(["."])] == [
        "a.jpg",
        "link.png",
        "b/10.PNG",
        "b/2.png",
        "b/x.png/y.png",
        "c/d/e.webp",
    ]


def test_too_much_on_standard_input(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimnet.predict.decode.MAX_BYTES", 10)
    (source,) = find_sources(["-"], stdin=io.BytesIO(bytes(1000)))
    (result,) = Predictor(bundle.path).stream([source])
    assert result.error == "standard input holds more than 0 MiB: that is no single picture."
    assert sources_module.MAX_BYTES == 1 << 28


# --- ahead ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_map_ahead_keeps_the_order_and_the_errors(workers: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        if item == 30:
            raise ValueError("thirty")
        return -item

    results = map_ahead(work, range(100), workers=workers, chunk=3, ahead=12)
    found = []
    with pytest.raises(ValueError, match="thirty"):
        found.extend(results)
        for value in results:
            found.append(value)
    assert found == [-item for item in range(len(found))]
    assert len(found) in (0, 30)


def test_map_ahead_goes_no_further_than_it_may() -> None:
    taken: list[int] = []

    def items() -> Any:
        for item in range(1000):
            taken.append(item)
            yield item

    results = map_ahead(lambda item: item, items(), workers=2, chunk=5, ahead=20)
    for given in range(100):
        assert next(results) == given
        assert len(taken) - given <= 25
    before = len(taken)
    results.close()  # type: ignore[attr-defined]
    assert len(taken) == before > 100


@pytest.mark.parametrize(("seconds", "sizes"), [(0.02, [4] * 5 + [1] * 32), (1e-6, [4] * 5 + [16] * 2)])
def test_slow_work_is_handed_out_in_small_parts(seconds: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    worked = ahead._worked

    def counted(work: Any, items: Any) -> Any:
        taken.append(len(items))
        return replace(worked(work, items), seconds=seconds * len(items))

    monkeypatch.setattr(ahead, "_worked", counted)
    assert list(map_ahead(lambda item: -item, range(52), workers=4, chunk=16, ahead=16)) == [-item for item in range(52)]
    assert sorted(taken) == sorted(sizes)


def test_a_stream_that_is_left_stops_its_threads(bundle: Bundle) -> None:
    before = threading.active_count()
    stream = Predictor(bundle.path).stream(
        [Source(str(n), image=picture) for n, picture in enumerate(noise(200))], batch=4, workers=3
    )
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_bundle_is_read_as_it_was_written(bundle: Bundle) -> None:
    assert read_bundle(bundle.path).precision_files == {"fp32": bundle.onnx}
