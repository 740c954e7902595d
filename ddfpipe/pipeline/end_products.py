"""What a finished calibration is worth beside the main images: bands, polarisation, packing.

Band images, cubes of Stokes Q and U, Stokes V of every observation: Shimwell et al. 2022, A&A 659,
A1, sections 3.3 and 5, and the manual of ddf-pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfpipe.engines.base import ImageJob
from ddfpipe.naming import (
    LOW_CUBES, VERY_LOW_CUBES, band_image, image_product, observation_of, polarisation_cube,
    stokes_v_image,
)
from ddfpipe.pipeline.builder import Builder, Data
from ddfpipe.pipeline.jobs import CompressJob
from ddfpipe.pipeline.parameters import full_image, gains, low_image, very_low_image
from ddfpipe.pipeline.small_list import Sky

if TYPE_CHECKING:
    from ddfpipe.data.mschecks import Problem

USUAL_BANDS_MHZ = (128.0258, 143.6508, 160.2524)
"""Bands of LoTSS, for an empty list of centralfreqs."""
HIGHEST_MHZ = 1e6
"""Above all radio frequencies."""
CUBE_KINDS = ("dirty", "dirty_corr")


def end_products(b: Builder, data: Data, sky: Sky, solutions: tuple[str, ...]) -> None:
    """Stages of all end products that are asked for."""
    control = b.settings.config.control
    if control.spectral_restored:
        with b.part("bands"):
            band_images(b, data, sky, solutions)
    if control.polcubes:
        with b.part("polarisation"):
            polarisation_cubes(b, data, sky, solutions)
    if control.stokesv:
        with b.part("polarisation"):
            stokes_v_images(b, data, sky, solutions)


# ---------------------------------------------------------------------- bands


def band_images(
    b: Builder, data: Data, sky: Sky, solutions: tuple[str, ...]
) -> tuple[str, ...]:
    """The final image in each band, from the model of all the data; roots of the images."""
    s = b.settings
    roots = []
    for number, (centre, limits) in enumerate(zip(band_centres(s), band_limits(s))):
        roots.append(b.image(full_image(
            s, band_image(number), data.band(limits), major_cycles=0, external_mask=sky.mask,
            start_model=sky.model, clusters=sky.clusters, header_mhz=centre,
            gains=gains(s, solutions, apply=6, normalize=1),
        )))
    return tuple(roots)


def band_centres(s: Any) -> tuple[float, ...]:
    """Centres of the bands in MHz, as given or the usual ones.  s: Settings or Config."""
    return tuple(s.image.centralfreqs) or USUAL_BANDS_MHZ


def band_limits(s: Any) -> list[tuple[float, float]]:
    """For each band the range in MHz of what is nearer to its centre than to any other."""
    centres = band_centres(s)
    ordered = sorted(centres)
    edges = [0.0, *((a + c) / 2 for a, c in zip(ordered, ordered[1:])), HIGHEST_MHZ]
    return [(edges[ordered.index(c)], edges[ordered.index(c) + 1]) for c in centres]


# ---------------------------------------------------------------------- polarisation


def polarisation_cubes(b: Builder, data: Data, sky: Sky, solutions: tuple[str, ...]) -> None:
    """Dirty cubes of all channels at low and very low resolution, packed if so asked."""
    s = b.settings
    kinds = {LOW_CUBES: low_image, VERY_LOW_CUBES: very_low_image}
    for resolution in cube_resolutions(s):
        for stokes in cube_stokes(s):
            split = s.control.split_polcubes and len(stokes) == 1
            job = kinds[resolution](
                s, polarisation_cube(resolution, stokes, split), data,
                **_dirty(b, sky, solutions, stokes), cubes=CUBE_KINDS, band_mode="channel",
            )
            b.image(job)
            if s.compression.compress_polcubes:
                _pack(b, job)


def cube_resolutions(s: Any) -> tuple[str, ...]:
    """The very low resolution always, the low one if such images are made."""
    low = () if s.image.low_psf_arcsec is None else (LOW_CUBES,)
    return (*low, VERY_LOW_CUBES)


def cube_stokes(s: Any) -> tuple[str, ...]:
    """What each cube holds: all Stokes parameters, or one of them."""
    wanted = s.control.polcubes_stokes
    return tuple(wanted) if s.control.split_polcubes else (wanted,)


def stokes_v_images(b: Builder, data: Data, sky: Sky, solutions: tuple[str, ...]) -> None:
    """Dirty images of Stokes I and V at full resolution, one an observation."""
    s = b.settings
    for observation, sets in observations(data.ms).items():
        b.image(full_image(
            s, stokes_v_image(observation), data.of(sets), use_weights=True,
            **_dirty(b, sky, solutions, "IV"),
        ))


def observations(sets: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Measurement sets by the name of their observation, in the order of the list."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sets:
        name = observation_of(path)
        found[name] = (*found.get(name, ()), path)
    return found


def _dirty(b: Builder, sky: Sky, solutions: tuple[str, ...], stokes: str) -> dict[str, Any]:
    """What all images of polarisation have in common."""
    return dict(
        major_cycles=0, stokes=stokes, clusters=sky.clusters,
        gains=gains(b.settings, solutions, apply=6, normalize=2),
    )


def _pack(b: Builder, job: ImageJob) -> None:
    packing = b.settings.compression
    files = tuple(Path(image_product(job.name, f"cube_{kind}")) for kind in job.cubes)
    b.compress(
        f"{job.name}_fpack", CompressJob(files, packing.fpack_q, packing.delete_compressed)
    )


# ---------------------------------------------------------------------- checks before the run


def problems(config: Any, infos: Sequence[Any], memory: int) -> list[Problem]:
    """What stands against the end products that are asked for.

    infos: MSInfo of the full list.  memory: bytes that may be used.
    """
    found: list[Problem] = []
    if config.data.full_mslist is None or not infos:
        return found
    if config.control.spectral_restored:
        found += _empty_bands(config, infos)
    if config.control.stokesv:
        found += _mixed_observations(infos)
    if config.control.polcubes and config.compression.compress_polcubes:
        found += _packing(config, infos, memory)
    return found


def _empty_bands(config: Any, infos: Sequence[Any]) -> list[Problem]:
    from ddfpipe.data.mschecks import Problem

    means = sorted(float(info.freqs.mean()) / 1e6 for info in infos)
    return [
        Problem("band", f"[image] centralfreqs: no measurement set is nearest to {centre:g} MHz "
                f"(they lie between {means[0]:.1f} and {means[-1]:.1f} MHz); leave it out, or "
                "switch [control] spectral_restored off")
        for centre, (low, high) in zip(band_centres(config), band_limits(config))
        if not any(low <= mean < high for mean in means)
    ]


def _mixed_observations(infos: Sequence[Any]) -> list[Problem]:
    from ddfpipe.data.mschecks import Problem, group_observations

    times: dict[str, int] = {}
    for group in group_observations(infos):
        for name in {observation_of(info.path) for info in group}:
            times[name] = times.get(name, 0) + 1
    return [
        Problem("stokesv", f"{count} observations share the name {name}, so that one Stokes V "
                f"image {stokes_v_image(name)} will hold them all; names differ in what comes "
                "before the first underscore", fatal=False)
        for name, count in times.items() if count > 1
    ]


def _packing(config: Any, infos: Sequence[Any], memory: int) -> list[Problem]:
    from ddfpipe.data.mschecks import Problem
    from ddfpipe.pipeline.parameters import low_imsize
    from ddfpipe.products.compression import astropy_memory, fpack_program

    if fpack_program() is not None:
        return []
    sizes = {LOW_CUBES: low_imsize(config), VERY_LOW_CUBES: config.image.vlow_imsize}
    largest = max(
        4 * sizes[resolution] ** 2 * len(stokes) * n_channels(infos)
        for resolution in cube_resolutions(config) for stokes in cube_stokes(config)
    )
    if astropy_memory(largest) > memory:
        return [Problem(
            "fpack", "[compression] compress_polcubes: fpack is not installed, and without it a "
            f"cube takes {astropy_memory(largest) / 1e9:.1f} GB of memory to compress; install it "
            "(Debian package libcfitsio-bin) or switch the compression off"
        )]
    return [Problem(
        "fpack", "fpack is not installed: cubes are compressed with astropy, into the same "
        "format, which takes longer", fatal=False
    )]


def n_channels(infos: Sequence[Any]) -> int:
    """Channels of measurement sets, those of the same frequency once: planes of a cube."""
    return len({round(float(freq) / 1e3) for info in infos for freq in info.freqs})
