"""File formats of solutions, sky models, facets, masks and directions: names, pairs, options.

Formats belong to families.  Inside a family every format that can be read is converted to every
one that can be written; from solutions and facets come directions, from regions come masks.
Nothing heavy is imported here: help and refusals come at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddfpipe.errors import ConfigError


@dataclass(frozen=True)
class Format:
    """A format: its family, endings of names, and what it is in words."""

    family: str
    endings: tuple[str, ...]
    title: str


FORMATS = {
    "killms": Format("solutions", (".npz",), "solutions of killMS, for DDFacet and killMS"),
    "h5parm": Format("solutions", (".h5", ".h5parm"), "solutions of DP3, LoSoTo, WSClean"),
    "model": Format("models", (".model.npz",), "our sky model"),
    "dicomodel": Format("models", (".DicoModel",), "sky model of DDFacet"),
    "skymodel": Format("models", (".skymodel", ".sky", ".bbs"), "list of sources, makesourcedb"),
    "modelimage": Format("models", ("-model.fits", ".model.fits"), "FITS image in Jy/pixel"),
    "tessel": Format("facets", (".tessel.reg",), "facets, ours and DDFacet's (ds9)"),
    "polygons": Format("facets", (), "facets for WSClean (ds9 polygons)"),
    "named-polygons": Format("facets", (), "facets for DP3 (ds9 polygons with names)"),
    "region": Format("masks", (), "any ds9 region, drawn as a mask"),
    "mask": Format("masks", (".mask.fits",), "FITS mask"),
    "clustercat": Format("directions", (".npy",), "directions for killMS (ClusterCat)"),
    "points": Format("directions", (), "directions as ds9 points or any shapes"),
    "list": Format("directions", (".txt",), "directions as text: RA, Dec in degrees, flux"),
}
READ_ONLY = ("region",)
FROM = {"directions": ("directions", "solutions", "facets")}
"""Families from which a family can be made, besides itself."""


def pairs() -> dict[str, list[str]]:
    """Formats that each format can be converted to."""
    return {name: [other for other, to in FORMATS.items() if other not in READ_ONLY
                   and form.family in (to.family, *FROM.get(to.family, ()))]
            for name, form in FORMATS.items()}


def guess(path: Path, other: str | None = None) -> str | None:
    """The format of a file by its name, and where that does not tell, by the format of the other
    file of a conversion; None if neither tells."""
    name = path.name.lower()
    found = [(len(end), key) for key, form in FORMATS.items() for end in form.endings
             if name.endswith(end.lower())]
    if found:
        return max(found)[1]
    family = FORMATS[other].family if other else ""
    if name.endswith(".reg"):
        return {"masks": "region", "directions": "points", "facets": "tessel"}.get(family)
    if name.endswith(".fits"):
        return {"masks": "mask", "models": "modelimage"}.get(family)
    return None


def formats_of(source: Path, target: Path, given_from: str | None = None,
               given_to: str | None = None) -> tuple[str, str]:
    """Formats of a conversion, by what is given and by the names.  Raises ConfigError."""
    for name in (given_from, given_to):
        if name is not None and name not in FORMATS:
            raise ConfigError(f"no format {name}; there are {', '.join(FORMATS)}")
    have = given_from or guess(source)
    want = given_to or guess(target, have)
    have = have or guess(source, want)
    if have is None or want is None:
        unclear, option = (source, "--from") if have is None else (target, "--to")
        raise ConfigError(f"{unclear}: its name does not tell its format; give {option} and one of "
                          f"{', '.join(FORMATS)}")
    if want not in pairs()[have]:
        raise ConfigError(f"{have} cannot be converted to {want}; it can be to "
                          f"{', '.join(pairs()[have])}")
    return have, want


def check_options(given: set[str], have: str, want: str) -> None:
    """Refuse options that a conversion would not use.  given: their names.  Raises ConfigError."""
    families = {FORMATS[have].family, FORMATS[want].family}
    models, solutions = families == {"models"}, families == {"solutions"}
    lists = have == want == "skymodel"
    used = {
        "--ms": solutions or want == "clustercat",
        "--solset": have == "h5parm", "--soltabs": have == "h5parm",
        "--reference": solutions, "--fill": solutions and "--ms" in given,
        "--image": "masks" in families or (models and not lists),
        "--freq": (have == "h5parm" and solutions) or (models and not lists),
        "--ref-freq": want == "dicomodel" or (want == "skymodel" and not lists),
        "--like": want == "dicomodel", "--patches": want == "skymodel",
        "--each-band": want == "modelimage",
    }
    for name in sorted(given):
        if not used[name]:
            need = " without --ms" if name == "--fill" and solutions else ""
            raise ConfigError(f"{name} has no meaning for {have} to {want}{need}; leave it out")
