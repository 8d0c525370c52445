"""Random changes of training images."""

from __future__ import annotations

from dataclasses import dataclass, fields

from slimnet.fields import between, check, documented, flag, setting, whole_between

MOST_PADDING = 1024


@documented
@dataclass(frozen=True)
class Augment:
    """Random changes of training images, drawn for each image on its own.

    Raises:
        ArgumentError: if a value is out of its range.
    """

    crop_padding: int = setting(
        4,
        whole_between(0, MOST_PADDING),
        "Pixels of zeros put around an image before a crop of the old size is taken; 0 for none.",
    )
    flip: bool = setting(True, flag(), "Mirror half of the images, left to right.")
    rotate: float = setting(
        0.0, between(0, 180), "Largest angle of a rotation about the centre, in degrees; what comes in from outside is 0."
    )
    scale: float = setting(
        0.0, between(0, 0.9), "An image is enlarged by a factor from 1 − scale to 1 + scale, about its centre."
    )
    erase: float = setting(
        0.0, between(0, 1), "Share of the images of which a rectangle (2 to 20 % of the area) is set to the mean."
    )

    area: float = setting(
        0.0,
        between(0, 1),
        "Smallest part of the area of a random window, 3:4 to 4:3, that is brought to the image's size in place of the shift "
        "(0.08 is customary for ImageNet); 0 for none.",
    )

    @property
    def shift(self) -> int:
        """Pixels by which images are shifted, at most."""
        return 0 if self.area else self.crop_padding

    def __post_init__(self) -> None:
        check(self)


AUGMENTATIONS = tuple(item.name for item in fields(Augment))
