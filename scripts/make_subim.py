#!/usr/bin/env python3
"""usage: make_subim.py FILE SIZE POSITION [--output=cutout.fits] [--cube]

Cut a part out of a FITS image: SIZE degrees from the position to each of the four sides.

POSITION:  RA DEC              degrees, or 12:05:38.2 +49:49:56
           ILTJ120538.19+494956.1
           object NAME         looked up by the Sesame service (needs a network)
--cube     keep all planes; else the first one is written as a two-dimensional image
"""

import math
from pathlib import Path

from ddfpipe.cli import run_script
from ddfpipe.errors import ConfigError


def main(words: list[str]) -> None:
    """Make the cut-out."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    output, cube, plain = "cutout.fits", False, []
    for word in words:
        if word.startswith("--output="):
            output = word.partition("=")[2]
        elif word == "--cube":
            cube = True
        elif word.startswith("--"):
            raise ConfigError(f"{word}: there is no such option; see --help")
        else:
            plain.append(word)
    if not 3 <= len(plain) <= 4:
        raise ConfigError("give FILE, SIZE and a position; see --help")
    from ddfpipe.products.subimage import cut_out, parse_position

    ra, dec = parse_position(plain[2:])
    try:
        size = float(plain[1])
    except ValueError as error:
        raise ConfigError(f"SIZE {plain[1]}: must be a number of degrees") from error
    if not 0 < size < 180:
        raise ConfigError(f"SIZE {plain[1]}: must be above 0 and below 180 degrees")
    if not output:
        raise ConfigError("--output=: name a file")
    ny, nx = cut_out(Path(plain[0]), ra, dec, math.radians(size), Path(output), cube=cube)
    print(f"{output}: {nx} x {ny} pixels about {math.degrees(ra):.5f} {math.degrees(dec):+.5f}")


if __name__ == "__main__":
    run_script(main)
