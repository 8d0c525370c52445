"""What data holds is shown on a terminal, never obeyed."""

from __future__ import annotations

import ctypes
import io
import json
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

import slimnet
import slimnet_cli.predict
from command import slimnet_cli as run_command
from slimnet._clean import in_markdown
from slimnet._foreign import no_output
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError, SlimnetWarning, WriteError
from slimnet.terminal import on
from slimnet_cli._app import _explain, _interrupted, _show_warning
from slimnet_cli._clean import clean, shown_json
from slimnet_cli._emit import emit_json, emit_table, say
from slimnet_cli._interrupt import interrupts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("snake_case é 9 (a-b)", "snake_case é 9 (a-b)"),
        ("<b> & [x](y)", "&#60;b&#62; &#38; &#91;x&#93;(y)"),
        (
            "a|b `c` *d* ~e~ $f$ #g _h_ \\*",
            "a&#124;b &#96;c&#96; &#42;d&#42; &#126;e&#126; &#36;f&#36; &#35;g &#95;h&#95; &#92;&#42;",
        ),
        ("a\n\x1b\u202e", "a&#92;n&#92;x1b&#92;u202e"),
    ],
)
def test_marks_of_markdown_and_html_are_references(text: str, shown: str) -> None:
    assert in_markdown(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本 ×", "plain é 日本 ×"),
        ("a\nforged: 100 %", "a\\nforged: 100 %"),
        ("\x1b[31mred\x9b0m\x7f\x00", "\\x1b[31mred\\x9b0m\\x7f\\x00"),
        ("\u202eleft\u2066\u2028\u2029\u200b", "\\u202eleft\\u2066\\u2028\\u2029\\u200b"),
        ("half \ud800", "half \\ud800"),
        ("\r\t", "\\r\\t"),
        ("hard\xa0blank", "hard\xa0blank"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_lines_and_tables_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    say("x\x1b[2J\ny")
    emit_table([("name", "n"), ("a\x1b]0;t\x07\nb", "1")])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert len(out.splitlines()) == 3 and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "a", "{}"),
        ("predict", "--{}"),
        ("{}",),
        ("predict", "a", "b", "--top", "{}"),
        ("train", "--out", "x", "--model", "y", "--set", "{}"),
    ],
    ids=" ".join,
)
def test_what_a_pattern_of_names_found_is_shown_in_errors_of_usage(arguments: tuple[str, ...]) -> None:
    done = run_command(*(argument.format("x\x9b31m\x1b[2J\nforged\u202e") for argument in arguments))
    assert done.status == 2
    assert "x\\x9b31m\\x1b[2J\\nforged\\u202e" in done.err
    assert all(line.isprintable() for line in done.err.split("\n"))


@pytest.mark.parametrize("text", ["plain é 日本", "\x1b[31m\x9b0m\x7f", '\u202e\u2028\n\t"', "\U000e0001 tag"])
def test_json_keeps_what_it_says_and_moves_no_cursor(text: str) -> None:
    shown = shown_json(json.dumps({"label": text}, indent=2, ensure_ascii=False))
    assert json.loads(shown) == {"label": text}
    assert all(character == "\n" or character.isprintable() for character in shown)


@pytest.mark.parametrize("emit", [emit_json, slimnet_cli.predict._emit_json])
def test_printed_json_is_shown(emit: Callable[[dict[str, str]], None], capsys: pytest.CaptureFixture[str]) -> None:
    emit({"label": "\x9b31m\u202e é"})
    out, _ = capsys.readouterr()
    assert json.loads(out) == {"label": "\x9b31m\u202e é"}
    assert "\\u009b31m\\u202e é" in out


class StoppedError(Exception):
    """As a training raises it: it says where it can be resumed from."""

    status = 130


def test_what_interrupts_and_warns_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "told", False)
    others: list[object] = []
    monkeypatch.setattr("slimnet_cli._app._python_shows", lambda message, *where: others.append(message))
    assert _interrupted(StoppedError("stopped; x\x9b31m\nforged")) == 130
    _show_warning("x\x1b[31m\nforged", UserWarning, "x.py", 1)
    _show_warning(SlimnetWarning("x\x1b[31m\nforged"), SlimnetWarning, "x.py", 1)
    stopped, ours = capsys.readouterr().err.splitlines()
    assert stopped == "slimnet: stopped; x\\x9b31m\\nforged"
    assert others == ["x\\x1b[31m\\nforged"]
    assert ours == "slimnet: warning: x\\x1b[31m\\nforged"


@pytest.mark.parametrize("live", [True, False])
def test_what_a_training_says_is_one_line(live: bool) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: live  # type: ignore[method-assign]
    on(stream).say("x\x1b[31m\nforged")
    assert stream.getvalue() == "x\\x1b[31m\\nforged\n"


@pytest.mark.parametrize("kind", [OSError, MemoryError])
def test_an_error_of_the_system_is_one_line(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(kind) as raised:
        raise kind("x\x9b31m\x1b\nforged")
    assert _explain(raised.value) == 1
    assert capsys.readouterr().err == f"slimnet: error: {kind.__name__}: x\\x9b31m\\x1b forged\n"


@pytest.mark.parametrize("kind", [SlimnetError, ArgumentError, FileFormatError, WriteError, SlimnetWarning])
def test_an_error_of_pythons_own_traceback_is_one_line_of_text(kind: type[Exception]) -> None:
    error = kind("x/config.json: got '\x9b31m\nforged \u202e'.")
    assert str(error) == "x/config.json: got '\\x9b31m\\nforged \\u202e'."
    assert traceback.format_exception_only(error)[-1] == f"slimnet.errors.{kind.__name__}: {error}\n"


def test_a_file_that_is_read_from_python_moves_no_cursor(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"image_shape": ["\\u009b31m", 8, 8]}')
    with pytest.raises(SlimnetError) as found:
        slimnet.load_slim(tmp_path)
    assert str(found.value).isprintable()


@pytest.mark.parametrize("ours", [True, False])
def test_lines_of_native_code_stay_out_of_results(
    ours: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slimnet._foreign.is_ours", lambda: ours)
    library = ctypes.CDLL(None)
    for text in (b"before\n", b"inside\n", b"after\n"):
        with no_output() if text == b"inside\n" else nullcontext():
            library.printf(text)
    library.fflush(None)
    assert capfd.readouterr().out.split() == ["before", *([] if ours else ["inside"]), "after"]
