"""A run by the name of the method; what it closed was drawn, not of least norm."""

from toy_use import trained

run = trained("--method", "toy-random", "--rate", "0.4")
assert run.method.name == "toy-random"
assert run.metrics[-1]["closed_share"] > 0.3
