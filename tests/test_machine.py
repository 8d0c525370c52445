"""What the machine is: its instruction set, told beside every timing."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from slimnet.measure import machine
from slimnet.measure.costs import Target
from slimnet.measure.machine import cpu_model, environment, instructions, processor_flags

X86 = "processor\t: 0\nmodel name\t: A Processor: 3\nflags\t\t: fpu avx avx2 avx512f avx512_vnni\nmodel name\t: another\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd\n"


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("fpu avx avx2", "avx2"),
        ("avx2 avx_vnni", "avx_vnni"),
        ("avx2 avx512f avx512bw", "avx512"),
        ("avx2 avx512f avx_vnni avx512_vnni", "avx512_vnni"),
        ("avx2 avx512f avx512_vnni amx_tile amx_bf16 amx_int8", "amx_int8"),
        ("avx2 avx512f avx512_vnni amx_tile amx_bf16", "avx512_vnni"),
        ("fp asimd asimddp", "asimddp"),
        ("", platform.machine()),
    ],
)
def test_the_widest_set_is_named(flags: str, name: str) -> None:
    assert instructions(frozenset(flags.split())) == name


def test_cpuinfo_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert processor_flags() == frozenset() and cpu_model() == (platform.processor() or platform.machine())
    (tmp_path / "cpuinfo").write_text(ARM)
    assert processor_flags() == {"fp", "asimd"}
    (tmp_path / "cpuinfo").write_text(X86)
    assert processor_flags() == {"fpu", "avx", "avx2", "avx512f", "avx512_vnni"}
    assert (environment()["cpu"], environment()["instructions"]) == ("A Processor: 3", "avx512_vnni")


def test_costs_of_another_instruction_set_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clouds give processors of several generations one name."""
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(X86)
    wide = Target()
    (tmp_path / "cpuinfo").write_text(X86.replace(" avx512f avx512_vnni", ""))
    assert Target().machine["cpu"] == wide.machine["cpu"] and Target().name != wide.name
