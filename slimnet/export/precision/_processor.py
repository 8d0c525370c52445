"""Whether the processor adds four 8-bit products without overflow."""

from __future__ import annotations

import platform

from slimnet.measure.machine import processor_flags

VNNI = frozenset({"avx512_vnni", "avx_vnni"})
"""Flags of processors with instructions that sum products of bytes in 32 bits."""
_X86 = ("x86_64", "amd64", "i386", "i686")


def needs_reduced_range(flags: frozenset[str] | None = None, *, machine: str | None = None) -> bool:
    """Whether weights should be quantised to 7 bits instead of 8 for this processor.

    Without VNNI an x86 processor adds pairs of byte products in 16 bits, and saturates where both are large. ARM does not.

    Args:
        flags: of the processor; default: as /proc/cpuinfo has them. Where they are not to be had, 7 bits are the safe choice.
        machine: its architecture, as ``platform.machine`` names it.
    """
    if (machine or platform.machine()).lower() not in _X86:
        return False
    return not VNNI & (processor_flags() if flags is None else flags)
