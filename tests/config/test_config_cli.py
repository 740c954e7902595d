"""The command line: commands, answers, and how errors reach the user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from ddfpipe import __version__, cli
from ddfpipe.config import load_config
from ddfpipe.errors import ConfigError, InputModelError, NoFullList, StageFailed, StopRequested

HEAVY = ("numpy", "numba", "casacore", "astropy", "matplotlib", "scipy", "ducc0", "everybeam",
         "h5py", "rich", "psutil")


@pytest.fixture(autouse=True)
def keep_signal_handler():
    old = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, old)


@pytest.mark.parametrize("words, command, files, overrides", [
    ([], "options", (), ()),
    (["a.cfg", "b.cfg", "--control-restart=False"], "run", ("a.cfg", "b.cfg"),
     ("--control-restart=False",)),
    (["--image-robust=-1", "a.cfg", "--x"], "run", ("a.cfg",), ("--image-robust=-1", "--x")),
    (["plan", "a.cfg"], "plan", ("a.cfg",), ()),
    (["status"], "status", (), ()),
    (["config", "a.cfg", "--image-imsize=5"], "config", ("a.cfg",), ("--image-imsize=5",)),
    (["a.cfg", "plan"], "run", ("a.cfg", "plan"), ()),
    (["./plan"], "run", ("./plan",), ()),
    (["--help"], "help", (), ()), (["plan", "-h"], "help", (), ()),
    (["--version"], "version", (), ()),
])
def test_parse(words, command, files, overrides):
    arguments = cli.parse_arguments(words)
    assert arguments == cli.Arguments(command, files, overrides)
    assert arguments.words == [*files, *overrides]


@pytest.mark.parametrize("words", [["plan", "--estimate", "a.cfg"],
                                   ["plan", "a.cfg", "--estimate"]])
def test_estimate_is_a_word_of_plan(words):
    assert cli.parse_arguments(words) == cli.Arguments("plan", ("a.cfg",), (), estimate=True)


@pytest.mark.parametrize("words", [["a.cfg", "--estimate"], ["status", "--estimate"],
                                   ["config", "--estimate", "a.cfg"]])
def test_estimate_of_anything_else_is_refused(words):
    with pytest.raises(ConfigError, match="plan --estimate FILE"):
        cli.parse_arguments(words)


def test_answers(capsys):
    assert cli.answer(cli.parse_arguments([])) == 1
    out = capsys.readouterr().out
    assert "usage: pipeline.py" in out and "[machine]" in out and "  bright_threshold" in out
    assert cli.answer(cli.parse_arguments(["--help"]), "x.py") == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: x.py") and all(name in out for name in cli.COMMANDS)
    assert cli.answer(cli.parse_arguments(["--version"])) == 0
    assert capsys.readouterr().out == f"ddfpipe {__version__}\n"
    for command in ("run", "plan", "status"):
        assert cli.answer(cli.Arguments(command, ("a.cfg",))) is None


def test_config_command_writes_a_configuration(tmp_path, capsys):
    path = tmp_path / "a.cfg"
    path.write_text("[data]\nmslist=m.txt\n[image]\nauto_uvmin=1\n")
    words = [str(path), "--image-imsize=512"]
    assert cli.answer(cli.parse_arguments(["config", *words])) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"warning: {path}:4: the option auto_uvmin")
    assert "imsize = 512  # command line" in captured.out
    again = tmp_path / "b.cfg"
    again.write_text(captured.out)
    assert load_config([str(again)]) == load_config(words)
    with pytest.raises(ConfigError, match="name at least one"):
        cli.answer(cli.Arguments("config"))


def ends(main, words=()):
    with pytest.raises(SystemExit) as caught:
        cli.run_script(main, words)
    return caught.value.code


def raising(error):
    def main(words):
        raise error

    return main


@pytest.mark.parametrize("error, code", [
    (ConfigError("the file a.cfg"), 1), (StopRequested("stop"), 2), (NoFullList("done"), 3),
    (InputModelError("model"), 4), (StageFailed("stage"), 5),
])
def test_errors_become_messages_and_codes(error, code, capsys):
    assert ends(raising(error)) == code
    err = capsys.readouterr().err
    assert str(error) in err and "Traceback" not in err and err.count("\n") == 1


def test_codes_of_main():
    assert ends(lambda words: None) == 0
    assert ends(lambda words: 3) == 3
    assert ends(lambda words: len(words), ["a", "b"]) == 2
    assert ends(lambda words: sys.exit(7)) == 7


def test_interrupt_and_unexpected_errors(capsys):
    assert ends(raising(KeyboardInterrupt())) == 130
    assert "interrupted" in capsys.readouterr().err
    assert ends(raising(ZeroDivisionError("nought"))) == 5
    err = capsys.readouterr().err
    assert "Traceback" in err and "ZeroDivisionError: nought" in err and "unexpected" in err


def test_stop_signal_is_noted(monkeypatch):
    monkeypatch.setattr(cli, "_stop_asked", False)

    def main(words):
        assert not cli.stop_asked()
        os.kill(os.getpid(), signal.SIGUSR1)
        return 0 if cli.stop_asked() else 1

    assert ends(main) == 0


def run_python(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600,
                          **options)


def test_starting_a_script_imports_nothing_heavy():
    code = ("import sys, ddfpipe.cli; ddfpipe.cli.parse_arguments(['a.cfg']); "
            f"print([name for name in {HEAVY!r} if name in sys.modules])")
    assert run_python(code).stdout.strip() == "[]"


def test_reading_a_configuration_imports_nothing_heavy():
    heavy = tuple(name for name in HEAVY if name != "psutil")
    code = ("import sys; from ddfpipe.config import load_config, describe_options; "
            "load_config(['--data-mslist=m']); describe_options(); "
            f"print([name for name in {heavy!r} if name in sys.modules])")
    assert run_python(code).stdout.strip() == "[]"


def test_a_reader_that_leaves_early_is_no_error():
    code = ("from ddfpipe import cli\n"
            "cli.run_script(lambda words: cli.answer(cli.parse_arguments([])), [])")
    shell = subprocess.run(f'"{sys.executable}" -c "{code}" | head -1', shell=True, text=True,
                           capture_output=True, timeout=600)
    assert shell.stdout.startswith("usage:") and shell.stderr == ""
