#!/usr/bin/env python3
"""Convolve a FITS image to a larger beam; `convolve.py --help` lists the arguments."""

from pathlib import Path

from ddfpipe.cli import run_script
from ddfpipe.errors import ConfigError


def parser():
    """The arguments."""
    from ddfpipe.products.commandline import Parser

    out = Parser(prog="convolve.py", allow_abbrev=False, description=(
        "Convolve a restored image, or a model and its residual, to a circular beam."))
    out.add_argument("filename", type=Path, help="restored image, Jy/beam, or with --model a model")
    out.add_argument("--resolution", type=float, required=True, metavar="R",
                     help="FWHM of the new beam, arcsec")
    out.add_argument("--model", action="store_true", help="the image is a model, Jy/pixel")
    out.add_argument("--restore", type=Path, metavar="RESIDUAL",
                     help="residual that is convolved and added to the model")
    out.add_argument("--outfile", type=Path, metavar="FILE",
                     help="default: <filename>_convolved.fits")
    out.add_argument("--intimage", type=Path, metavar="FILE", help="with --appimage: their ratio "
                     "is the beam that makes an apparent image of the convolved one")
    out.add_argument("--appimage", type=Path, metavar="FILE")
    out.add_argument("--appout", type=Path, metavar="FILE", help="that apparent image (default: "
                     "--outfile with .app. for .int.)")
    out.add_argument("--threads", type=int, default=1, metavar="N")
    return out


def main(words: list[str]) -> None:
    """Do what the command line says."""
    given = parser().parse_args(words)
    if (given.intimage is None) != (given.appimage is None):
        raise ConfigError("--intimage and --appimage go together: give both or none")
    if given.appout is not None and given.appimage is None:
        raise ConfigError("--appout needs --intimage and --appimage")
    if not given.resolution > 0 or given.threads < 1:
        raise ConfigError("--resolution must be above 0, --threads 1 or more")
    from ddfpipe import naming

    output = given.outfile or Path(naming.beside_image(given.filename, "convolved"))
    apparent = given.appout or output.with_name(output.name.replace(".int.", ".app."))
    if given.appimage is not None and apparent == output:
        raise ConfigError(f"{output}: has no .int. in its name; name the apparent image: --appout")
    from ddfpipe.products.convolve import convolve_apparent, convolve_image
    from ddfpipe.units import ARCSEC

    beam = given.resolution * ARCSEC, given.resolution * ARCSEC, 0.0
    print(convolve_image(given.filename, beam, output, model=given.model, residual=given.restore,
                         threads=given.threads), flush=True)
    if given.appimage is not None:
        print(convolve_apparent(output, given.intimage, given.appimage, apparent))


if __name__ == "__main__":
    run_script(main)
