"""The slim network of a run for other runtimes than ONNX Runtime: converted, run there, and kept only where it is right."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slimnet.commands.precisions import answered, answers, calibration_images
from slimnet.errors import ArgumentError, ExportError, MeasureError, ParityError, SlimnetError
from slimnet.files import scratch_folder
from slimnet.names import FORMATS as NAMES
from slimnet.progress import Say, each
from slimnet.runtimes import FORMATS, Format, check_installed
from slimnet.settings import PrecisionSettings

if TYPE_CHECKING:
    from torch import Tensor

    from slimnet.bundle.bundle import FormatFiles, Formats
    from slimnet.bundle.write import Check
    from slimnet.data import Dataset, Split
    from slimnet.export.parity import ParityReport
    from slimnet.export.precision import Evaluated
    from slimnet.runtimes.files import RuntimeClassifier


def check_formats(names: Sequence[str], precisions: Sequence[str]) -> None:
    """Refuse unknown formats, and those whose converter is not installed.

    Raises:
        ArgumentError: naming the known ones.
        SlimnetError: naming the extra.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ArgumentError(f"unknown format {unknown[0]!r}; known: {', '.join(NAMES)}.")
    check_installed(names, ("fp32", *precisions))


@dataclass(eq=False)
class FormatStep:
    """Makes the formats of an exported network; given to :func:`slimnet.export.write_bundle`.

    Attributes:
        data: what the network was trained on.
        names: of `slimnet.names.FORMATS`; ``onnx`` is always there.
        settings: the further precisions, and how they are made.
        say: told what is being done.

    Raises:
        ArgumentError: if a name is unknown.
        SlimnetError: if a converter is not installed.
    """

    data: Dataset
    names: Sequence[str]
    settings: PrecisionSettings
    say: Say
    _fp32: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        check_formats(self.names, self.settings.further)

    def __call__(self, fp32: bytes, check: Check) -> Formats:
        """Convert, compare, and evaluate what is not fp32 on the validation split, then on the test split."""
        from slimnet.bundle.bundle import Formats

        self._fp32 = fp32
        chosen = [FORMATS[name] for name in dict.fromkeys(self.names) if name in FORMATS]
        made: dict[str, dict[str, FormatFiles]] = {}
        report: dict[str, dict[str, dict[str, Any]]] = {}
        for form in each(chosen, "converting", len(chosen), "formats"):
            self.say(f"converting to {form.name}")
            report[form.name] = {}
            for precision in ("fp32", *self.settings.further):
                found, told = self._tried(form, precision, check)
                report[form.name][precision] = told
                if found is not None:
                    made.setdefault(form.name, {})[precision] = found
                elif precision == "fp32":
                    break
        return Formats(made, report)

    def _tried(self, form: Format, precision: str, check: Check) -> tuple[FormatFiles | None, dict[str, Any]]:
        """The files, if they are to be written; what ``report.json`` says in any case."""
        from slimnet.bundle.bundle import FormatFiles

        try:
            files, about = self._made(form, precision, check)
        except (ExportError, MeasureError) as error:
            return None, {"written": False, "reason": str(error)}
        return FormatFiles(files, about), {"written": True, "reason": None, **about}

    def _made(self, form: Format, precision: str, check: Check) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The files and what is said of them.

        Raises:
            ExportError: if they are not to be written: cannot be made, or compute something else.
        """
        from slimnet.runtimes.base import runtime
        from slimnet.runtimes.files import classifier, convert

        if precision not in form.precisions:
            raise ExportError(f"{form.name} is made in {' and '.join(form.precisions)} alone.")
        files = convert(form, self._fp32, precision, self._samples if precision == "int8" else None)
        with scratch_folder("format") as folder:
            paths = [folder / name for name in files]
            for path, data in zip(paths, files.values(), strict=True):
                path.write_bytes(data)
            try:
                network = classifier(form.runtime, paths, self.data.image_shape)
                judged = self._exact(network, form, check) if precision == "fp32" else self._weighed(network)
            except SlimnetError as error:  # no path of this machine belongs into a bundle
                raise ExportError(str(error).replace(f"{folder}{os.sep}", "")) from None
        return files, {"runtime": {"name": form.runtime, "version": runtime(form.runtime).version()}, **judged}

    def _exact(self, network: RuntimeClassifier, form: Format, check: Check) -> dict[str, Any]:
        """fp32 must give what the network gives."""
        found: ParityReport = check(form.runtime, lambda inputs: _logits(network)(inputs[0]))
        if not found.passed:
            raise ParityError(f"{found.worst}.")
        return {"accuracy": None, "agreement": None, "parity": found.worst.as_dict()}

    def _weighed(self, network: RuntimeClassifier) -> dict[str, Any]:
        """Another precision may lose a little accuracy on the validation split, as in ONNX."""
        found, base = self._answers(network, self.data.val), self._base_val
        drop, most = base.accuracy - found.accuracy, self.settings.max_drop
        figures = f"{found.accuracy:.2%} against {base.accuracy:.2%} of fp32 on the validation split"
        if drop > most + 1e-12:
            raise ExportError(f"it loses {100 * drop:.2f} points of accuracy ({figures}), more than the {100 * most:g} allowed.")
        tested = self._answers(network, self.data.test)
        return {
            "accuracy": {"split": self.data.tested_on, "count": len(tested.predictions), "value": tested.accuracy},
            "agreement": tested.agreement(self._base_test),
            "validation": {"count": len(found.predictions), "accuracy": found.accuracy, "fp32_accuracy": base.accuracy},
        }

    def _answers(self, network: RuntimeClassifier, split: Split) -> Evaluated:
        return answered(_logits(network), split, self.data)

    @cached_property
    def _samples(self) -> Any:
        return calibration_images(self.data, self.settings.calibration, self.settings.seed).numpy()

    @cached_property
    def _base_val(self) -> Evaluated:
        return answers(self._fp32, self.data.val, self.data)

    @cached_property
    def _base_test(self) -> Evaluated:
        return answers(self._fp32, self.data.test, self.data)


def _logits(network: RuntimeClassifier) -> Callable[[Tensor], Tensor]:
    import torch

    return lambda images: torch.from_numpy(network.run(images.cpu().numpy()))
