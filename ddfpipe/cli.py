"""The command line, shared by all scripts.

Nothing heavy is imported here: a script answers at once, and is ready for signals before numpy and
casacore are loaded.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .errors import ConfigError, DdfpipeError

EXIT_USAGE = 1
EXIT_UNEXPECTED = 5
EXIT_INTERRUPTED = 130
ESTIMATE = "--estimate"
COMMANDS = {
    "plan": "show the steps of a run, and which of them are done",
    "status": "show how far the run in this directory is",
    "config": "show all values and where each came from, as a configuration file",
}
USAGE = """\
usage: {program} [COMMAND] FILE... [--section-option=value]...

Makes images of a LOFAR field from lists of measurement sets.  FILEs are configuration files; a
later one counts over an earlier one, and options on the command line count over all of them.

commands (without one the pipeline runs):
{commands}
other words:
  --estimate   after plan: also the time, memory and disk that the run will take
  --help       this text
  --version    the version of ddfpipe
  no words     the table of all options
"""

_stop_asked = False


@dataclass(frozen=True)
class Arguments:
    """A command line taken apart.

    command: "run", "plan", "status", "config", "options" (no words given), "help" or "version".
    files: configuration files in order; overrides: words that begin with a dash, in order.
    estimate: whether a plan also tells what the run will take.
    """

    command: str
    files: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    estimate: bool = False

    @property
    def words(self) -> list[str]:
        """What `ddfpipe.config.load_config` wants."""
        return [*self.files, *self.overrides]


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Take apart the words after the program's name.

    A command counts only as the first word; write ./plan for a file of that name.  Whether
    overrides and files are right is found by load_config.
    Raises ConfigError for ESTIMATE without the command plan.
    """
    words = list(argv)
    if not words:
        return Arguments("options")
    if any(word in ("--help", "-h") for word in words):
        return Arguments("help")
    if "--version" in words:
        return Arguments("version")
    command = words.pop(0) if words[0] in COMMANDS else "run"
    estimate = ESTIMATE in words
    if estimate and command != "plan":
        raise ConfigError(f"{ESTIMATE} tells what a run will take before it is started, and goes "
                          f"with the command plan only: plan {ESTIMATE} FILE...")
    words = [word for word in words if word != ESTIMATE]
    files = tuple(word for word in words if not word.startswith("-"))
    overrides = tuple(word for word in words if word.startswith("-"))
    return Arguments(command, files, overrides, estimate)


def answer(arguments: Arguments, program: str = "pipeline.py") -> int | None:
    """Do what needs no pipeline (options, help, version, config); return the exit code.

    None means that the command is one for the pipeline: run, plan or status.
    Raises ConfigError for a wrong configuration ("config" only).
    """
    if arguments.command == "help":
        print(usage(program), end="")
        return 0
    if arguments.command == "version":
        print(f"ddfpipe {__version__}")
        return 0
    if arguments.command == "options":
        from .config import describe_options

        print(f"usage: {program} [COMMAND] FILE... [--section-option=value]...   (see --help)\n")
        print(describe_options(), end="")
        return EXIT_USAGE
    if arguments.command == "config":
        return _show_config(arguments)
    return None


def argument_parser(program: str, description: str) -> Any:
    """An `argparse.ArgumentParser` for which wrong use is an error like any other: ConfigError."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise ConfigError(f"{message}\n{self.format_usage().strip()}")

    return Parser(prog=program, description=description)


def usage(program: str = "pipeline.py") -> str:
    """Text of --help."""
    commands = "".join(f"  {name:<12} {text}\n" for name, text in COMMANDS.items())
    return USAGE.format(program=program, commands=commands)


def _show_config(arguments: Arguments) -> int:
    from .config import dump, load_config

    if not arguments.words:
        raise ConfigError("config: name at least one configuration file or option")
    warnings: list[str] = []
    cfg = load_config(arguments.words, warnings=warnings)
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    print(dump(cfg, sources=True), end="")
    return 0


def run_script(
    main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None
) -> NoReturn:
    """Call main(words) and exit with its code (None is 0); turn errors into messages.

    Errors of ddfpipe become one paragraph on stderr and their own exit code.  Anything else
    that is raised is a fault of the program: traceback and exit code 5.  Ctrl-C gives 130.
    """
    # Threads are ours to share out; idle ones of a linear-algebra library would only spin.
    for library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    program = Path(sys.argv[0]).name or "ddfpipe"
    words = list(sys.argv[1:] if argv is None else argv)
    catch_stop_signal()
    try:
        code = main(words) or 0
        sys.stdout.flush()
    except DdfpipeError as error:
        _complain(f"{program}: {error}")
        code = error.exit_code
    except KeyboardInterrupt:
        _complain(f"{program}: interrupted")
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except Exception:
        traceback.print_exc()
        _complain(f"{program}: an unexpected error, shown above; this is a fault of the program")
        code = EXIT_UNEXPECTED
    sys.exit(code)


def catch_stop_signal() -> None:
    """Note SIGUSR1 instead of dying of it, from the first moment on.

    `pkill -USR1 -f pipeline.py` also reaches other scripts, and a pipeline that is only starting;
    the pipeline's own handler takes over later and asks stop_asked() what happened before.
    """
    signal.signal(signal.SIGUSR1, _note_stop)


def stop_asked() -> bool:
    """Whether SIGUSR1 came while the handler of catch_stop_signal was in force."""
    return _stop_asked


def _note_stop(number: int, frame: object) -> None:
    global _stop_asked
    _stop_asked = True


def _complain(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr)
