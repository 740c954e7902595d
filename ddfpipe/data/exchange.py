"""Conversion of files between ours and those of other programs; `formats` has the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ddfpipe.calibration.gains import GainTable, reference_to
from ddfpipe.data.atomic import atomic_write_text
from ddfpipe.data.clusters import Directions, make_directions, read_clusters, write_clusters
from ddfpipe.data.formats import FORMATS
from ddfpipe.data.gainfitting import fit_to_ms, join
from ddfpipe.data.h5parm import USED, read_h5parm, write_h5parm
from ddfpipe.data.images import SkyGrid, read_image
from ddfpipe.data.killms import NAMES, beam_times, read_killms, write_killms
from ddfpipe.data.masks import read_mask, write_mask
from ddfpipe.data.modelfiles import ModelChoices, read_model, write_model
from ddfpipe.data.ms import MSInfo, read_metadata
from ddfpipe.data.regions import (
    FacetOutline,
    mean_direction,
    read_tessel,
    region_mask,
    write_polygons,
    write_tessel,
)
from ddfpipe.errors import ConfigError, SkyModelError, SolveError
from ddfpipe.units import DEGREE


@dataclass(frozen=True)
class Choices:
    """What a conversion may need to be told; see `scripts/convert.py`.

    ms: measurement set whose stations, times, band and phase centre count.  solset, soltabs: of an
    h5parm.  freq: (n,) Hz.  reference: station whose phases become zero.  fill: gain one for
    stations without solutions.  image: FITS image whose grid counts.  models: for sky models.
    """

    ms: Path | None = None
    solset: str | None = None
    soltabs: tuple[str, ...] = ()
    freq: np.ndarray | None = None
    reference: str | None = None
    fill: bool = False
    image: Path | None = None
    models: ModelChoices = field(default_factory=ModelChoices)


def convert(sources: Sequence[Path], target: Path, have: str, want: str,
            choices: Choices) -> list[str]:
    """Convert files of format `have` to one of format `want`; remarks for a person.

    Raises the errors of the readers and writers; `target` appears complete or not at all.
    """
    family = FORMATS[have].family
    if FORMATS[want].family == "directions":
        return _directions(sources, target, have, want, choices)
    if family != "solutions" and have != "modelimage" and len(sources) > 1:
        raise ConfigError(f"{len(sources)} files of format {have}; one is converted at a time")
    if family == "solutions":
        return _solutions(sources, target, have, want, choices)
    if family == "models":
        models = choices.models if choices.image is None \
            else replace(choices.models, grid=_grid(choices.image))
        return write_model(want, target, read_model(have, sources, models), models)
    if family == "facets":
        return _facets(sources[0], target, want)
    return _mask(sources[0], target, have, choices)


def _grid(image: Path) -> SkyGrid:
    return read_image(image).grid


def read_solutions(path: Path, kind: str, choices: Choices,
                   info: MSInfo | None = None) -> GainTable:
    """Solutions of a format, fitted to a measurement set if one is given.  Raises SolveError."""
    if kind == "killms":
        return read_killms(path)
    freqs = choices.freq if choices.freq is not None or info is None else np.sort(info.freqs)
    return read_h5parm(path, choices.solset, soltabs=choices.soltabs or None, freqs=freqs)


def _solutions(sources: Sequence[Path], target: Path, have: str, want: str,
               choices: Choices) -> list[str]:
    info = read_metadata(choices.ms) if choices.ms else None
    table = join([read_solutions(path, have, choices, info) for path in sources])
    remarks = [f"tables {table.meta[USED]}"] if USED in table.meta else []
    if info is not None:
        table, more = fit_to_ms(table, info, source=sources[0], fill=choices.fill)
        remarks += more
    if not np.isfinite(table.directions).all():
        raise SolveError(f"{sources[0]}: does not tell where its directions lie; for a lone one "
                         "name the measurement set (--ms)")
    if choices.reference:
        table = reference_to(table, choices.reference)
    if want == "h5parm":
        write_h5parm(table, target)
    else:
        beam = beam_times(sources[0]) if have == "killms" else None
        write_killms(table, target, beam=beam, centre=info.phase_centre if info else None)
        if info is None:
            remarks.append("DDFacet and killMS take stations by number: check that they are those "
                           "of the measurement set, or name it (--ms)")
    shape = dict(zip(("times", "frequencies", "stations", "directions", "polarisations"),
                     table.gains.shape))
    return [", ".join(f"{n} {what}" for what, n in shape.items())
            + f", {100 * table.flag.mean():.1f} % flagged", *remarks]


def _facets(source: Path, target: Path, want: str) -> list[str]:
    facets = [_centred(facet) for facet in read_tessel(source)]
    if want == "tessel":
        write_tessel(target, facets)
    else:
        write_polygons(target, facets, labels=want == "named-polygons")
    return [f"{len(facets)} facets"]


def _centred(facet: FacetOutline) -> FacetOutline:
    """The facet with a centre, the mean of its corners if it has none."""
    if facet.centre is not None:
        return facet
    return replace(facet, centre=mean_direction(facet.polygon))


def _mask(source: Path, target: Path, have: str, choices: Choices) -> list[str]:
    if choices.image is None:
        raise ConfigError("a mask has the pixels of an image: name it (--image)")
    image = read_image(choices.image)
    mask = region_mask(source, image.grid) if have == "region" else read_mask(source, image.grid)
    write_mask(target, mask, image.grid, freq=float(image.freq[0]))
    return [f"{int(mask.sum())} of {mask.size} pixels"]


def read_directions(path: Path, kind: str, choices: Choices) -> Directions:
    """Directions in a list, in solutions, or in the middle of facets.

    Raises SkyModelError or SolveError, also when the file does not tell where they lie.
    """
    family = FORMATS[kind].family
    if family == "directions":
        return read_clusters(path)
    if family == "facets":
        facets = [_centred(facet) for facet in read_tessel(path)]
        ra, dec = np.array([facet.centre for facet in facets]).T
        return make_directions(ra, dec, None, [facet.label for facet in facets])
    table = read_solutions(path, kind, replace(choices, freq=np.ones(1)))
    names = [name.strip("[]") for name in str(table.meta.get(NAMES, "")).split(",")]
    try:
        return make_directions(*table.directions.T, None,
                               names if len(names) == len(table.directions) else None)
    except SkyModelError as error:
        raise SkyModelError(f"{path}: {error}") from error


def _directions(sources: Sequence[Path], target: Path, have: str, want: str,
                choices: Choices) -> list[str]:
    if len(sources) > 1:
        raise ConfigError(f"{len(sources)} files of format {have}; one is converted at a time")
    found = read_directions(sources[0], have, choices)
    if want == "clustercat":
        centre = read_metadata(choices.ms).phase_centre if choices.ms else None
        write_clusters(target, found, centre)
    else:
        places = zip(found.ra / DEGREE, found.dec / DEGREE, found.flux, found.names)
        lines = [f"{ra:.9f} {dec:.9f} {flux:.9g}\n" if want == "list"
                 else f"point({ra:.9f},{dec:.9f}) # text={{{name}}}\n"
                 for ra, dec, flux, name in places]
        head = "# RA Dec (degrees) flux (Jy)\n" if want == "list" \
            else "# Region file format: DS9 version 4.1\nfk5\n"
        atomic_write_text(target, head + "".join(lines))
    return [f"{found.size} directions"]
