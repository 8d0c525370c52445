"""The recipes that slimnet comes with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from slimnet.data import data_names
from slimnet.methods import FSDP, Method
from slimnet.models import model_names
from slimnet.recipes import load_recipe, read_recipe, recipe_names, recipe_text
from slimnet.training import TrainConfig
from slimnet.training.optim import learning_rate

PROMISED = {
    *(f"fsdp-resnet{depth}-cifar10" for depth in (20, 56, 110)),
    "fpgm-mix-resnet20-cifar10",
    "dsd-vggface-fer2013",
    "dsd-fsdp-vgg13-fer2013",
    "fsdp-resnet18-fer2013",
    "fsdp-resnet50-imagenet",
    "fsdp-resnet56-imagenet32",
}
OF_THE_MACHINE = {"data_dir", "init", "teacher", "device", "num_workers", "download", "compile"}
PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"


def test_promised_recipes_are_there() -> None:
    assert set(recipe_names()) >= PROMISED


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_describes_a_run_that_exists(name: str) -> None:
    recipe = load_recipe(name)
    config = TrainConfig(**recipe.settings)
    assert config.model in model_names()
    assert config.data in data_names()
    assert isinstance(config.method, Method)
    assert not recipe.settings.keys() & OF_THE_MACHINE
    assert recipe.settings.keys() == {*recipe.train, "method"}
    assert json.loads(json.dumps(recipe.as_dict()))["train"] == recipe.train


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_says_what_to_expect(name: str) -> None:
    recipe = read_recipe(name)
    assert re.search(r"\d\d\.\d\d %|no published figure could be checked", recipe.expected)
    assert len(recipe.expected) <= 72  # it stands in a table
    assert re.search(r"\b(19|20)\d\d\b", recipe.about)  # of a paper
    assert max(map(len, recipe_text(name).splitlines())) <= 132


@pytest.mark.parametrize("name", [name for name in recipe_names() if re.fullmatch(r"fsdp-resnet\d+-cifar10", name)])
def test_published_setting_of_fsdp(name: str) -> None:
    config = TrainConfig(**load_recipe(name).settings)
    assert [round(learning_rate(config, epoch), 6) for epoch in (0, 1, 59, 60, 120, 160, 199)] == [
        *(0.01, 0.1, 0.1, 0.02, 0.004, 0.0008, 0.0008),
    ]
    method = config.method
    assert isinstance(method, FSDP)
    assert (config.epochs, config.batch_size, config.momentum, config.weight_decay) == (200, 128, 0.9, 5e-4)
    assert (method.rate_cs, method.rate_gm, method.tau, method.attenuation, method.couple) == (0.1, 0.4, 10.0, 1.0, "none")


@pytest.mark.parametrize("name", recipe_names())
def test_normalisation_and_leaked_images(name: str) -> None:
    """From scratch with the data's own mean; ImageNet's for ImageNet, and where the first weights were trained with it."""
    config, needs = TrainConfig(**load_recipe(name).settings), load_recipe(name).needs
    own = config.normalise == "dataset" or (config.normalise is None and config.data in ("fer2013", "ferplus"))
    assert own or "init" in needs or name == "fsdp-resnet50-imagenet"
    assert config.data_options == ({"drop_leaked": True} if config.data in ("fer2013", "ferplus") else {})


def test_the_setting_of_vgg_face() -> None:
    """Frozen convolutions, dropout 0.7, pixels divided by 0.1, D-S-D-S-D at 60 % on the fully connected layers."""
    config = TrainConfig(**load_recipe("dsd-vggface-fer2013").settings)
    assert (config.freeze, config.dropout, config.normalise) == (("conv_*",), 0.7, "0,0.1")
    assert (config.lr, config.batch_size, config.momentum, config.image_size) == (1e-4, 128, 0.9, 224)
    method = config.method.as_dict()
    assert (method["phases"], tuple(method["lengths"]), method["sparsity"]) == ("dsdsd", (200, 50, 50, 50, 50), 0.6)


def test_the_setting_of_imagenet32() -> None:
    config = TrainConfig(**load_recipe("fsdp-resnet56-imagenet32").settings)
    assert [round(learning_rate(config, epoch), 6) for epoch in (0, 9, 10, 20, 30)] == [0.01, 0.01, 0.001, 0.0001, 0.00001]
    assert (config.epochs, config.batch_size, config.method.as_dict()["attenuation"]) == (40, 128, 0.2)


def test_page_lists_what_the_files_say() -> None:
    rows = dict(re.findall(r"^\| `([\w.-]+-[\w.-]+)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows.keys() == set(recipe_names())
    for name, row in rows.items():
        recipe = read_recipe(name)
        model, data, _, epochs, expected = row.split(" | ")
        said = (recipe.train["model"], recipe.train["data"], str(recipe.train["epochs"]), recipe.expected)
        assert (model, data, epochs, expected) == said


def test_page_shows_a_recipe_that_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.toml").write_text(example)
    assert load_recipe(tmp_path / "mine.toml").settings["model"]
