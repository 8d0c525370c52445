"""Hyper-parameters of methods that have a flag of ``slimnet train``: a method takes them from here, at a default of its own."""

from __future__ import annotations

from dataclasses import dataclass

from slimnet.fields import REQUIRED, Rule, documented, flag, is_number, one_of, optional, setting, whole, within
from slimnet.names import COUPLES, Couple
from slimnet.schedules import MIN_TAU

TAU = Rule("above 4/3", lambda value: is_number(value) and value > MIN_TAU, kind=float)


@documented
@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """What one name means in every method that has it, and its flag; the methods need torch, and this does not."""

    rate: float = setting(REQUIRED, within("(0, 1)"), "Share θ of filters that the method closes.")
    rate_cs: float = setting(REQUIRED, within("[0, 1)"), "Share θ_CS of filters that fsdp closes by class separability.")
    rate_gm: float = setting(
        REQUIRED, within("[0, 1)"), "Share θ_GM that fsdp closes by the geometric median; the two together in (0, 1)."
    )
    rate_norm: float = setting(
        REQUIRED,
        within("[0, 1)"),
        "The part of fpgm's rate that goes by smallest norm, at most the rate.",
    )
    sparsity: float = setting(
        REQUIRED,
        within("(0, 1)"),
        "Share that a sparse phase masks: of the weights of every layer (dsd), or the channels of every group (structured-dsd).",
    )
    tau: float = setting(REQUIRED, TAU, "¾ of the rate, or of the fading, is reached after 1/τ of the epochs.")
    attenuation: float = setting(REQUIRED, within("(0, 1]"), "The factor a of the filter scale ζ.")
    couple: Couple = setting(REQUIRED, one_of(*COUPLES), "Close residual streams as a whole, or each layer for itself.")
    faithful: bool = setting(REQUIRED, flag(), "The published recipe, weak points included.")
    finetune_epochs: int | None = setting(
        REQUIRED,
        optional(whole(0)),
        "Epochs at the end with the selection frozen and closed; without it the method's share of all.",
    )
