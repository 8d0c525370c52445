"""Which part of ONNX Runtime runs a network, and whether it really does: the runtime falls back to the CPU in silence."""

from __future__ import annotations

from typing import Any

from slimnet.errors import MeasureError
from slimnet.fields import one_of

CPU = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""Our name → the runtime's."""
ON_GPU = ("cuda", "tensorrt")
_PACKAGES = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}


def runtime_version() -> str:
    """Of ONNX Runtime, whichever of its packages is installed."""
    import onnxruntime

    return str(onnxruntime.__version__)


def provider_options(provider: str, threads: int) -> list[tuple[str, dict[str, str]]]:
    """What to open a session with: the provider, and what takes over nodes that it cannot run.

    Raises:
        ArgumentError: if the provider is unknown.
        MeasureError: if this build of ONNX Runtime lacks it.
    """
    import onnxruntime

    one_of(*PROVIDERS).check("`provider`", provider)
    wanted, held = PROVIDERS[provider], onnxruntime.get_available_providers()
    if wanted not in held:
        raise MeasureError(
            f"this ONNX Runtime has no {wanted} (it has {', '.join(held)}): "
            f"install {_PACKAGES.get(provider, 'onnxruntime')} in the place of the onnxruntime that is installed."
        )
    chain = {"openvino": [(wanted, {"device_type": "CPU", "num_of_threads": str(threads), "num_streams": "1"})]}.get(
        provider, [(wanted, {})]
    )
    cuda = PROVIDERS["cuda"]
    if provider == "tensorrt" and cuda in held:
        chain.append((cuda, {}))
    return chain if wanted == CPU else [*chain, (CPU, {})]


def check_provider(session: Any, provider: str, name: str) -> None:
    """Whether a session runs on what it was opened for.

    Raises:
        MeasureError: if the runtime has fallen back to another provider.
    """
    used = session.get_providers()[0]
    if used != PROVIDERS[provider]:
        raise MeasureError(
            f"{name} would run on {used}: ONNX Runtime could not start {PROVIDERS[provider]} on this machine "
            "(look at its device, driver and libraries)."
        )
