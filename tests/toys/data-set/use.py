"""A run on the data set by its name; the network has an output for each class."""

from toy_use import trained

run = trained("--data", "toy-squares", "--set", "train_fraction=1")
assert run.classes == ("left", "right")
assert run.data["name"] == "toy-squares"
