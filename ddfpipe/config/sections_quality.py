"""Sections of the configuration of quality_pipeline.py."""

from __future__ import annotations

from dataclasses import dataclass

from .machine import cpu_count
from .option import option


@dataclass(frozen=True)
class QualityMachine:
    """What may be used of the machine."""

    NCPU: int = option("int", cpu_count, "Processes of the source finder, and threads.", low=1,
                       auto="detected")


@dataclass(frozen=True)
class QualityImage:
    """The image that is looked at."""

    pbimage: str = option("str", "image_full_ampphase_di_m.NS.int.restored.fits",
                          "Image corrected for the beam; fluxes are measured on it.")
    nonpbimage: str = option("str", "image_full_ampphase_di_m.NS.app.restored.fits",
                             "Image in apparent flux; sources are detected on it.")
    catprefix: str = option("str", "image_full_ampphase_di_m.NS",
                            "Prefix of the catalogue and its companions.")
    facets: str | None = option(
        "str", None, "Layout of the facets (ds9); None is the catprefix with .tessel.reg, if there "
        "is such a file.", nullable=True, ours=True)
    pbresidual: str | None = option(
        "str", None, "Residual image corrected for the beam, into which sources are injected; None "
        "is pbimage with residual for restored.", nullable=True, ours=True)
    nonpbresidual: str | None = option(
        "str", None, "Residual image in apparent flux; None is nonpbimage with residual for "
        "restored.", nullable=True, ours=True)


@dataclass(frozen=True)
class QualityControl:
    """What is done, and what is left out."""

    sfind_pixel_fraction: float = option(
        "float", 1.0, "Central part of the image, of each side, that is searched for sources.",
        above=0, high=1)
    fit_sourcecounts: bool = option("bool", True, "Find the flux scale that fits source counts.")
    quiet: bool = option("bool", False, "Write details to the log files only.")
    nobar: bool = option("bool", False, "No progress bars.", ours=True)
    logging: str | None = option(
        "str", "logs", "Folder of the log files; None prints to the screen only.", nullable=True)
    dryrun: bool = option("bool", False, "Show what would be done and do nothing.")
    restart: bool = option("bool", True, "Skip steps that an earlier run finished.")
    report: str = option(
        "str", "quality", "Name of the results: NAME.json, NAME.html and the folder NAME.",
        ours=True)
    completeness: bool = option(
        "bool", True, "Inject sources into the residual image and find them again.", ours=True)
    false_detections: bool = option(
        "bool", True, "Count sources in the image turned upside down.", ours=True)


@dataclass(frozen=True)
class QualityPybdsm:
    """The source finder."""

    atrous: bool = option("bool", True, "Also search on wavelet scales.")
    thresh_isl: float = option("float", 4.0, "Threshold of the boundary of a source.",
                               unit="sigma", above=0, ours=True)
    thresh_pix: float = option("float", 5.0, "Threshold of the peak of a source.", unit="sigma",
                               above=0, ours=True)
    rms_box: tuple[int, ...] = option(
        "list", (160, 50), "Size and step of the windows of the noise map.", unit="pixel",
        element="int", low=1, min_length=2, max_length=2, ours=True)
    rms_box_bright: tuple[int, ...] = option(
        "list", (60, 15), "The same near bright sources.", unit="pixel", element="int", low=1,
        min_length=2, max_length=2, ours=True)
    adaptive_thresh: float = option(
        "float", 150.0, "Peak from which on a source is bright in this sense.", unit="sigma",
        above=0, ours=True)
    extended_beams: float | None = option(
        "float", 6.0, "Islands longer than so many beams are measured in a second pass; None makes "
        "one pass only.", above=1, nullable=True, ours=True)


@dataclass(frozen=True)
class ComparisonCats:
    """Catalogues of other surveys; lists have one entry for each."""

    dir: str | None = option(
        "str", ".", "Folder of the catalogues; $$ stands for DDF_PIPELINE_CATALOGS, and None for "
        "that variable or else the working directory.", nullable=True)
    list: tuple[str, ...] | None = option(
        "list", None, "Names of the catalogues; None compares with none.", element="str",
        nullable=True, unique=True)
    filenames: tuple[str, ...] | None = option(
        "list", None, "Their files: FITS, VOTable, makesourcedb or plain text.", element="str",
        nullable=True)
    radii: tuple[float, ...] | None = option(
        "list", None, "Radii of the match; None is 10 each.", element="float", unit="arcsec",
        above=0, nullable=True)
    fluxfactor: tuple[float, ...] | None = option(
        "list", None, "What fluxes are divided by to get Jy; None goes by the units of the "
        "columns.", element="float", above=0, nullable=True, element_nullable=True)
    frequencies: tuple[float | None, ...] | None = option(
        "list", None, "Frequencies; None is known for many surveys by name, or by the file.",
        element="float", unit="MHz", above=0, nullable=True, element_nullable=True, ours=True)
    beams: tuple[float | None, ...] | None = option(
        "list", None, "Resolutions (FWHM); what lies in half a coarse beam is added up. None is "
        "known for many surveys by name, else that of the image.", element="float",
        unit="arcsec", low=0, nullable=True, element_nullable=True, ours=True)
    min_fluxes: tuple[float | None, ...] | None = option(
        "list", None, "Fainter sources of the survey count for positions only; None is 0.03 for "
        "NVSS, else 0.", element="float", unit="Jy", low=0, nullable=True, element_nullable=True,
        ours=True)
    columns: tuple[str, ...] | None = option(
        "list", None, "Names of unusual columns for each catalogue, as "
        "'ra=RA_DEG dec=DE_DEG flux=S151'; '-' where there are none.", element="str",
        nullable=True, ours=True)
    spectral_index: float = option(
        "float", -0.7, "Spectral index (S ~ nu^alpha) that links frequencies.", low=-3, high=3,
        ours=True)
    isolation: float = option(
        "float", 30.0, "Sources with a neighbour so near are left out.", unit="arcsec", low=0,
        ours=True)
    field_radius: float = option(
        "float", 3.0, "Sources farther from the centre are left out.", unit="deg", above=0,
        ours=True)
    compact: float = option(
        "float", 10.0, "Sources of a greater deconvolved size are left out of positions.",
        unit="arcsec", above=0, ours=True)
    min_matches: int = option(
        "int", 10, "Fewest sources that make a result; with fewer it is marked as uncertain and "
        "tests no limit.", low=1, ours=True)
    TGSS: str | None = option("str", None, "File of TGSS (the older way to name it).",
                              nullable=True)
    TGSS_matchrad: float = option("float", 10.0, "Radius of the match with TGSS.", unit="arcsec",
                                  above=0)
    TGSS_filtersize: float | None = option(
        "float", 40.0, "Larger sources of TGSS are left out.", unit="arcsec", above=0,
        nullable=True)
    TGSS_fluxfactor: float = option(
        "float", 1000.0, "What fluxes of TGSS are divided by, where the column has no unit.",
        above=0)
    FIRST: str | None = option("str", None, "File of FIRST (the older way to name it).",
                               nullable=True)
    FIRST_matchrad: float = option("float", 10.0, "Radius of the match with FIRST.",
                                   unit="arcsec", above=0)
    FIRST_filtersize: float | None = option(
        "float", 10.0, "Larger sources of FIRST are left out.", unit="arcsec", above=0,
        nullable=True)
    FIRST_fluxfactor: float = option(
        "float", 1.0, "What fluxes of FIRST are divided by, where the column has no unit.",
        above=0)


@dataclass(frozen=True)
class QualityMeasures:
    """How noise, dynamic range, counts and completeness are measured."""

    central_pixels: int = option("int", 1000, "Side of the central square of the noise.",
                                 unit="pixel", low=16, ours=True)
    noise_box: int = option("int", 100, "Windows of the noise map of the apparent image.",
                            unit="pixel", low=8, ours=True)
    bright_jy: float = option("float", 0.4, "Least apparent peak of sources of which the dynamic "
                              "range is taken.", unit="Jy", above=0, ours=True)
    bright_box: float = option("float", 60.0, "Square around them.", unit="arcsec", above=0,
                               ours=True)
    counts: str = option("str", "mandal2021", "Published counts to compare with.",
                         choices=("mandal2021", "franzen2019"), ours=True)
    counts_snr: float = option("float", 20.0, "Least signal to noise of sources that are counted.",
                               unit="sigma", above=0, ours=True)
    counts_bins: int = option("int", 20, "Bins of the counts.", low=2, ours=True)
    inject: int = option("int", 2000, "Most sources that are injected.", low=50, ours=True)
    bootstrap_samples: int = option("int", 10000, "Samples of the errors of medians.", low=50,
                                    ours=True)


@dataclass(frozen=True)
class QualityLimits:
    """What the image must keep, else the exit code is 6; None asks nothing."""

    max_noise_ujy: float | None = option("float", None, "Greatest central noise.",
                                         unit="uJy/beam", above=0, nullable=True, ours=True)
    min_dynamic_range: float | None = option("float", None, "Least median dynamic range.",
                                             above=0, nullable=True, ours=True)
    max_offset_arcsec: float | None = option(
        "float", None, "Greatest median offset, in RA or Dec, from any catalogue.", unit="arcsec",
        above=0, nullable=True, ours=True)
    max_facet_offset_arcsec: float | None = option(
        "float", None, "The same for each facet with min_matches sources or more.", unit="arcsec",
        above=0, nullable=True, ours=True)
    max_flux_error: float | None = option(
        "float", None, "Greatest deviation of the median flux ratio from 1, any catalogue with "
        "fluxes.", above=0, nullable=True, ours=True)
    max_counts_error: float | None = option(
        "float", None, "Greatest deviation from 1 of the scale that fits the source counts.",
        above=0, nullable=True, ours=True)
    max_size_ratio: float | None = option(
        "float", None, "Greatest median of total over peak flux in any annulus.", above=1,
        nullable=True, ours=True)
    max_complete_mjy: float | None = option(
        "float", None, "Greatest flux at which 90 % of sources are found.", unit="mJy", above=0,
        nullable=True, ours=True)
    max_false_fraction: float | None = option(
        "float", None, "Greatest ratio of negative to positive detections.", above=0,
        nullable=True, ours=True)
    min_sources: int | None = option("int", None, "Fewest sources in the catalogue.", low=1,
                                     nullable=True, ours=True)
