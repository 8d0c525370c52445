"""From the last epoch to the result: norms by images, and a training that is not lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimnet.methods import FSDP
from slimnet.training import Run, engine, train
from slimnet.training import result as end
from slimnet.training.norm_statistics import reestimate_norms

QUICK: dict[str, Any] = {
    "model": "test_finish:flat_net", "method": FSDP(rate_cs=0.1, rate_gm=0.4), "epochs": 2, "batch_size": 431, "lr": 0.05,
    "precision": "fp32", "channels_last": False, "device": "cpu", "progress": False,
}  # fmt: skip


def flat_net(num_classes: int, in_channels: int) -> nn.Module:
    """With a norm behind a linear layer, which takes no single image."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
        nn.Linear(96, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, num_classes),
    )  # fmt: skip


def batches(*parts: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part))) for part in parts]


def test_images_count_alike_in_short_batches() -> None:
    """128 images of mean 0 and 2 of mean 10."""
    torch.manual_seed(0)
    noise = torch.randn(128, 1, 6, 6)
    noise -= noise.mean()
    parts = (noise, torch.full((2, 1, 6, 6), 10.0) + noise[:2] - noise[:2].mean())
    norm = nn.BatchNorm2d(1)
    reestimate_norms(norm, batches(*parts))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert float(norm.running_mean) == pytest.approx(20 / 130, abs=1e-6)
    everything = torch.cat(parts)
    assert float(norm.running_var) == pytest.approx(float(everything.var()), rel=1e-5)  # within batches, and between them
    assert float(norm.running_var) == pytest.approx(1 + 100 * 128 * 2 / 130**2, rel=0.05)
    assert int(norm.num_batches_tracked or 0) == 2


@pytest.mark.parametrize("sizes", [(4, 1), (1, 4), (4, 4, 1), (2, 1, 1, 1), (1, 1)])
def test_a_single_image_is_no_batch(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(size, 3) for size in sizes]
    norm = nn.BatchNorm1d(3)
    reestimate_norms(norm, batches(*parts))
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, torch.cat(parts).mean(0))
    torch.testing.assert_close(norm.running_var, torch.cat(parts).var(0))


def test_one_image_alone_changes_nothing() -> None:
    norm = nn.BatchNorm1d(3)
    reestimate_norms(norm, batches(torch.randn(1, 3)))
    assert norm.running_mean is not None
    assert not norm.running_mean.any()


def test_a_norm_that_is_kept_or_does_not_run_stays() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    unused = nn.ModuleList([model, nn.BatchNorm1d(3)])
    unused.forward = model.forward  # type: ignore[method-assign]
    reestimate_norms(unused, batches(torch.randn(8, 3) + 5), keep=[model[1]])
    means = [norm.running_mean for norm in unused.modules() if isinstance(norm, nn.BatchNorm1d)]
    assert [bool(mean.any()) for mean in means] == [True, False, False]


def test_nothing_is_changed_by_a_network_that_fails() -> None:
    norm = nn.BatchNorm1d(3)
    with pytest.raises(RuntimeError):
        reestimate_norms(norm, batches(torch.randn(8, 3) + 5, torch.randn(8, 4)))
    assert norm.running_mean is not None
    assert not norm.running_mean.any()
    assert int(norm.num_batches_tracked or 0) == 0


# --- a whole run ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """1,294 images are three batches of 431 and one image."""
    return train(out=tmp_path_factory.mktemp("finish") / "run", **QUICK)


def test_a_last_batch_of_one_image(run: Run) -> None:
    assert run.data["train"] % run.config.batch_size == 1
    assert len(run.metrics) == 2


def test_a_finish_that_was_stopped_is_resumed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("append_metrics", "write_tensors"):
        out = tmp_path / place

        def broken(*_: object, **__: object) -> None:
            raise OSError("no space left")

        with monkeypatch.context() as patched:
            patched.setattr(end, place, broken)
            with pytest.raises(OSError, match="no space"):
                train(out=out, **QUICK)
        with monkeypatch.context() as patched:
            patched.setattr(engine.Loop, "run_epoch", None)  # nothing is trained again
            again = train(out=out, resume=True, progress=False, trust_code=True)
        assert again.result == run.result
        assert all(
            torch.equal(tensor, run.load_model().state_dict()[name]) for name, tensor in again.load_model().state_dict().items()
        )


def test_norms_that_cannot_be_estimated_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("Expected more than 1 value per channel")

    monkeypatch.setattr(end, "reestimate_norms", broken)
    done = train(out=tmp_path / "run", **QUICK | {"progress": None})
    assert done.result["norms_reestimated"] is False
    assert (
        "the norms stay as training left them: the network cannot estimate them afresh (Expected more" in capsys.readouterr().err
    )
