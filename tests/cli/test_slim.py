"""slimnet slim: bad input. What is cut: test_surgery_adversarial.py, test_classes.py."""

from __future__ import annotations

from cli.cases import WEIGHTS, Bad, holding, nothing, refused, weights

BAD: list[Bad] = [
    ("slim x.safetensors --model resnet20 --out new", "x.safetensors does not fit the model: .* missing", weights),
    (f"slim {WEIGHTS} --out new --tolerance nan", r"`tolerance` must be in \[0, 1\), got nan", weights),
    ("slim {bundle}/model.onnx --out new --model resnet8", "says itself what network it is: leave --model", nothing),
    ("slim {bundle}/model.onnx --out new --expand", "`expand` is for modules: leave it out for an ONNX file", nothing),
    ("slim {bundle}/model.onnx --out new --tolerance 1", r"`tolerance` must be in \[0, 1\), got 1", nothing),
    ("slim {bundle}/model.onnx --out new --as-graph", "an ONNX file is a graph already, leave it out", nothing),
    (f"slim {WEIGHTS} --out new --as-graph --expand", "`as_graph` is for whole networks without `expand`", weights),
    (f"slim {WEIGHTS} --out new --as-graph --align auto", "`align` 'auto' does not go with `as_graph`", weights),
    ("slim x.onnx --out new", "x.onnx is not a readable ONNX file", holding("x.onnx", lambda path: path.write_bytes(b"no"))),
    (f"slim {WEIGHTS} --out . --force", r"\. holds x.safetensors, which is not ours to overwrite", weights),
]


test_bad_input_gets_one_line_and_nothing_is_written = refused(BAD)
