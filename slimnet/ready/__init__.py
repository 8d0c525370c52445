"""Bundles that slimnet ships, ready to use.

`expressions`, `expressions-base` which is larger and a little better, and `expressions-tiny` which is small and less good, name
one of seven facial expressions in a grey face of 48×48 pixels; they were trained on FER2013, for research.
`expressions-votes`, as large as the first, learnt from FER+'s votes, too: it says more often what people see, and less often what
FER2013's label says.
`MODEL_CARD.md` beside each bundle says what it was trained on, how good it is, its limits and its terms.
"""

from __future__ import annotations

from pathlib import Path

from slimnet.errors import ArgumentError

_HERE = Path(__file__).parent


def ready_names() -> tuple[str, ...]:
    """Names of the bundles that are shipped."""
    return tuple(sorted(path.parent.name for path in _HERE.glob("*/model.json")))


def is_ready(folder: Path) -> bool:
    """Whether a folder is a bundle that is shipped, where it was installed."""
    return folder.resolve().parent == _HERE.resolve()


def ready_bundle(name: str) -> Path:
    """The folder of a shipped bundle.

    Raises:
        ArgumentError: if there is none of this name.

    Example:
        >>> from slimnet.predict import Predictor
        >>> Predictor(ready_bundle("expressions")).labels
        ('angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral')
    """
    if name not in ready_names():
        raise ArgumentError(f"slimnet ships no bundle {name!r}; it ships: {', '.join(ready_names())}.")
    return _HERE / name
