"""Masks in anyone's training loop: ``attach`` puts a method on a network, hooks do what it does every step."""

from slimnet.attached.attached import Attached, close_average
from slimnet.attached.attaching import attach
from slimnet.attached.target import check_shut, check_target, met_already, refuse_widths, widths_for

__all__ = ["Attached", "attach", "check_shut", "check_target", "close_average", "met_already", "refuse_widths", "widths_for"]
