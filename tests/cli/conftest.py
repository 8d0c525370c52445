from __future__ import annotations

import pytest

from cli.cases import Made
from command import slimnet_cli

QUICK = ("--epochs", "2", "--finetune-epochs", "1", "--batch-size", "64", "--precision", "fp32", "--seed", "3", "--lr", "0.05")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("cli")
    run, bundle = folder / "run", folder / "bundle"
    trained = slimnet_cli("train", "--model", "resnet8", *QUICK, "--out", run)
    assert trained.status == 0, trained.err
    exported = slimnet_cli("export", run, "--out", bundle)
    assert exported.status == 0, exported.err
    return Made(run, bundle, trained, exported)
