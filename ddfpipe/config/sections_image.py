"""Sections [image] and [masking]."""

from __future__ import annotations

from dataclasses import dataclass

from .option import option

BEAM_MODELS = ("auto", "LOFAR", "full", "array_factor", "none")


@dataclass(frozen=True)
class Image:
    """Grids, weights, beams and what goes into the images."""

    do_wide: bool = option(
        "bool", False, "First image a very wide field and subtract what lies outside the main one."
    )
    wide_imsize: int = option("int", 10000, "Wide image: size.", unit="pixels", low=16)
    wide_cell: float = option("float", 10.0, "Wide image: pixel.", unit="arcsec", above=0)
    wide_robust: float = option("float", -0.20, "Wide image: Briggs robustness.", low=-5, high=5)
    wide_psf_arcsec: float = option(
        "float", 45.0, "Wide image: restoring beam; its outer uv cut follows.", unit="arcsec",
        above=0,
    )
    imsize: int = option("int", 20000, "Size of the main images.", unit="pixels", low=16)
    cellsize: float = option("float", 1.5, "Pixel of the main images.", unit="arcsec", above=0)
    robust: float = option(
        "float", -0.15, "Briggs robustness of the self-calibration images.", low=-5, high=5
    )
    final_robust: float = option(
        "float", -0.5, "Briggs robustness of full-bandwidth, band and Stokes V images.", low=-5,
        high=5,
    )
    psf_arcsec: float = option(
        "float", 12.0, "Restoring beam of the self-calibration images.", unit="arcsec", above=0
    )
    final_psf_arcsec: float = option(
        "float", 6.0, "Restoring beam of the final images (major axis).", unit="arcsec", above=0
    )
    final_psf_minor_arcsec: float | None = option(
        "float", None, "Its minor axis; None is a circular beam.", unit="arcsec", above=0,
        nullable=True,
    )
    final_psf_pa_deg: float | None = option(
        "float", None, "Its position angle; needed with a minor axis.", unit="deg", low=-360,
        high=360, nullable=True,
    )
    final_rmsfactor: float = option(
        "float", 1.0, "Last low-resolution image: clean down to this many times the noise.",
        low=0,
    )
    low_psf_arcsec: float | None = option(
        "float", None, "Restoring beam of the low-resolution image, which also sets its outer uv "
        "cut; None makes no such image.", unit="arcsec", above=0, nullable=True,
    )
    low_robust: float = option(
        "float", -0.20, "Briggs robustness of low-resolution and bootstrap images.", low=-5, high=5
    )
    low_cell: float = option(
        "float", 4.5, "Pixel of low-resolution and bootstrap images.", unit="arcsec", above=0
    )
    low_imsize: int | None = option(
        "int", None, "Size of low-resolution and bootstrap images; None covers the main image.",
        unit="pixels", low=16, nullable=True,
    )
    vlow_psf_arcsec: float | None = option(
        "float", None, "Beam that the very-low-resolution Q and U cubes are labelled with; None is "
        "that of the point spread function.", unit="arcsec", above=0, nullable=True,
    )
    vlow_robust: float = option("float", -0.20, "Briggs robustness of these.", low=-5, high=5)
    vlow_cell: float = option("float", 50.0, "Pixel of these.", unit="arcsec", above=0)
    vlow_imsize: int = option("int", 500, "Size of these.", unit="pixels", low=16)
    do_decorr: bool = option(
        "bool", True, "Account for time and bandwidth smearing in the model."
    )
    HMPsize: int = option(
        "int", 10, "Islands larger than this start from a multi-scale deconvolution; external "
        "engines only.", unit="pixels", low=0,
    )
    uvmin: float = option("float", 0.1, "Shortest baseline imaged.", unit="km", low=0)
    uvmax: float = option("float", 1000.0, "Longest baseline imaged.", unit="km", above=0)
    apply_weights: tuple[bool, ...] = option(
        "list", (False, True, True, True), "Use the weights estimated by the latest solve in: [0] "
        "nothing (no solve comes before the first images), [1] rounds on the small list, [2] "
        "full-bandwidth and band images, [3] nothing.", element="bool", min_length=3, max_length=4,
    )
    use_weightspectrum: bool = option(
        "bool", False, "Where solver weights are not used take WEIGHT_SPECTRUM, not equal weights."
    )
    clusterfile: str | None = option(
        "str", None, "Catalogue of calibration directions: .npy records as of killMS, ds9 .reg, or "
        "text with RA and Dec in degrees; None finds them in the first image.",
        nullable=True,
    )
    centralfreqs: tuple[float, ...] = option(
        "list", (128.0, 143.7, 160.2), "Centres of the bands of the spectral images; an empty list "
        "is the usual three bands.", unit="MHz", element="float", above=0,
    )
    use_splitisland: bool = option(
        "bool", False, "Split large islands of emission when deconvolving; external engines only."
    )
    splitisland_size: float = option(
        "float", 100.0, "Largest island then left whole; external engines only.", unit="pixels",
        above=0,
    )
    beam_model: str = option(
        "str", "auto", "Primary beam. auto: LOFAR where the measurement sets have the table "
        "LOFAR_ANTENNA_FIELD, none elsewhere; LOFAR and array_factor: array factor of the "
        "stations; full: array factor and element beam; none: no beam.", choices=BEAM_MODELS,
        ours=True,
    )
    nband: int = option(
        "int", 2, "Sub-bands of the spectral deconvolution.", low=1, ours=True
    )


@dataclass(frozen=True)
class Masking:
    """Where to clean."""

    thresholds: tuple[float, ...] = option(
        "list", (15.0, 10.0, 10.0, 5.0), "Clean thresholds of: [0] first and wide images, [1] "
        "rounds on the small list, [2] full-bandwidth images, [3] nothing.", unit="sigma",
        element="float", above=0, min_length=3, max_length=4,
    )
    low_threshold: float = option(
        "float", 3.0, "Mask threshold of low-resolution images.", unit="sigma", above=0
    )
    wide_threshold: float = option(
        "float", 3.0, "Mask threshold of the wide image.", unit="sigma", above=0
    )
    tgss: str | None = option(
        "str", None, "TGSS catalogue (FITS) whose sources are added to the mask; $$ stands for "
        "DDF_PIPELINE_CATALOGS.", nullable=True,
    )
    tgss_radius: float = option(
        "float", 8.0, "Radius of the disc put at each of its sources.", unit="pixels", above=0
    )
    tgss_flux: float = option("float", 300.0, "Least peak flux of these.", unit="mJy", low=0)
    tgss_extended: bool = option("bool", False, "Draw extended ones as ellipses.")
    tgss_pointlike: float = option(
        "float", 30.0, "Major axis above which a source is extended.", unit="arcsec", low=0
    )
    region: str | None = option("str", None, "ds9 regions added to the mask.", nullable=True)
    external_fits_mask: str | None = option(
        "str", None, "FITS mask, on the grid of the main images, added to the mask.", nullable=True
    )
    extended_size: int | None = option(
        "int", None, "Smallest island of the extended-emission masks made after the bootstrap; "
        "None makes none.", unit="pixels", low=1, nullable=True,
    )
    extended_rms: float = option(
        "float", 3.0, "Threshold of these masks.", unit="sigma", above=0
    )
    rmsfacet: bool = option(
        "bool", False, "Take the noise of every facet, not of the image, for these masks."
    )
    thres_outmaskextended: float = option(
        "float", 15.0, "Threshold on the first residual for the diffuse-emission mask.",
        unit="sigma", above=0,
    )
    use_maskdiffuse: bool = option(
        "bool", True, "Add the diffuse-emission mask to the mask and keep directions away from it."
    )
