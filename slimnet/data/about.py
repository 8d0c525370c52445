"""What a model card has to say of a data set: its terms, and what a network trained on it cannot know."""

from __future__ import annotations

_FACES = (
    "It was trained on tight crops of single faces in grey: give it a face, not a scene, cropped as the data are.",
    "The labels say what people saw in a picture, and they often disagree; they do not say what the person felt.",
    "The pictures were gathered from the web: nothing is known of how ages, skin tones or genders are represented in them, and "
    "accuracy was not measured for any such group.",
    "Not for decisions about people.",
)
_FER2013 = "research use only (Goodfellow et al., Challenges in Representation Learning, ICONIP 2013)"

TERMS = {
    "digits": "CC BY 4.0 (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI)",
    "cifar10": "none stated by its authors; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    "cifar100": "none stated by its authors; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    "fer2013": _FER2013,
    "ferplus": f"{_FER2013}; votes: MIT (Barsoum et al., ICMI 2016)",
}
"""Name of a data set → under which terms its authors give it; a folder's are its owner's."""

LIMITS = {"fer2013": _FACES, "ferplus": _FACES}
"""Name of a data set → what a user of a network that was trained on it must know, a sentence each."""
