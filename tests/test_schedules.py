from __future__ import annotations

import doctest

import pytest

from slimnet import schedules
from slimnet.errors import ArgumentError
from slimnet.methods import FSDP
from slimnet.schedules import asymptotic, constant, fading, linear

# Published check values (T = 200, tau = 10, 0.1 CS + 0.4 GM): epoch, theta, zeta, theta_CS, theta_GM.
CHECKS = [
    (0, 0.0, 1.0, 0.0, 0.0),
    (1, 0.033646, 0.932708, 0.033646, 0.0),
    (5, 0.147062, 0.705877, 0.1, 0.047062),
    (10, 0.250869, 0.498262, 0.1, 0.150869),
    (20, 0.375868, 0.248264, 0.1, 0.275868),
    (40, 0.469183, 0.061635, 0.1, 0.369183),
    (60, 0.492349, 0.015301, 0.1, 0.392349),
    (100, 0.499529, 9.42e-4, 0.1, 0.399529),
    (199, 0.5, 0.0, 0.1, 0.4),
]


@pytest.mark.parametrize(("epoch", "theta", "zeta", "theta_cs", "theta_gm"), CHECKS)
def test_the_published_check_values(epoch, theta, zeta, theta_cs, theta_gm):
    rate = asymptotic(0.5, last_epoch=199)
    assert rate(epoch) == pytest.approx(theta, abs=1e-6)
    assert fading(rate, 0.5)(epoch) == pytest.approx(zeta, abs=1e-6)
    # FSDP splits the same rate, CS first; a layer of a million filters shows the two shares to 1e-6.
    by_cs, by_gm = FSDP(rate_cs=0.1, rate_gm=0.4).counts(1_000_000, epoch=epoch, last_epoch=199)
    assert by_cs == pytest.approx(theta_cs * 1e6, abs=1.5)
    assert by_gm == pytest.approx(theta_gm * 1e6, abs=2.5)


@pytest.mark.parametrize(("tau", "xi"), [(2, 1 / 3), (4, 0.253077), (8, 0.2500114), (10, 0.2500007)])
def test_xi_of_the_specification(tau, xi):
    assert schedules._solve_xi(tau) == pytest.approx(xi, abs=1e-6)


@pytest.mark.parametrize("tau", [1.3334, 1.34, 1.5, 2, 3.7, 10, 50, 1000])
@pytest.mark.parametrize("last_epoch", [1, 11, 199])
def test_the_curve_passes_through_its_anchors_and_never_falls(tau, last_epoch):
    rate = asymptotic(0.6, last_epoch, tau)
    assert rate(0) == 0
    assert rate(last_epoch / tau) == pytest.approx(0.45, abs=1e-6)
    assert rate(last_epoch) == 0.6
    assert rate(last_epoch - 1e-9) == pytest.approx(0.6, abs=1e-6)
    values = [rate(epoch) for epoch in range(last_epoch + 3)]
    assert values == sorted(values)


def test_a_scale_is_exactly_zero_at_the_end_and_starts_at_the_attenuation():
    zeta = fading(asymptotic(0.3, last_epoch=7), 0.3, attenuation=0.2)
    assert (zeta(0), zeta(7), zeta(9)) == (0.2, 0.0, 0.0)


def test_linear_and_constant():
    assert [linear(0.5, 4)(epoch) for epoch in (0, 1, 4, 9)] == [0, 0.125, 0.5, 0.5]
    assert constant(0.3)(17) == 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: asymptotic(0.5, 10, tau=4 / 3), "`tau` must be above 4/3, got 1.333"),
        (lambda: asymptotic(0.5, 10, tau=1.0), "`tau` must be above 4/3, got 1.0"),
        (lambda: asymptotic(0.5, 10, tau=float("nan")), "`tau` must be above 4/3, got nan"),
        (lambda: asymptotic(1.0, 10), r"`final` must be in \[0, 1\), got 1.0"),
        (lambda: asymptotic(-0.1, 10), r"`final` must be in \[0, 1\), got -0.1"),
        (lambda: asymptotic(0.5, 0), "`last_epoch` must be at least 1, got 0"),
        (lambda: linear(0.5, 0), "`last_epoch` must be at least 1, got 0"),
        (lambda: fading(constant(0.0), 0.0), "`final` must be more than 0"),
        (lambda: fading(constant(0.5), 0.5, attenuation=0.0), r"`attenuation` must be in \(0, 1\], got 0"),
    ],
)
def test_bad_arguments_are_named_with_their_value(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(schedules).failed == 0
