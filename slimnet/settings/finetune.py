"""What fine-tuning takes where nothing is said, and training takes something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FINETUNING: Mapping[str, Any] = {"lr": 0.05, "schedule": "cosine", "distill_weight": 0.9}
"""A large rate, down to zero, and the teacher's word before that of labels.

Le & Hua (ICLR 2021) found that what is trained on at a large rate ends better than at the last rate of the training before.
"""
ADAMW_LR, LEAST_TO_WARM_UP = 1e-3, 5
"""The learning rate with adamw; the epochs from which on an epoch of them warms up."""
