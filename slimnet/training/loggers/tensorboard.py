"""TensorBoard: ``tensorboard --logdir RUN/logs/tensorboard``."""

from __future__ import annotations

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from slimnet._clean import in_markdown
from slimnet.training.loggers.base import Begin, Logger


class TensorBoardLogger(Logger):
    """Scalars by epoch; settings and result as text too. A resumed run goes on in a file beside the first."""

    def __init__(self, begin: Begin) -> None:
        past = len(begin.history)
        self.writer = SummaryWriter(str(begin.folder), purge_step=past)
        if not past:
            self._text("settings", begin.settings)

    def epoch(self, number: int, numbers: Mapping[str, float]) -> None:
        """A point on each curve, on the disk at once."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, number)
        self.writer.flush()

    def result(self, numbers: Mapping[str, float]) -> None:
        """Curves of a single point, ``result/…``, at the best epoch."""
        for name, value in numbers.items():
            self.writer.add_scalar(f"result/{name}", value, int(numbers["best_epoch"]))
        self._text("result", numbers)

    def close(self, *, finished: bool) -> None:
        """Write what is left."""
        self.writer.close()

    def _text(self, tag: str, values: Mapping[str, str | float]) -> None:
        """What TensorBoard shows as text: it reads Markdown and HTML."""
        rows = "\n".join(f"| {in_markdown(name)} | {in_markdown(value)} |" for name, value in values.items())
        self.writer.add_text(tag, f"| name | value |\n| --- | --- |\n{rows}")
