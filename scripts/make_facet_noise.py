#!/usr/bin/env python3
"""usage: make_facet_noise.py DIR...

Write a map of the noise by facet, <image>_facetnoise.fits, for the final images of each directory
(full and low resolution, those that are there).  What is there already is left alone.
"""

from pathlib import Path

from ddfpipe import naming
from ddfpipe.cli import run_script
from ddfpipe.errors import ConfigError, DataError


def main(words: list[str]) -> None:
    """Make the maps."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    if not words or any(word.startswith("-") for word in words):
        raise ConfigError("give directories of finished runs, and nothing else; see --help")
    names = [naming.image_product(root, "app_restored")
             for root in (naming.FINAL_IMAGE, naming.LOW_IMAGE)]
    images = {folder: [path for name in names if (path := Path(folder) / name).is_file()]
              for folder in words}
    for folder, found in images.items():
        if not found:
            raise DataError(f"{folder}: has neither {' nor '.join(names)}; let the run finish")
    from ddfpipe.products.facetnoise import tessel_of, write_facet_noise

    for image in (image for found in images.values() for image in found):
        output = Path(naming.beside_image(image, "facetnoise"))
        if output.exists():
            print(f"{output}: is there already")
            continue
        print(write_facet_noise(image, tessel_of(image), output), flush=True)


if __name__ == "__main__":
    run_script(main)
