"""An exported file, slim and with a dynamic batch, in runtimes other than ONNX Runtime's Python package."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import slimnet
from other_runtimes import BY_NAME, TOLERANCE, Runtime, python, relative_error
from skips import skip_without


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slim ResNet-8 with padded shortcuts."""
    torch.manual_seed(0)
    model, x = slimnet.build_model("resnet8", num_classes=10).eval(), torch.randn(2, 3, 16, 16)
    slimnet.prune(model, x, rate=0.5)
    path = tmp_path_factory.mktemp("runtimes") / "model.onnx"
    slimnet.export_onnx(slimnet.slim(model, x).model, x, path)
    return path


def installed(name: str) -> Runtime:
    runtime = BY_NAME[name]
    if runtime.version() is None:
        skip_without(runtime.needs)
    return runtime


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.filterwarnings("ignore")  # of the runtime
def test_agrees_with_onnx_runtime_at_any_batch(name: str, file: Path) -> None:
    runtime = installed(name)
    run, expected = runtime.load(file), python(file)
    for batch in (1, 3, 2):
        x = np.random.default_rng(batch).standard_normal((batch, 3, 16, 16), dtype=np.float32)
        assert relative_error(expected(x), run(x)) <= (TOLERANCE if runtime.exact else 0.1)


PAGE = Path(__file__).parent.parent / "docs" / "runtimes.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("module", "example"), list(zip(("openvino", "cv2", "onnx"), EXAMPLES, strict=True)))
@pytest.mark.filterwarnings("ignore")  # of the runtime
def test_the_examples_of_the_page_run(module: str, example: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(module) is None:
        skip_without({"cv2": "opencv"}.get(module, module))
    monkeypatch.chdir(file.parent)
    x = np.random.default_rng(0).standard_normal((3, 3, 16, 16), dtype=np.float32)
    np.save("images.npy", x)
    found: dict[str, np.ndarray] = {}
    exec(compile(example, PAGE.name, "exec"), found)
    assert relative_error(python(file)(x), found["logits"]) <= TOLERANCE


def test_the_reference_evaluator_is_always_there() -> None:
    assert BY_NAME["ONNX's reference evaluator"].version() is not None


@pytest.mark.parametrize(
    "found", [np.zeros((2, 3)), np.array([[1, 2, np.nan]]), np.array([[1, 2, 4.001]])], ids=("shape", "nan", "value")
)
def test_a_disagreement_is_seen(found: np.ndarray) -> None:
    right = np.array([[1.0, 2.0, 4.0]])
    assert relative_error(right, right) == 0
    assert relative_error(right, found) > TOLERANCE


def test_the_program_says_what_is_wrong(file: Path, tmp_path: Path) -> None:
    run = installed("ONNX Runtime, C++").load(file)
    with pytest.raises(RuntimeError, match=r"error: the input is not a whole number of images of 768 values\."):
        run(np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(RuntimeError, match=r"error: Load model from .*missing\.onnx failed"):
        BY_NAME["ONNX Runtime, C++"].load(tmp_path / "missing.onnx")(np.zeros((1, 3, 16, 16), np.float32))
