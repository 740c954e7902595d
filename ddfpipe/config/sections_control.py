"""Sections [control], [bootstrap], [compression], [offsets] and [spectra]."""

from __future__ import annotations

from dataclasses import dataclass

from .option import option

COLUMNS = ("SCALED_DATA", "DATA_DI_CORRECTED", "DD_PREDICT", "IMAGING_WEIGHT")


@dataclass(frozen=True)
class Control:
    """What is done, what is left out, and where a run begins and ends."""

    quiet: bool = option("bool", False, "Write details to the log files only.")
    nobar: bool = option("bool", False, "No progress bars.")
    logging: str | None = option(
        "str", "logs", "Folder of the log files; None prints to the screen only.", nullable=True
    )
    dryrun: bool = option("bool", False, "Show what would be done and do nothing.")
    restart: bool = option("bool", True, "Skip steps that an earlier run finished.")
    cache_dir: str | None = option(
        "str", None, "Folder for caches; None is the working directory.", nullable=True
    )
    clearcache: bool = option(
        "bool", True, "Delete caches at the start and after finding the directions."
    )
    clearcache_end: bool = option("bool", True, "Delete caches when no longer needed.")
    skip_di: bool = option("bool", False, "Leave out all direction-independent solves.")
    bootstrap: bool = option("bool", False, "Tie the flux scale to other surveys.")
    catch_signal: bool = option("bool", True, "On SIGUSR1 stop before the next step.")
    exitafter: str | None = option(
        "str", None, "Stop after this stage or exit point, exit code 2; 'plan' lists the names.",
        nullable=True,
    )
    redofrom: str | None = option(
        "str", None, "Put the products from this stage on (or from start, or dirin) aside and make "
        "them again.", nullable=True,
    )
    archive_dir: str = option("str", "old", "Folder to which redofrom moves products.")
    msss_mode: bool = option(
        "bool", False, "Stokes I cubes with one channel per frequency in the full-bandwidth images."
    )
    remove_columns: bool = option(
        "bool", False, "First delete the columns that earlier runs put into full_mslist."
    )
    spectral_restored: bool = option("bool", False, "Make an image of every band.")
    polcubes: bool = option(
        "bool", False, "Make dirty Stokes Q and U cubes of all channels, at very low resolution "
        "and, if low_psf_arcsec is given, at low resolution."
    )
    split_polcubes: bool = option(
        "bool", False, "Write Q and U into files of their own, without an axis for Stokes."
    )
    polcubes_stokes: str = option(
        "str", "QU", "Stokes parameters of these cubes; with split_polcubes each of them is a cube "
        "of its own.", choices=("QU", "IQU", "QUV", "IQUV", "IV", "I", "V"), ours=True,
    )
    stokesv: bool = option("bool", False, "Make a Stokes V image of every observation.")
    redo_DI: bool = option(
        "bool", False, "Before all else calibrate phases on a catalogue sky model."
    )
    redo_DI_type: str = option(
        "str", "GSM", "Server that is asked for that sky model.", choices=("GSM", "TGSS")
    )
    redo_DI_model: str | None = option(
        "str", None, "Sky model of that calibration (makesourcedb text); None asks the server.",
        nullable=True, ours=True,
    )
    beam_at: str = option(
        "str", "facet", "Where the beam is evaluated: facet centre or direction of its "
        "calibrator; external engines only.", choices=("facet", "tessel"),
    )
    strategy: str = option(
        "str", "classic", "Sequence of steps.", choices=("classic",), ours=True
    )
    write_columns: tuple[str, ...] = option(
        "list", (), "Columns to write into the measurement sets at the end of the run; "
        "without any they are never touched.", element="str", choices=COLUMNS,
        unique=True, ours=True,
    )


@dataclass(frozen=True)
class Bootstrap:
    """Catalogues that set the flux scale; every list has one entry per catalogue."""

    catalogues: tuple[str, ...] | None = option(
        "list", None, "FITS catalogues with RA, DEC, Total_flux and E_Total_flux; $$ stands for "
        "DDF_PIPELINE_CATALOGS.", element="str", min_length=1, nullable=True,
    )
    groups: tuple[int | str, ...] | None = option(
        "list", None, "A source must be in at least one catalogue of every group; None makes every "
        "catalogue a group.", element="label", min_length=1, nullable=True,
    )
    frequencies: tuple[float, ...] | None = option(
        "list", None, "Frequencies of the catalogues.", unit="Hz", element="float", low=1e6,
        min_length=1, nullable=True,
    )
    names: tuple[str, ...] | None = option(
        "list", None, "Short names of the catalogues; None takes the file names.", element="str",
        min_length=1, nullable=True,
    )
    radii: tuple[float, ...] | None = option(
        "list", None, "Match radii; None is 10 for all.", unit="arcsec", element="float", above=0,
        min_length=1, nullable=True,
    )
    min_sources: int = option(
        "int", 5, "Reference sources that are needed; of fewer, one bad match can decide.", low=2,
        ours=True,
    )
    on_failure: str = option(
        "str", "stop", "What to do when no factors can be found: stop, or go on with the flux "
        "scale of the data (unscaled).", choices=("stop", "unscaled"), ours=True,
    )


@dataclass(frozen=True)
class Compression:
    """What is packed at the end."""

    compress_polcubes: bool = option("bool", False, "Compress the cubes with fpack.")
    fpack_q: int = option(
        "int", 4, "Quantisation of fpack: steps that the noise is divided into; 0 loses nothing.",
        low=0,
    )
    delete_compressed: bool = option(
        "bool", False, "Delete a cube once its compressed copy has been read back."
    )
    compress_ms: bool = option(
        "bool", False, "Write dysco-compressed copies <ms>.archive of all measurement sets."
    )


REFERENCE_CATALOGUES = ("panstarrs", "pslocal", "wise", "gaia")
"""Catalogues that [offsets] method knows by name."""


@dataclass(frozen=True)
class Offsets:
    """Astrometry against another survey."""

    method: str | None = option(
        "str", None, "Reference catalogue: panstarrs, pslocal (Pan-STARRS in HEALPix tiles), wise, "
        "gaia, or the path of a catalogue; None corrects nothing.", nullable=True,
    )
    catalogue_dir: str | None = option(
        "str", None, "Folder of reference catalogues on disk; None fetches them.", nullable=True,
        ours=True,
    )
    server: str | None = option(
        "str", None, "Address of another server of the reference catalogue; None is the usual one.",
        nullable=True, ours=True,
    )
    fit: str = option("str", "mcmc", "How offsets are fitted: mcmc samples their probability, chi2 "
                      "takes its maximum and curvature.", choices=("mcmc", "chi2"))
    mode: str = option(
        "str", "normal", "normal, or test: also measure what is left on the shifted image.",
        choices=("normal", "test"),
    )


@dataclass(frozen=True)
class Spectra:
    """Dynamic spectra of single sources."""

    do_dynspec: bool = option("bool", False, "Make dynamic spectra.")
    bright_threshold: float = option(
        "float", 1.0, "Peak flux, apparent and true, from which compact sources of the final image "
        "are targets too.", unit="Jy", low=0,
    )
    catalogue: str | None = option(
        "str", None, "Targets: FITS table with RA and DEC in degrees, or text with a right "
        "ascension, a declination and if you like a name on each line; $$ stands for "
        "DDF_PIPELINE_CATALOGS.", nullable=True, ours=True,
    )
    radius: float = option(
        "float", 2.0, "Targets and the positions that measure the noise lie within this distance "
        "from the phase centre.", unit="deg", above=0, ours=True,
    )
