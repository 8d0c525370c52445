"""slimnet recipes, and slimnet train --recipe: what a file may say, what overrides it, and what bad input gets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.cases import HEAVY
from command import slimnet_cli
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.methods import FSDP, SFP
from slimnet.recipes import Recipe, load_recipe, read_recipe, recipe_names
from slimnet_cli import cli
from test_files import contents

MINE = """
about = "A small network, for a test."
expected = "nothing"

[train]
model = "resnet20"
epochs = 2
batch_size = 256
precision = "fp32"
channels_last = false
data_options = {}
augment = { flip = false, rotate = 5 }
milestones = [1]

[method]
name = "fsdp"
rate_cs = 0.0
rate_gm = 0.5
tau = 4.0
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of one's own in an otherwise empty current directory."""
    monkeypatch.chdir(tmp_path)
    path = Path("mine.toml")
    path.write_text(MINE)
    return path


# --- what slimnet comes with ----------------------------------------------------------------------------------------------


# --- what a file may say --------------------------------------------------------------------------------------------------


def test_settings_are_ready_for_train(mine: Path) -> None:
    settings = load_recipe(mine).settings
    assert settings["method"] == FSDP(rate_cs=0.0, rate_gm=0.5, tau=4.0)
    assert settings["milestones"] == (1,)
    assert settings.keys() == {*tomllib.loads(MINE)["train"], "method"}


def test_a_recipe_leaves_the_teacher_of_its_views_to_its_user(mine: Path) -> None:
    mine.write_text(changed("epochs = 2", 'epochs = 2\nteacher_views = "flip"'))
    assert load_recipe(mine).settings["teacher_views"] == "flip"
    done = slimnet_cli(*"train --recipe mine.toml --out o".split())
    assert done.status == 1 and "`teacher_views` is for a teacher: give `teacher`, or leave it out." in done.err


def changed(old: str, new: str) -> str:
    assert MINE.count(old) == 1
    return MINE.replace(old, new)


BAD = [
    (changed("about", "abuot"), "unknown key `abuot`: did you mean `about`"),
    (changed("[train]", "[training]"), "unknown key `training`: did you mean `train`"),
    ("epochs = 3\n" + MINE, r"unknown key `epochs`; known: about, expected, .*\. Settings go into \[train\]\."),
    (changed("epochs", "epoch"), "unknown setting `epoch`: did you mean `epochs`"),
    (changed("batch_size = 256", "batchsize = 256"), "unknown setting `batchsize`: did you mean `batch_size`"),
    (changed("rate_gm = 0.5", "rate_mg = 0.5"), "method 'fsdp' has no hyper-parameter 'rate_mg': did you mean `rate_gm`"),
    (changed('"fsdp"', '"fdsp"'), "unknown method 'fdsp'; known: .* fsdp,"),
    (changed('name = "fsdp"\n', ""), r"\[method\] must have a `name`, it is missing"),
    (changed('name = "fsdp"', "name = 3"), r"\[method\] must have a `name`, got 3"),
    (changed('model = "resnet20"', 'method = "fsdp"'), r"`method` stands in \[train\]: it has a table of its own"),
    (changed('model = "resnet20"\n', ""), "the settings name no `model`"),
    (changed("epochs = 2", "epochs = 0"), "`epochs` must be a whole number of at least 1, got 0"),
    (changed("epochs = 2", 'epochs = "2"'), "`epochs` must be a whole number of at least 1, got '2'"),
    (changed("epochs = 2", "epochs = 2026-01-01"), "`epochs` must be a whole number of at least 1, got datetime"),
    (changed("rate_gm = 0.5", "rate_gm = 1.5"), r"`rate_gm` must be in \[0, 1\), got 1\.5"),
    (changed("rate_gm = 0.5", 'rate_gm = "half"'), r"`rate_gm` must be in \[0, 1\), got 'half'"),
    (changed("tau = 4.0", "finetune_epochs = 2"), "`finetune_epochs` must be less than 2 epochs, got 2"),
    (changed("about", 'needs = ["int"]\nabout'), "unknown setting `int`: did you mean `init`"),
    (changed("about", "needs = 3\nabout"), "`needs` must be a list of names, got 3"),
    (changed('expected = "nothing"\n', ""), "`expected` must be a text, it is missing"),
    (changed('"nothing"', '""'), "`expected` must be a text, got ''"),
    ("train = 3\n" + MINE.partition("[train]")[0], "`train` must be a table, got 3"),
    ("", "`about` must be a text, it is missing"),
    ("about = ", r"is not readable TOML: Invalid value \(at end of document\)"),
    (changed("epochs = 2", "epochs 2"), r"is not readable TOML: Expected '=' after a key .*\(at line \d+, column \d+\)"),
    (MINE + "tau = 5.0\n", r"is not readable TOML: Cannot overwrite a value \(at"),
    ("a = " + "[" * 10_000, "is not readable TOML: "),
    ("a = " + "1" * 10_000, "is not readable TOML: Exceeds the limit"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_file_gets_one_line(text: str, message: str, mine: Path) -> None:
    mine.write_text(text)
    before = contents(Path())
    with pytest.raises(FileFormatError, match=f"^mine.toml:? .*{message}"):
        load_recipe(mine)
    for command in (("train", "--recipe", mine, "--out", "new"), ("recipes", mine)):
        done = slimnet_cli(*command)
        assert (done.status, done.out) == (1, "")
        assert re.fullmatch(r"slimnet: error: mine\.toml:? [^\n]+\n", done.err), done.err
        assert re.search(message, done.err), done.err
    assert contents(Path()) == before


def test_file_that_cannot_be_read(mine: Path) -> None:
    mine.write_bytes(b"about = '\xff'")
    for name, reason in (("mine.toml", "is not readable TOML"), ("no.toml", "does not exist"), ("./", "is not readable TOML")):
        with pytest.raises(FileFormatError, match=reason):
            load_recipe(name)


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"'fsdp-resnet20-cifar'\. Did you mean fsdp-resnet20-cifar10\? Known: dense-vgg9"):
        load_recipe("fsdp-resnet20-cifar")


# --- slimnet recipes ------------------------------------------------------------------------------------------------------


def test_list_shows_every_recipe() -> None:
    done = slimnet_cli("recipes")
    assert done.status == 0
    _, rule, *rows = done.out.splitlines()
    assert set(rule) == {"-", " "}
    cells = [re.split(r"  +", row) for row in rows]
    assert [row[0] for row in cells] == list(recipe_names())
    shown = {row[0]: row[1:] for row in cells}
    assert shown["dsd-fsdp-vgg13-fer2013"][:4] == ["vgg13_face", "fer2013", "dsd + fsdp", "200"]
    assert all(row[5] == read_recipe(row[0]).expected for row in cells)


@pytest.mark.parametrize("name", recipe_names())
def test_show_is_toml_and_the_command_exists(name: str) -> None:
    done = slimnet_cli("recipes", name)
    assert done.status == 0
    assert Recipe.from_dict(name, tomllib.loads(done.out)) == read_recipe(name)
    line = done.out.splitlines()[0].removeprefix("# ")
    assert line.startswith(f"slimnet train --recipe {name} --data-dir DIR ")
    flags = {flag for parameter in cli.commands["train"].params for flag in parameter.opts}
    assert set(re.findall(r"--[\w-]+", line)) <= flags
    assert all(f"--{need} FILE" in line for need in read_recipe(name).needs)


def test_json_of_the_list_and_of_one() -> None:
    of_all, of_one = slimnet_cli("recipes", "--json").json, slimnet_cli("recipes", "fsdp-resnet20-cifar10", "--json").json
    assert [recipe["name"] for recipe in of_all["recipes"]] == list(recipe_names())
    assert of_one in of_all["recipes"]
    assert of_one["command"] == "slimnet train --recipe fsdp-resnet20-cifar10 --data-dir DIR --out runs/fsdp-resnet20-cifar10"
    assert of_one["method"]["rate_gm"] == 0.4


def test_own_file_is_shown_with_its_command(mine: Path) -> None:
    assert slimnet_cli("recipes", mine).out.startswith("# slimnet train --recipe mine.toml --out runs/mine\n")


@pytest.mark.parametrize("terminal", [True, False])
def test_own_file_moves_no_cursor_and_comes_whole_into_a_file(
    terminal: bool, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "# \u202ered \x9b31m\u2028forged\r\n\t# more\n" + MINE.strip()
    mine.write_bytes(text.encode())
    monkeypatch.setattr("slimnet_cli.recipes.sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: terminal)))
    shown = slimnet_cli("recipes", mine).out.split("\n", 2)[2]
    if terminal:
        assert shown.splitlines()[:2] == ["# \\u202ered \\x9b31m\\u2028forged", "        # more"]
        assert shown.split("# more\n")[1] == MINE.strip() + "\n"
    else:
        assert shown == text.replace("\r\n", "\n") + "\n"


LIGHT = f"""
import contextlib, io, sys
from slimnet_cli import _run
with contextlib.redirect_stdout(io.StringIO()):
    assert _run(["recipes"]) == _run(["recipes", "fsdp-resnet50-imagenet"]) == _run(["recipes", "--json"]) == 0
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_list_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


# --- slimnet train --recipe -----------------------------------------------------------------------------------------------


@pytest.fixture
def asked(mine: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks `train` for; nothing is trained."""
    found: dict[str, Any] = {}

    def note(**settings: Any) -> None:
        found.update(settings)
        raise KeyError(found)  # no error of slimnet's own: it goes through the command line

    def run(*arguments: str) -> dict[str, Any]:
        found.clear()
        with pytest.raises(KeyError):
            slimnet_cli("train", *arguments, "--out", "o")
        return dict(found)

    monkeypatch.setattr("slimnet.training.train", note)
    Path("D").mkdir()
    Path("w.pth").touch()
    return {"for": run}


def test_flags_and_sets_override_a_recipe(mine: Path, asked: dict[str, Any]) -> None:
    plain = asked["for"]("--recipe", "mine.toml")
    assert {name: plain[name] for name in load_recipe(mine).settings} == load_recipe(mine).settings
    found = asked["for"](*"--recipe mine.toml --epochs 7 --set batch_size=64 --model resnet8 --lr 0.3".split())
    assert {name for name in found if found[name] != plain.get(name)} == {"epochs", "batch_size", "model", "lr"}
    assert (found["epochs"], found["batch_size"], found["model"], found["lr"]) == (7, 64, "resnet8", 0.3)


def test_flags_of_the_method_leave_the_rest_of_it(mine: Path, asked: dict[str, Any]) -> None:
    found = asked["for"](*"--recipe mine.toml --rate-gm 0.3 --set cs_every=4".split())
    assert found["method"] == FSDP(rate_cs=0.0, rate_gm=0.3, tau=4.0, cs_every=4)


def test_another_method_replaces_it_wholly(mine: Path, asked: dict[str, Any]) -> None:
    assert asked["for"](*"--recipe mine.toml --method sfp --rate 0.3".split())["method"] == SFP(rate=0.3)
    assert asked["for"](*"--recipe mine.toml --method fsdp --rate-gm 0.3".split())["method"] == FSDP(rate_gm=0.3)


def test_switches_are_overridden_one_by_one(mine: Path, asked: dict[str, Any]) -> None:
    found = asked["for"](*"--recipe mine.toml --augment rotate=0 --drop-leaked".split())
    assert found["augment"] == {"flip": False, "rotate": 0}
    assert found["data_options"] == {"drop_leaked": True}


def test_faithful_recipe_is_opened_up(asked: dict[str, Any], mine: Path) -> None:
    found = asked["for"](*"--recipe fsdp-resnet20-cifar10 --data-dir D --set faithful=false".split())
    assert (found["method"].couple, found["method"].mask_norm, found["data_dir"]) == ("stream", True, "D")


def test_recipe_asks_for_what_it_needs(mine: Path, asked: dict[str, Any]) -> None:
    done = slimnet_cli(*"train --recipe dsd-vggface-fer2013 --data-dir D --out o".split())
    assert done.status == 2
    assert "Missing option '--init': the recipe dsd-vggface-fer2013 needs it." in done.err
    assert asked["for"](*"--recipe dsd-vggface-fer2013 --init w.pth".split())["init"] == "w.pth"
    assert asked["for"](*"--recipe dsd-vggface-fer2013 --set init=null".split())["init"] is None


USAGE = [
    ("train --recipe mine.toml", 2, "Missing option '--out'"),
    ("train --recipe mine.toml --resume --out o", 2, "--resume goes on with a run by its own settings: leave --recipe out"),
    ("train --recipe mine.toml --set tua=3 --out o", 1, "`tua` is neither a hyper-parameter of fsdp nor .* did you mean `tau`"),
    ("train --recipe mine.toml --rate 0.3 --out o", 1, "method 'fsdp' has no hyper-parameter 'rate'"),
    ("train --recipe mine --out o", 1, "unknown recipe 'mine'.* or a file that ends in .toml"),
    ("recipes mine", 1, "unknown recipe 'mine'"),
]


@pytest.mark.parametrize(("command", "status", "message"), USAGE)
def test_wrong_usage(command: str, status: int, message: str, mine: Path) -> None:
    done = slimnet_cli(*command.split())
    assert (done.status, done.out) == (status, "")
    assert re.search(message, done.err), done.err
    assert [path.name for path in Path().iterdir()] == ["mine.toml"]


def test_training_by_a_recipe(mine: Path) -> None:
    done = slimnet_cli(*"train --recipe ./mine.toml --epochs 1 --rate-gm 0.25 --out run --quiet --json".split())
    assert done.status == 0, done.err
    assert done.json["test_images"] == 359
    train = json.loads(Path("run/config.json").read_text())["train"]
    assert (train["model"], train["epochs"], train["batch_size"], train["augment"]) == (
        *("resnet20", 1, 256, {"flip": False, "rotate": 5}),
    )
    assert (train["method"]["rate_cs"], train["method"]["rate_gm"], train["method"]["tau"]) == (0.0, 0.25, 4.0)
