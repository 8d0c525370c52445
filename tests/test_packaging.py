"""What is shipped, and which part of it may know which."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "slimnet"

MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def block(name: str) -> list[str]:
    """The lines of the map between two marks."""
    return MAP.partition(f"<!-- {name}:begin -->\n")[2].partition(f"\n<!-- {name}:end -->")[0].splitlines()


def arrows(rows: list[str]) -> dict[str, set[str]]:
    """Room → the rooms that it may import, from the map's table."""
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]
    return {room.strip("` "): set(others.removesuffix(" |").split()) - {"–"} for room, _, others in cells}


ARROWS = arrows(block("rooms"))
LAYERS = [line.split(" · ") for line in map(str.strip, block("layers"))]

GATHERS = {"export": {"bundle"}}
"""What the public names of a part's ``__init__`` are gathered from beside it: `slimnet.export` keeps the names of the bundle."""

# outside library → the modules that may import it
FACADES = {
    name: set(words.split())
    for name, words in {
        "onnx": "onnx/build.py onnx/convert.py onnx/embed.py onnx/file.py onnx/flops.py onnx/graph.py onnx/metadata.py "
        "onnx/lower/changes.py onnx/lower/context.py onnx/lower/driver.py onnx/lower/parts.py onnx/lower/schemas.py "
        "onnx/naming.py onnx/opset.py onnx/program.py onnx/rewrite.py onnx/save.py onnx/short.py onnx/write.py",
        "onnxruntime": "bundle/infer.py onnx/convert.py onnx/providers.py onnx/session.py",
        "PIL": "bundle/infer.py pictures/canvas.py pictures/picture.py",
        "torchvision": "_torchvision.py",
        "safetensors": "files/content.py",
        "filelock": "files/locks.py",
        "torch_pruning": "graph/dependency.py",
        "pickle": "models/_unpickled.py",  # the name of torch's error; nothing is unpickled
        "sklearn": "data/sets/digits.py",
        "onnxscript": "onnx/graph.py",
        "jsonschema": "_json/check.py",
        "cv2": "predict/_cv.py",
        "matplotlib": "report/_figure.py",
        "fvcore": "measure/flops.py",
        "rich": "terminal.py",
        "mlflow": "training/loggers/mlflow.py",
        "wandb": "training/loggers/wandb.py",
        "huggingface_hub": "bundle/hub.py",
        "timm": "models/_timm.py",
        "lightning": "adapters/lightning.py",
        "transformers": "adapters/transformers.py",
        "datasets": "data/sets/hf.py",
        "pyarrow": "data/_table.py",
        "openvino": "runtimes/openvino.py",
        "nncf": "runtimes/openvino.py",
        "ai_edge_litert": "runtimes/litert.py runtimes/tflite/file.py",
        "ai_edge_quantizer": "runtimes/litert.py",
        "flatbuffers": "runtimes/tflite/file.py",
        "ncnn": "runtimes/ncnn.py",
        "pnnx": "runtimes/ncnn.py",
    }.items()
}


def modules() -> list[Path]:
    shipped = set((SOURCE / "ready").glob("*/*.py"))  # of bundles: files to be copied, not imported
    return sorted(set(SOURCE.rglob("*.py")) - shipped)


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def dotted_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Dotted names of everything that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_every_part_has_its_arrows() -> None:
    assert {part(path) for path in modules()} - {"__init__"} == ARROWS.keys()


@pytest.mark.parametrize("name", sorted(ARROWS))
def test_arrows_point_one_way(name: str) -> None:
    paths = [path for path in modules() if part(path) == name]
    found = {(path.name, dotted.split(".")[1]) for path in paths for dotted in imported(path) if dotted.startswith("slimnet.")}
    allowed = {path: ARROWS[name] | {name} | (GATHERS.get(name, set()) if path == "__init__.py" else set()) for path, _ in found}
    assert {(path, other) for path, other in found if other not in allowed[path]} == set()


def test_arrows_point_down() -> None:
    """In the map's picture, to lower lines alone."""
    line = {name: number for number, names in enumerate(LAYERS) for name in names}
    assert line.keys() == ARROWS.keys()
    assert [(name, other) for name, others in ARROWS.items() for other in others if line[other] <= line[name]] == []


@pytest.mark.parametrize("name", sorted(ARROWS))
def test_arrows_are_used(name: str) -> None:
    """What the map lets a room import is imported somewhere in it."""
    found = {dotted.split(".")[1] for path in modules() if part(path) == name for dotted in imported(path)
             if dotted.startswith("slimnet.")}  # fmt: skip
    assert ARROWS[name] <= found


def test_modules_make_no_circle() -> None:
    """Within the parts too, wherever in a module an import stands; a package is the module that its name stands for."""
    names = {dotted_name(path): path for path in modules()}

    def module_of(dotted: str) -> str:
        while dotted and dotted not in names:
            dotted = dotted.rpartition(".")[0]
        return dotted

    left = {name: {module_of(dotted) for dotted in imported(path)} - {"", name} for name, path in names.items()}
    while ready := {name for name, others in left.items() if not others}:
        left = {name: others - ready for name, others in left.items() if name not in ready}
    assert left == {}


@pytest.mark.parametrize("package", sorted(dotted_name(path) for path in modules() if path.name == "__init__.py"))
def test_public_names_are_there(package: str) -> None:
    """Also those that are imported when they are asked for."""
    room = importlib.import_module(package)
    names = getattr(room, "__all__", [])
    assert [name for name in names if not hasattr(room, name)] == []
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("library", sorted(FACADES))
def test_outside_libraries_have_their_facades(library: str) -> None:
    users = {str(path.relative_to(SOURCE)) for path in modules() if library in {name.split(".")[0] for name in imported(path)}}
    assert users == FACADES[library]


def test_one_module_opens_sessions() -> None:
    """Beside the file that is shipped with a bundle: within bounds of size and time, and without ONNX Runtime's own log."""
    openers = {str(path.relative_to(SOURCE)) for path in modules() if "InferenceSession(" in path.read_text(encoding="utf-8")}
    assert openers == {"bundle/infer.py", "onnx/session.py"}


def test_nothing_of_the_library_imports_the_command_line() -> None:
    assert not [path for path in modules() if any(name.split(".")[0] in ("slimnet_cli", "click") for name in imported(path))]


def test_no_file_of_tests_is_long() -> None:
    files = [path for path in (ROOT / "tests").rglob("*") if path.suffix in (".py", ".c", ".cpp")]
    assert len(files) > 50
    assert [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []


def test_commands_import_the_library_inside_functions() -> None:
    for path in (ROOT / "cli" / "slimnet_cli").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in top}
        heavy = {name for name in names if name.split(".")[0] not in ({"click", "slimnet_cli"} | sys.stdlib_module_names)}
        assert heavy == set(), path


def test_imports_are_declared() -> None:
    """Every library that the source imports is a dependency or in an extra, by its name on the index."""
    index = {
        "sklearn": "scikit-learn",
        "PIL": "pillow",
        "cv2": "opencv-python-headless",
        "torch_pruning": "torch-pruning",
        "mlflow": "mlflow-skinny",
        "huggingface_hub": "huggingface-hub",
        "ai_edge_litert": "ai-edge-litert",
        "ai_edge_quantizer": "ai-edge-quantizer",
    }
    needed = {name.split(".")[0] for path in modules() for name in imported(path)} - {"slimnet"} - sys.stdlib_module_names
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = (project["dependencies"], *project["optional-dependencies"].values())
    declared = {line.partition(">")[0] for declarations in lists for line in declarations}
    assert {index.get(name, name) for name in needed} <= declared


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("slimnet-*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_two_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    (info,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {"slimnet", "slimnet_cli", info}
    assert {"slimnet/py.typed", "slimnet_cli/__main__.py", f"{info}/licenses/LICENSE"} <= set(names)
    assert not [name for name in names if name.endswith((".pyc", ".th", ".pth"))]


def test_wheel_holds_every_module_and_data_file(wheel: zipfile.ZipFile) -> None:
    data = (*SOURCE.rglob("*.toml"), *SOURCE.rglob("*.schema.json"), *(SOURCE / "web" / "static").iterdir())
    wanted = {str(path.relative_to(ROOT)) for path in (*modules(), *data)}
    assert wanted <= set(wheel.namelist())


def test_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    (points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "slimnet = slimnet_cli:main" in wheel.read(points).decode()
