"""Probabilities that can be believed: the temperature, the calibration error, and answers that count as unsure."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

from command import predict
from crowds import TWO
from export_cases import LABELS, run_onnx, told
from halves import make_bundle
from slimnet.bundle.schema import schema_faults
from slimnet.bundle.seal import sealed
from slimnet.commands import verify_bundle
from slimnet.commands.confidence import ConfidenceStep
from slimnet.data import load_data
from slimnet.errors import ArgumentError, DataError
from slimnet.evaluation import Confidence, calibration_error, fit_temperature
from slimnet.export import Bundle, compact_bundle, read_bundle
from slimnet.predict import Box, Candidate, Prediction, Predictor, Result, annotated
from slimnet.predict.annotate import GREY, PALE
from slimnet.preprocess import prepare

# --- figures --------------------------------------------------------------------------------------------------------------


def drawn(count: int, temperature: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (N, 5), and labels that are drawn with the probabilities of the logits divided by the temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, 5, generator=generator)
    return logits, torch.multinomial((logits / temperature).softmax(1), 1, generator=generator).flatten()


def by_hand(top: list[float], right: list[bool]) -> float:
    """The definition, bin by bin."""
    total = 0.0
    for m in range(15):
        held = [i for i, p in enumerate(top) if m / 15 < p <= (m + 1) / 15]
        if held:
            accuracy, confidence = sum(right[i] for i in held) / len(held), sum(top[i] for i in held) / len(held)
            total += len(held) / len(top) * abs(accuracy - confidence)
    return total


def test_the_calibration_error_is_that_of_its_definition() -> None:
    logits, labels = drawn(500, 2.0)
    top, found = logits.double().softmax(1).max(1)
    right = found == labels
    assert calibration_error(top, right) == pytest.approx(by_hand(top.tolist(), right.tolist()), rel=1e-12)
    assert calibration_error(torch.tensor([1.0, 1.0]), torch.tensor([True, True])) == 0
    assert calibration_error(torch.tensor([1.0, 1.0]), torch.tensor([False, False])) == 1
    with pytest.raises(DataError, match="there are no images"):
        calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_again(temperature: float) -> None:
    logits, labels = drawn(20_000, temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    assert found is not None

    def at(t: float) -> Confidence:
        sure = Confidence(t)
        sure.add(logits, labels)
        return sure

    assert at(found).nll <= min(at(found * by).nll for by in (0.99, 1.01))
    assert at(found).ece < 0.01
    if temperature != 1:
        assert at(1.0).ece > 3 * at(found).ece


def test_images_that_tell_no_temperature() -> None:
    logits, _ = drawn(100, 1.0)
    assert fit_temperature(logits, logits.argmax(1)) is None, "all are right: the lower the better"
    assert fit_temperature(logits, logits.argmin(1)) is None, "all are wrong: the higher the better"
    with pytest.raises(DataError, match="no images to fit a temperature on"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="NaN or infinite"):
        fit_temperature(torch.full((2, 3), torch.nan), torch.zeros(2, dtype=torch.int64))
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match="`temperature` must be a positive number"):
            Confidence(bad)


def test_answers_kept_back() -> None:
    sure = Confidence()
    with pytest.raises(DataError, match="there are no images"):
        _ = sure.ece
    shares = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.45, 0.55]])
    sure.add(shares.log()[:3], torch.tensor([0, 1, 1]))
    sure.add(shares.log()[3:], torch.tensor([0]))
    rows = [(row.share, row.accuracy) for row in sure.answered((0.0, 0.58, 0.7, 0.85, 0.95))]
    assert rows == [(1.0, 0.5), (0.75, pytest.approx(2 / 3)), (0.5, 0.5), (0.25, 1.0), (0.0, None)]
    assert sure.nll == pytest.approx(-float(torch.tensor([0.9, 0.2, 0.6, 0.45]).log().mean()))


# --- bundles --------------------------------------------------------------------------------------------------------------


def test_an_old_bundle_has_temperature_1(plain: Bundle) -> None:
    assert "confidence" not in plain.model["precisions"]["fp32"] and "unsure_below" not in plain.model
    assert (plain.temperature("fp32"), plain.unsure_below) == (1.0, 0.0)
    card = (plain.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "probabilities were not calibrated" in card and "## How far" not in card


def test_each_network_has_a_temperature_of_its_own(full: Bundle, tmp_path: Path) -> None:
    assert [full.temperature(name) for name in ("fp32", "int8", "fp16", "unknown")] == [1.75, 0.5, 0.5, 1.75]
    card = (full.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| fp32 | 1.75 | 25.00 % | 12.50 % | 1.5000 | 1.2500 |" in card
    assert "| int8 | 0.5 |" in card and "| 90% | 0.00 % | – |" in card
    assert "Answers below 50% count as unsure" in card and "probabilities were not calibrated" not in card
    small = compact_bundle(full.path, tmp_path / "small", precision="int8")
    assert (small.temperature("int8"), small.unsure_below) == (0.5, 0.5)
    assert "| int8 | 0.5 |" in (small.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert verify_bundle(small.path).passed


@pytest.mark.parametrize("value", [0, -1, 1e-9, 1e9, "1", None])
def test_the_schema_takes_temperatures_that_can_be_divided_by(value: Any, plain: Bundle) -> None:
    fp32 = plain.model["precisions"]["fp32"]
    assert schema_faults({**plain.model, "precisions": {"fp32": {**fp32, "confidence": told(2.0)}}}) == []
    assert schema_faults({**plain.model, "precisions": {"fp32": {**fp32, "confidence": told(value)}}})
    assert schema_faults({**plain.model, "unsure_below": 1.5})


def noise(path: Path, seed: int) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return path


def test_predict_infer_and_the_embedded_network_divide_by_the_temperature(full: Bundle, tmp_path: Path) -> None:
    path = noise(tmp_path / "x.png", 0)
    with Image.open(path) as image:
        inputs = torch.from_numpy(prepare(image, full.model["preprocessing"]))[None]
        pixels = np.asarray(image)[None]
    logits = torch.from_numpy(run_onnx(full.onnx, inputs))[0].double()
    wanted, plainly = (logits / 1.75).softmax(0), logits.softmax(0)
    assert float((wanted - plainly).abs().max()) > 0.01, "or nothing is tried"
    (one,) = Predictor(full.path, top=len(LABELS)).predict([path])
    assert one.probabilities is not None
    assert one.probabilities.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)
    assert [candidate.probability for candidate in one.top] == sorted(one.probabilities.tolist(), reverse=True)
    done = subprocess.run([sys.executable, full.path / "infer.py", path], capture_output=True, text=True, check=True)
    unsure, *lines = done.stdout.strip().split("\t")[1:]
    assert unsure == "unsure" and one.unsure, "no class has half of it"
    assert [float(line.split()[-1]) for line in lines] == pytest.approx(wanted.sort(descending=True)[0][:3].tolist(), abs=6e-5)
    session = onnxruntime.InferenceSession(full.path / "model.uint8.onnx", providers=["CPUExecutionProvider"])
    (embedded,) = session.run(None, {"image": pixels})[0]
    assert embedded.tolist() == pytest.approx(wanted.tolist(), abs=1e-5)


def test_an_embedded_network_with_another_temperature_is_found(copied: Path) -> None:
    model = read_bundle(copied).model
    model["precisions"]["fp32"]["confidence"]["temperature"] = 0.5
    (copied / "model.json").write_bytes(sealed(model))
    faults = verify_bundle(copied, trust_code=True).faults
    assert any("model.uint8.onnx computes something else than model.onnx" in fault for fault in faults)


def test_a_network_with_a_logit_that_is_no_number_has_no_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        import_module("slimnet.evaluation.evaluate"), "onnx_predictor", lambda _: lambda x: torch.full((len(x), 10), torch.inf)
    )
    assert ConfidenceStep(load_data("digits"), said.append)("fp16", b"") is None
    assert said[1].startswith("fp16 has no temperature: it gives NaN or infinite logits for ")


def test_where_all_are_right_the_temperature_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    data, said = load_data("digits"), list[str]()
    labels = iter([data.val.labels, data.test.labels])
    monkeypatch.setattr("slimnet.commands.confidence._logits", lambda *_: (4 * torch.eye(10)[(y := next(labels))], y))
    found = ConfidenceStep(data, said.append)("fp32", b"")
    assert found is not None and found["temperature"] == 1
    assert found["measured"]["ece"]["before"] == found["measured"]["ece"]["after"] > 0
    assert said[-1] == "fp32: the validation split does not tell a temperature: T = 1"


# --- unsure ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in which answers below 0.6 are unsure."""
    return make_bundle(tmp_path_factory.mktemp("doubtful") / "halves", unsure_below=0.6).path


def test_predict_marks_unsure_answers(doubtful: Path, here: Path) -> None:
    Image.new("L", (16, 16), 128).save("even.png")
    Image.fromarray(np.repeat([[255], [0]], 8, axis=0).repeat(16, axis=1).astype(np.uint8)).save("top.png")
    done = predict(doubtful, "even.png", "top.png", "--json")
    (even,), (top,) = (line["predictions"] for line in done.lines)
    assert (even["unsure"], even["probability"], top["unsure"], top["label"]) == (True, 0.25, False, "top")
    assert list(even) == ["label", "index", "probability", "unsure", "box", "face_confidence", "top"]
    assert predict(doubtful, "even.png", "--top", "1").out == "even.png  unsure: top 25.00 %\n"
    assert predict(doubtful, "even.png", "--top", "1", "--unsure-below", "0.25").out == "even.png  top 25.00 %\n"
    assert predict(doubtful, "top.png", "--unsure-below", "1", "--json").lines[0]["predictions"][0]["unsure"]
    (even,) = Predictor(doubtful).predict(["even.png"])
    assert (even.answer, even.label) == ("unsure", "top")
    done = subprocess.run(
        [sys.executable, doubtful / "infer.py", "even.png", "top.png"], capture_output=True, text=True, check=True
    )
    assert [line.split("\t")[1].split()[0] for line in done.stdout.splitlines()] == ["unsure", "top"]


@pytest.mark.parametrize(("value", "status"), [("1.5", 2), ("-0.1", 2), ("nan", 2)])
def test_a_threshold_is_a_probability(value: str, status: int, doubtful: Path, here: Path) -> None:
    assert predict(doubtful, "x.png", "--unsure-below", value).status == status
    for call in (
        lambda: Predictor(doubtful, unsure_below=float(value)),
        lambda: make_bundle(here / "b", unsure_below=float(value)),
    ):
        with pytest.raises(ArgumentError, match=r"`unsure_below` must be a probability in \[0, 1\], got "):
            call()
    assert not (here / "b").exists()


def test_unsure_answers_are_drawn_differently() -> None:
    sure, unsure = (Prediction((Candidate("happy", 0, 0.4),), Box(20, 100, 40, 40), flag) for flag in (False, True))
    one, other = (np.asarray(annotated(TWO, Result("x", 300, 200, (each,)))) for each in (sure, unsure))

    def painted(picture: np.ndarray[Any, Any], colour: tuple[int, int, int]) -> int:
        return int((picture == colour).all(axis=2).sum())

    assert painted(one, PALE) > 500 and painted(one, GREY) == 0
    assert painted(other, GREY) > 500 and painted(other, PALE) == 0
    edge = (other[200, 40:120] == GREY).all(axis=1)
    assert 0.3 < edge.mean() < 0.7, "in dashes"
    assert (one[200, 40:120] == PALE).all()
    whole = Prediction((Candidate("happy", 0, 0.4),), None, True)
    assert painted(np.asarray(annotated(TWO, Result("x", 300, 200, (whole,)))), GREY) > 500


def test_card_of_data_without_a_test_split(full: Bundle) -> None:
    from slimnet.bundle.card import model_card

    model = json.loads((full.path / "model.json").read_text())
    model["precisions"]["fp32"]["confidence"]["measured"]["split"] = "val"
    assert "There is no test split" in model_card(model, full.report, {})
