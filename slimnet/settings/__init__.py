"""What can be set, each setting once: default, rule and words.

Flags, rows of the documentation, keys of recipes and the errors for wrong values come from its line. Beside errors, fields, names
and schedules only the standard library is imported: ``--help`` needs no torch.
"""

from slimnet.settings.augment import AUGMENTATIONS, Augment
from slimnet.settings.budget import BUDGETS, Budget
from slimnet.settings.finetune import ADAMW_LR, FINETUNING, LEAST_TO_WARM_UP
from slimnet.settings.methods import MethodSettings
from slimnet.settings.precisions import PrecisionSettings
from slimnet.settings.train import A_METHOD, NORMALISATION, TrainSettings, check_names, mean_and_std
from slimnet.settings.unused import does_nothing, unused_precision_settings

__all__ = [
    "ADAMW_LR",
    "AUGMENTATIONS",
    "A_METHOD",
    "BUDGETS",
    "FINETUNING",
    "LEAST_TO_WARM_UP",
    "NORMALISATION",
    "Augment",
    "Budget",
    "MethodSettings",
    "PrecisionSettings",
    "TrainSettings",
    "check_names",
    "does_nothing",
    "mean_and_std",
    "unused_precision_settings",
]
