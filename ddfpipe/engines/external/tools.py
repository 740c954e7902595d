"""Where the programs of others live, what version they are, and what they can do.

What a program says of itself cannot be trusted: WSClean's help lists options for the beam and for
IDG that the build at hand refuses.  So each ability is tried, once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...errors import ConfigError

INSTALLER = "misc/install_lofar.sh"
"""The script that installs WSClean and DP3."""

INSTALLER_DDF = "misc/install_ddfacet.sh"
"""The script that installs DDFacet and killMS."""

NAMES = {"wsclean": ("wsclean",), "dp3": ("DP3.py", "DP3"), "ddfacet": ("DDF.py",),
         "killms": ("kMS.py",)}
"""Tool -> names of its program, in the order in which they are looked for."""

FOLDERS = {"ddfacet": "ddf-image", "killms": "ddf-solve"}
"""Tool -> its virtual environment below the folder of `INSTALLER_DDF`; the newest versions of the
two cannot share one."""

ABILITIES = (("idg", "-use-idg", "not compiled with IDG"),
             ("everybeam", "-apply-primary-beam", "compiled without EveryBeam"))
"""Ability of WSClean, option that asks for it, words of a build that lacks it."""

PROBE_S = 60.0
"""Seconds that a program may take to tell its version."""


@dataclass(frozen=True)
class Tool:
    """A program that runs here.

    abilities: names of what it can do beyond the usual ("everybeam", "idg", "wgridder").
    """

    name: str
    path: Path
    version: str
    abilities: frozenset[str] = frozenset()

    def text(self) -> str:
        """For logs and records: version, abilities and place."""
        able = f" with {', '.join(sorted(self.abilities))}" if self.abilities else ""
        return f"{self.version}{able} ({self.path})"


def installed_folder(name: str = "dp3") -> Path:
    """Where the installer puts a program that comes as a Python package."""
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "ddfpipe"
    if name in FOLDERS:
        return Path(os.environ.get("DDFPIPE_DDF_TOOLS") or base) / FOLDERS[name]
    return Path(os.environ.get("DDFPIPE_TOOLS") or base / "lofar")


def installer(name: str) -> str:
    """The script that installs a tool."""
    return INSTALLER_DDF if name in FOLDERS else INSTALLER


def find_tool(name: str, given: str = "auto") -> Path:
    """The program of a tool.

    given: path of the program, or of a folder that holds it (or a `bin` that does); "auto" looks
    in PATH, then where the installer puts it.

    Raises
    ------
    ConfigError : there is no such program
    """
    option = f"[machine] {name}"
    if given == "auto":
        found = [shutil.which(word) for word in NAMES[name]]
        found += [installed_folder(name) / "bin" / word for word in NAMES[name]]
    else:
        place = Path(given).expanduser()
        found = [place] if not place.is_dir() else [
            folder / word for folder in (place, place / "bin") for word in NAMES[name]
        ]
    for path in found:
        if path is not None and os.access(path, os.X_OK) and Path(path).is_file():
            return Path(path).absolute()
    where = "in PATH" if given == "auto" else f"at {given}"
    raise ConfigError(
        f"{option}: there is no {name} {where}; install it with '{installer(name)}' or give its "
        "path"
    )


def measures_folder() -> Path | None:
    """Folder of casacore's measures tables that came with our own python-casacore, or Debian's."""
    import casacore

    for folder in (Path(casacore.__file__).parent / "data", Path("/var/lib/casacore/data"),
                   Path("/usr/share/casacore/data")):
        if (folder / "geodetic" / "TAI_UTC").is_dir():
            return folder
    return None


def write_casarc(folder: Path) -> Path | None:
    """A file that tells casacore where the measures tables are; None when there are none."""
    from ...data.atomic import atomic_write_text

    data = measures_folder()
    if data is None:
        return None
    path = Path(folder) / "ddfpipe.casarc"
    text = f"measures.directory: {data}\n"
    if not path.is_file() or path.read_text() != text:
        Path(folder).mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, text)
    return path


def tool_environment(folder: Path) -> dict[str, str]:
    """Environment that DP3 needs: one thread in BLAS (it refuses more), measures tables.

    folder: where the file about the tables is kept.
    """
    casarc = write_casarc(folder)
    return {"OPENBLAS_NUM_THREADS": "1"} | ({"CASARCFILES": str(casarc)} if casarc else {})


@lru_cache(maxsize=None)
def probe_wsclean(path: Path) -> Tool:
    """Version and abilities of a WSClean program; ConfigError when it does not run."""
    text = _output([str(path), "-version"])
    match = re.search(r"WSClean version (\S+)", text)
    if match is None:
        raise ConfigError(f"[machine] wsclean: {path} does not tell a version of WSClean but "
                          f"{text.strip()[-200:]!r}; install it with {INSTALLER}")
    abilities = {"wgridder"} if "WGridder is available" in text else set()
    with tempfile.TemporaryDirectory() as folder:
        # Some abilities are looked at only once there is something to image.
        tail = ["-size", "64", "64", "-scale", "1amin", "-name", f"{folder}/probe",
                "-no-update-model-required", _tiny_set(Path(folder) / "probe.ms")]
        for ability, option, refusal in ABILITIES:
            if refusal not in _output([str(path), option, *tail]):
                abilities.add(ability)
    return Tool("wsclean", path, match[1], frozenset(abilities))


@lru_cache(maxsize=None)
def probe_dp3(path: Path) -> Tool:
    """Version of a DP3 program; ConfigError when it does not run."""
    text = _output([str(path), "-v"], {"OPENBLAS_NUM_THREADS": "1"})
    match = re.search(r"DP3\s+v?(\d[\w.]*)", text)
    if match is None:
        raise ConfigError(f"[machine] dp3: {path} does not tell a version of DP3 but "
                          f"{text.strip()[-200:]!r}; install it with {INSTALLER}")
    return Tool("dp3", path, match[1])


def _tiny_set(path: Path) -> str:
    """A measurement set of one visibility of two stations."""
    from casacore.tables import default_ms, makearrcoldesc, maketabdesc, table

    desc = maketabdesc([makearrcoldesc("DATA", 0j, ndim=2, shape=[1, 4], valuetype="complex")])
    main = default_ms(str(path), desc)
    main.addrows(1)
    values = {"ANTENNA2": 1, "TIME": 5e9, "INTERVAL": 1.0, "EXPOSURE": 1.0,
              "UVW": np.array([100.0, 100.0, 1.0]), "DATA": np.ones((1, 4), np.complex64),
              "FLAG": np.zeros((1, 4), bool), "WEIGHT": np.ones(4, np.float32),
              "SIGMA": np.ones(4, np.float32)}
    rows = {
        "ANTENNA": [{"NAME": name, "POSITION": np.array([3.8e6, 4.6e5, 5e6 + n]),
                     "DISH_DIAMETER": 30.0} for n, name in enumerate("AB")],
        "SPECTRAL_WINDOW": [{"CHAN_FREQ": np.array([1.5e8]), "CHAN_WIDTH": np.array([1e5]),
                             "NUM_CHAN": 1, "REF_FREQUENCY": 1.5e8}],
        "POLARIZATION": [{"NUM_CORR": 4, "CORR_TYPE": np.arange(9, 13, dtype=np.int32)}],
        "DATA_DESCRIPTION": [{"SPECTRAL_WINDOW_ID": 0, "POLARIZATION_ID": 0}],
        "FIELD": [{"PHASE_DIR": np.array([[1.0, 1.0]]), "DELAY_DIR": np.array([[1.0, 1.0]]),
                   "REFERENCE_DIR": np.array([[1.0, 1.0]])}],
        "OBSERVATION": [{"TELESCOPE_NAME": "LOFAR"}],
    }
    for column, value in values.items():
        main.putcell(column, 0, value)
    main.close()
    for name, entries in rows.items():
        subtable = table(str(path / name), readonly=False, ack=False)
        subtable.addrows(len(entries))
        for row, entry in enumerate(entries):
            for column, value in entry.items():
                subtable.putcell(column, row, value)
        subtable.close()
    return str(path)


def _output(words: list[str], environment: dict[str, str] | None = None) -> str:
    """All that a program prints, whatever its exit code."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=PROBE_S,
            stdin=subprocess.DEVNULL, env=os.environ | (environment or {}),
        )
    except OSError as error:
        raise ConfigError(f"{words[0]} cannot be started ({error.strerror or error}); install it "
                          f"with {INSTALLER}") from error
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{words[0]} did not answer within {PROBE_S:g} s; is it installed "
                          f"rightly ({INSTALLER})?") from None
    return done.stdout + done.stderr
