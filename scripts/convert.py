#!/usr/bin/env python3
"""Convert solutions, sky models, facets and masks between ours and other programs' files.

Names tell the formats where they can; --from and --to tell them otherwise.
"""

from pathlib import Path

from ddfpipe.cli import run_script
from ddfpipe.errors import ConfigError


def epilogue() -> str:
    """The formats and what each can be converted to."""
    from ddfpipe.data.formats import FORMATS, READ_ONLY, pairs

    lines = ["formats, the endings that tell them, and what each is converted to:"]
    for name, others in pairs().items():
        form = FORMATS[name]
        lines.append(f"  {name:<15}{' '.join(form.endings):<24}{form.title}"
                     + (" (read only)" if name in READ_ONLY else ""))
        lines.append(f"  {'':<15}-> {', '.join(others)}")
    return "\n".join(lines)


def parser():
    """The arguments."""
    import argparse

    from ddfpipe.products.commandline import Parser

    out = Parser(prog="convert.py", description=__doc__, epilog=epilogue(), allow_abbrev=False,
                 formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("inputs", nargs="+", metavar="INPUT", type=Path, help="file to convert; "
                     "several solutions are joined, several FITS models are bands of one")
    out.add_argument("output", metavar="OUTPUT", type=Path)
    out.add_argument("--from", dest="have", metavar="FORMAT", help="format of INPUT")
    out.add_argument("--to", dest="want", metavar="FORMAT", help="format of OUTPUT")
    out.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it is there")
    group = out.add_argument_group("solutions")
    group.add_argument("--ms", type=Path, help="measurement set whose stations, band and phase "
                       "centre the solutions shall have; DDFacet and killMS need its order")
    group.add_argument("--solset", metavar="NAME", help="of an h5parm (default: sol000)")
    group.add_argument("--soltabs", metavar="NAME,...", help="tables of an h5parm to multiply "
                       "(default: phases and amplitudes, else TEC and clock)")
    group.add_argument("--reference", metavar="STATION", help="make its phases zero")
    group.add_argument("--fill", action="store_true",
                       help="gain one for stations without solutions")
    group = out.add_argument_group("sky models and masks")
    group.add_argument("--image", type=Path, metavar="FITS", help="whose pixels count: a list of "
                       "sources, a region or a DicoModel without images beside it needs one")
    group.add_argument("--freq", metavar="MHZ,...", help="bands of a model; for solutions the "
                       "frequencies at which TEC is evaluated (default: those of --ms)")
    group.add_argument("--ref-freq", type=float, metavar="MHZ", help="of the spectra of a list of "
                       "sources or a DicoModel (default: the middle of the bands)")
    group.add_argument("--like", type=Path, metavar="DICOMODEL", help="one of the same size, whose "
                       "options a new DicoModel takes along; killMS needs them")
    group.add_argument("--patches", type=Path, metavar="FILE", help="directions (.npy, .reg, .txt, "
                       "solutions) to which sources are given, the nearest to each")
    group.add_argument("--each-band", action="store_true", help="a FITS model a band, named as "
                       "WSClean names them")
    return out


def frequencies(text: str | None):
    """(n,) Hz of numbers in MHz, ascending; None for none."""
    import numpy as np

    if text is None:
        return None
    try:
        values = np.array([float(word) for word in text.split(",")])
    except ValueError:
        values = np.zeros(1)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ConfigError(f"--freq {text}: give frequencies in MHz, with commas between them")
    return np.sort(values) * 1e6


def patches(path: Path | None):
    """(ra, dec, names) of the directions in a file."""
    if path is None:
        return None
    from ddfpipe.data.exchange import Choices, read_directions
    from ddfpipe.data.formats import FORMATS, guess

    kind = guess(path, "points")
    if kind is None or FORMATS[kind].family not in ("directions", "solutions", "facets"):
        raise ConfigError(f"--patches {path}: directions are read from .npy, .reg, .txt, .h5 and "
                          "killMS's .npz")
    found = read_directions(path, kind, Choices())
    return found.ra, found.dec, found.names


def named(given) -> set[str]:
    """Options of single conversions that were given."""
    others = ("inputs", "output", "have", "want", "overwrite")
    return {"--" + name.replace("_", "-") for name, value in vars(given).items()
            if name not in others and value not in (None, False)}


def main(words: list[str]) -> None:
    """Do what the command line says."""
    given = parser().parse_args(words)
    from ddfpipe.data.formats import check_options, formats_of

    have, want = formats_of(given.inputs[0], given.output, given.have, given.want)
    check_options(named(given), have, want)
    if given.output.exists() and not given.overwrite:
        raise ConfigError(f"{given.output} is there already; --overwrite replaces it")
    if any(path.resolve() == given.output.resolve() for path in given.inputs):
        raise ConfigError(f"{given.output}: is an input as well; name another output")
    from ddfpipe.data.exchange import Choices, convert
    from ddfpipe.data.modelfiles import ModelChoices

    freq = frequencies(given.freq)
    models = ModelChoices(freq=freq, ref_freq=given.ref_freq and given.ref_freq * 1e6,
                          like=given.like, patches=patches(given.patches),
                          each_band=given.each_band)
    choices = Choices(given.ms, given.solset,
                      tuple(given.soltabs.split(",")) if given.soltabs else (), freq,
                      given.reference, given.fill, given.image, models)
    remarks = convert(given.inputs, given.output, have, want, choices)
    print(f"{given.output}: {want} from {have}, " + "\n  ".join(remarks))


if __name__ == "__main__":
    run_script(main)
