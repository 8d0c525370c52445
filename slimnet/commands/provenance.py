"""Where the network of a bundle comes from: no path and no time in it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from slimnet.files.untrusted import member

if TYPE_CHECKING:
    from slimnet.training import Run


def provenance(run: Run) -> dict[str, Any]:
    """Recipe, network, method, data, epochs and seed of a run, and the SHA-256 of its ``config.json``."""
    settings = run.config.as_dict()
    return {
        "recipe": recipe_of(settings),
        "model": run.config.model,
        "method": run.method.as_dict()["name"],
        "data": run.data.get("name", run.config.data),
        "epochs": run.config.epochs,
        "seed": run.config.seed,
        "run_config_sha256": hashlib.sha256(member(run.path, "config.json").read_bytes()).hexdigest(),
    }


def recipe_of(settings: dict[str, Any]) -> str | None:
    """The recipe of slimnet whose every setting a run has; None where there is no such recipe.

    A run does not say by which recipe it was started. A setting of ``"auto"`` fits any value: a run holds what was chosen.
    """
    from slimnet.recipes import load_recipe, recipe_names
    from slimnet.training import TrainConfig

    fitting = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        wanted = TrainConfig.from_dict({**recipe.train, "method": recipe.method}).as_dict()
        keys = [key for key in (*recipe.train, "method") if wanted[key] != "auto"]
        if all(settings.get(key) == wanted[key] for key in keys):
            fitting[name] = len(keys)
    return max(fitting, key=lambda name: fitting[name]) if fitting else None


def about_data(run: Run) -> dict[str, Any]:
    """What a model card says of the data: name, sizes of the splits, notes, terms and limits."""
    from slimnet.data.about import about

    name = str(run.data.get("name", run.config.data))
    said = about(name, run.config.data_options if run.config.soft_labels else None)
    sizes: dict[str, Any] = {split: run.data[split] for split in ("train", "val", "test") if split in run.data}
    return {
        "name": name,
        **sizes,
        "notes": list(run.data.get("notes", ())),
        "terms": said.terms,
        "limits": list(said.limits),
    }
