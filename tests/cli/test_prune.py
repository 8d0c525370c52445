"""slimnet prune: bad input and wrong usage. What is pruned: test_target_runs.py, test_classes.py."""

from __future__ import annotations

from cli.cases import WEIGHTS, Bad, nothing, refused, weights, wrong_usage

BAD: list[Bad] = [
    (f"prune {WEIGHTS} --rate 1 --out new", r"`rate` must be in \[0, 1\), got 1.0", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out new --shut-branches", "`shut_branches` is for a target", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out new --allocate-by energy", "`allocate_by` is for a target", weights),
    (f"prune {WEIGHTS} --target-ms 1 --out new --allocate-by loss", "needs data: name a data set with --data", weights),
    (f"prune {WEIGHTS} --target-ms 1 --out new --plot plan.jpg", r"plan.jpg must end in .png, .svg or .pdf", weights),
    (f"prune {WEIGHTS} --target-ms 1 --out new --shut-branches --no-mask-norm", "leave `mask_norm` on", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out new --criterion x", "unknown `criterion` 'x'; known: l1, l2, gm", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out new --criterion cs", "'cs' needs data: name a data set with --data", weights),
    (f"prune {WEIGHTS} --rate 0.5 --finetune 2 --out new", "fine-tuning needs data: name a data set", weights),
    (f"prune {WEIGHTS} --rate 0.5 --finetune 2 --data digits --lr 0 --out new", "`lr` must be a positive number", weights),
    (
        "prune {bundle}/model.onnx --rate 0.5 --finetune 2 --data digits --out new",
        "is an ONNX file, which is not trained",
        nothing,
    ),
    (f"prune {WEIGHTS} --part none --target-flops 0.5 --out new", "`part` 'none' is no submodule of", weights),
    (f"prune {WEIGHTS} --part layer1 --target-ms 0 --out new", "the target `ms` must be a positive number", weights),
    (f"prune {WEIGHTS} --part layer1 --target-flops 1e-6 --out new", "the target cannot be met", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out . --force", r"\. holds x.safetensors, which is not ours to overwrite", weights),
]


test_bad_input_gets_one_line_and_nothing_is_written = refused(BAD)


USAGE = [
    ("prune x.pth --model resnet8 --rate 0.5 --out new --plot plan.svg", "--plot draws the plan for a target: give one"),
    ("prune x.pth --model resnet8 --rate 0.5 --lr 0.1 --out new", "--lr is for fine-tuning: give --finetune"),
    ("prune x.pth --model resnet8 --rate 0.5 --part conv1 --finetune 1 --out new", "--finetune trains whole networks"),
    ("prune x.pth --model resnet8 --target-ms 1 --finetune 1 --plot p.svg --out new", "--plot draws the plan of prune alone"),
    ("prune x.pth --model resnet8 --out o", "give one of --rate, --flops and --target"),
]


test_wrong_usage_exits_2 = wrong_usage(USAGE)
