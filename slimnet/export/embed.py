"""Whether the network with its preprocessing inside gives what the network gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from slimnet.export.parity import ParityReport

EMBEDDED_PLAIN = "embedded vs onnx"


def check_embedded(
    plain: bytes, embedded: bytes, preprocessing: Mapping[str, Any], real: Tensor | None, *, temperature: float = 1.0
) -> ParityReport:
    """Compare the probabilities of both files, on random and on real pictures.

    Softmax makes no difference larger, so that 1e-5 of the largest logit, divided by the temperature, may lie between two
    probabilities too.

    Args:
        plain: the ONNX file that was given to :func:`slimnet.onnx.embed.embed`.
        embedded: what it gave back.
        preprocessing: between the two.
        real: normalised pictures (n, C, H, W), or None.
        temperature: what the logits are divided by.
    """
    import torch

    from slimnet.export.gate import BATCHES, onnx_run
    from slimnet.export.parity import SINGLE_TOLERANCE, ParityReport, compare

    logits, probabilities = onnx_run(plain), onnx_run(embedded)
    mean, std = (torch.tensor(preprocessing[key]) for key in ("mean", "std"))
    generator, size = torch.Generator().manual_seed(0), (*preprocessing["size"], preprocessing["channels"])
    batches = [("random", (torch.randint(0, 256, (batch, *size), generator=generator, dtype=torch.uint8),)) for batch in BATCHES]
    if real is not None:
        pictures = (real.permute(0, 2, 3, 1) * std + mean).mul(255).round().clamp(0, 255).byte()
        batches.append(("real", (pictures,)))

    def plainly(inputs: tuple[Tensor, ...]) -> Tensor:
        return logits((((inputs[0] / 255 - mean) / std).permute(0, 3, 1, 2).contiguous(),)) / temperature

    scale = max(1.0, *(float(plainly(inputs).abs().max()) for _, inputs in batches))
    tolerance = SINGLE_TOLERANCE * scale
    return ParityReport(
        compare(lambda inputs: plainly(inputs).softmax(1), probabilities, batches, pair=EMBEDDED_PLAIN, tolerance=tolerance)
    )
