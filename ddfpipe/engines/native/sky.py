"""Masks, directions and models made from images: the engine's verbs that touch no visibility."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data.clusters import make_directions, write_clusters
from ...data.images import SkyGrid, read_image, write_image
from ...data.model import load_model, save_model
from ...data.skymodel import read_skymodel
from ...errors import SkyModelError
from ...imaging.cluster import cluster_sources
from ...imaging.mask import diffuse_mask, mask_warnings, merge_masks, threshold_mask
from ...imaging.noise import local_noise
from ...imaging.restore import beam_area
from ...imaging.sourcelist import find_sources
from ...naming import (
    DIFFUSE_MASK, MASK_SUFFIX, NOISE_MAP, NOISE_MEAN, image_product,
)
from ..base import ClusterJob, ImageJob, MaskJob

MIN_SEPARATION_BEAMS = 20
"""Directions closer than this many beams would see the same gains."""


def make_mask(workdir: Path, job: MaskJob, monitor, threads: int) -> Path:
    """Threshold an image; see MaskJob.  Returns the path of the mask."""
    image = read_image(workdir / job.image)
    plane = image.plane()
    sigma, mean = local_noise(plane, box=job.box, threads=threads)
    masks = [threshold_mask(plane, sigma, job.sigma)]
    for path in job.external:
        other = read_image(workdir / path)
        if not other.grid.same(image.grid):
            raise SkyModelError(f"{path} is not on the grid of {job.image}: make that mask again")
        masks.append(other.plane() > 0)
    mask = merge_masks(*masks)
    for sentence in mask_warnings(mask):
        monitor.message(f"{job.image}: {sentence}")
    target = workdir / f"{job.image}{MASK_SUFFIX}"
    _write(target, mask, image)
    if job.diffuse:
        _write_diffuse(workdir, job, image, plane, sigma, mean, threads)
    return target


def _write_diffuse(workdir, job, image, plane, sigma, mean, threads) -> None:
    """MaskDiffuse.fits and the noise maps of the same image."""
    beam = image.beam[0] / image.grid.cell if image.beam else 4.0
    _write(workdir / DIFFUSE_MASK, diffuse_mask(plane, job.sigma, beam, threads=threads), image)
    _write(workdir / NOISE_MAP, sigma, image, unit="Jy/beam")
    _write(workdir / NOISE_MEAN, mean, image, unit="Jy/beam")


def _write(path: Path, data: np.ndarray, like, unit: str = "") -> None:
    write_image(path, np.asarray(data, np.float32), like.grid, freq=like.freq[:1], unit=unit)


def make_clusters(workdir: Path, job: ClusterJob, monitor, threads: int) -> Path:
    """Sources of an image grouped into directions; see ClusterJob."""
    image = read_image(workdir / image_product(job.image, "app_restored"))
    grid, plane = image.grid, image.plane()
    sigma, mean = local_noise(plane, threads=threads)
    sources = find_sources(
        plane, sigma, beam_area(image.beam, grid.cell), mean=mean
    )
    if sources.size == 0:
        raise SkyModelError(
            f"no source above 5 sigma in {image_product(job.image, 'app_restored')}: there is "
            "nothing to calibrate on. Check the data column and its calibration, or supply "
            "directions with option clusterfile"
        )
    avoid = None
    if job.avoid_mask is not None:
        diffuse = read_image(workdir / job.avoid_mask).plane() > 0
        y, x = np.rint(sources.y).astype(int), np.rint(sources.x).astype(int)
        avoid = diffuse[y, x]
        avoid = None if avoid.all() else avoid
    l, m = grid.lm(sources.y, sources.x)
    clusters = cluster_sources(
        l, m, sources.flux, job.ndir, avoid=avoid,
        min_separation=MIN_SEPARATION_BEAMS * image.beam[0],
    )
    for sentence in clusters.warnings:
        monitor.message(sentence)
    ra, dec = grid.radec(clusters.l, clusters.m)
    directions = make_directions(ra, dec, clusters.flux)
    monitor.message(f"{sources.size} sources in {directions.size} directions")
    return write_clusters(workdir / job.output, directions, (grid.ra, grid.dec))


def mask_model(workdir: Path, image: str, mask: Path, output: str) -> Path:
    """Keep only the model of `image` under `mask`, as model root `output`."""
    model = load_model(workdir / image_product(image, "model"))
    plane = read_image(workdir / mask)
    if not plane.grid.same(model.grid):
        raise SkyModelError(f"{mask} is not on the grid of {image}: make that mask again")
    target = workdir / image_product(output, "model")
    return save_model(target, model.masked(plane.plane() > 0))


def start_model(workdir: Path, skymodel: Path, grid: SkyGrid, freq, output: str) -> Path:
    """Components of a text sky model on a grid, as model root `output`."""
    model = read_skymodel(workdir / skymodel).to_pixels(grid, freq)
    if model.size == 0:
        raise SkyModelError(f"{skymodel}: no component lies inside the image; check its positions")
    return save_model(workdir / image_product(output, "model"), model)


def job_grid(job: ImageJob, phase_centre) -> SkyGrid:
    """Grid of an image job about a phase centre (rad)."""
    from ...units import ARCSEC

    return SkyGrid(*phase_centre, job.npix, job.npix, job.cell_arcsec * ARCSEC)
