"""Checks that need more than one option, the environment or the file system.

Every check returns (options involved, message) pairs, so that a message about an option whose
value could not be read at all can be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..errors import ConfigError
from ..naming import image_product
from .model import Config
from .option import default_of, options_of
from .sections_control import REFERENCE_CATALOGUES, Bootstrap
from .sections_image import Image

CATALOGS = "DDF_PIPELINE_CATALOGS"
Finding = tuple[tuple[str, ...], str]
"""Options as "section.name", and what is wrong with them."""

LEAST_BEAM = 1.5
"""Pixels of the narrowest restoring beam (`ddfpipe.imaging.restore`)."""

SMOOTHINGS = ("TEC", "PolyAmp")
"""What gains can be smoothed by (`ddfpipe.calibration.smooth`)."""

VERY_LOW_UV_KM = 1.6
"""Outer uv cut of images at very low resolution."""


def expand_catalogues(cfg: Config, environ: Mapping[str, str]) -> tuple[Config, list[Finding]]:
    """`$$` in the names of catalogues replaced by DDF_PIPELINE_CATALOGS.

    An unset variable is a finding, but for catalogues that are not going to be used.
    """
    findings: list[Finding] = []
    folder = environ.get(CATALOGS)

    def expand(path: str, key: str, needed: bool) -> str:
        if "$$" not in path:
            return path
        if folder:
            return path.replace("$$", folder)
        if needed:
            message = (
                f"{path} needs the environment variable {CATALOGS}, which is not set; set it to "
                "the folder of the catalogues or write the full path"
            )
            findings.append(((key,), message))
        return path

    tgss = cfg.masking.tgss
    if tgss is not None:
        cfg = replace(
            cfg, masking=replace(cfg.masking, tgss=expand(tgss, "masking.tgss", True))
        )
    targets = cfg.spectra.catalogue
    if targets is not None:
        targets = expand(targets, "spectra.catalogue", cfg.spectra.do_dynspec)
        cfg = replace(cfg, spectra=replace(cfg.spectra, catalogue=targets))
    if cfg.bootstrap.catalogues is not None:
        paths = tuple(
            expand(path, "bootstrap.catalogues", cfg.control.bootstrap)
            for path in cfg.bootstrap.catalogues
        )
        cfg = replace(cfg, bootstrap=replace(cfg.bootstrap, catalogues=paths))
    return cfg, findings


def missing_files(cfg: Config) -> Iterator[Finding]:
    """Catalogues, masks, regions and models that are named but do not exist."""
    wanted = [
        ("masking.tgss", cfg.masking.tgss),
        ("masking.region", cfg.masking.region),
        ("masking.external_fits_mask", cfg.masking.external_fits_mask),
        ("image.clusterfile", cfg.image.clusterfile),
        ("inputmodel.skymodel", cfg.inputmodel.skymodel),
        ("inputmodel.basemaskname", cfg.inputmodel.basemaskname),
    ]
    model = cfg.inputmodel
    if model.basedicomodel is not None and not any(input_model(cfg)):
        wanted += [
            ("inputmodel.basedicomodel", image_product(model.basedicomodel, "model")),
            ("inputmodel.baseimagename", image_product(model.baseimagename, "app_restored")),
        ]
    if cfg.spectra.do_dynspec:
        wanted.append(("spectra.catalogue", cfg.spectra.catalogue))
    if cfg.control.redo_DI:
        wanted.append(("control.redo_DI_model", cfg.control.redo_DI_model))
    if cfg.control.bootstrap:
        wanted += [("bootstrap.catalogues", path) for path in cfg.bootstrap.catalogues or ()]
    for key, path in wanted:
        # A path whose $$ could not be expanded has been reported already.
        if path is not None and "$$" not in path and not Path(path).exists():
            yield (key,), f"the file {path} does not exist"
    yield from _offsets(cfg)


def _offsets(cfg: Config) -> Iterator[Finding]:
    method, folder = cfg.offsets.method, cfg.offsets.catalogue_dir
    if method is None:
        return
    if method not in REFERENCE_CATALOGUES and not Path(method).is_file():
        yield ("offsets.method",), (
            f"there is neither a catalogue {method} nor such a file; choose one of "
            f"{', '.join(REFERENCE_CATALOGUES)}, or give the path of a catalogue"
        )
    if folder is not None and not Path(folder).is_dir():
        yield ("offsets.catalogue_dir",), f"there is no folder {folder}"


def contradictions(cfg: Config) -> Iterator[Finding]:
    """Options that do not go together."""
    for check in (_data, _beams, _final_beam, _uv_ranges, _low_resolution, _bands, _smoothing,
                  _bootstrap_lists, _sky_models, _wide_field, _archive):
        yield from check(cfg)


def input_model(cfg: Config) -> Iterator[Finding]:
    """The three [inputmodel] names and the cluster file come together or not at all."""
    model = cfg.inputmodel
    given = {
        "inputmodel.basedicomodel": model.basedicomodel,
        "inputmodel.basemaskname": model.basemaskname,
        "inputmodel.baseimagename": model.baseimagename,
    }
    if all(value is None for value in given.values()):
        return
    given["image.clusterfile"] = cfg.image.clusterfile
    missing = [spoken(key) for key, value in given.items() if value is None]
    if missing:
        yield tuple(given), (
            f"a run from an input model also needs {', '.join(missing)}"
        )


def advice(cfg: Config) -> list[str]:
    """Warnings about options that have no effect as they stand."""
    notes = []
    image = cfg.image
    if image.apply_weights[0]:
        notes.append("[image] apply_weights[0] has no effect: no solve, which could estimate "
                     "weights, comes before the first images")
    if image.final_psf_pa_deg is not None and image.final_psf_minor_arcsec is None:
        notes.append("[image] final_psf_pa_deg has no effect without final_psf_minor_arcsec")
    usual = default_of(Image, "splitisland_size")
    if image.use_splitisland and cfg.machine.engine == "native":
        notes.append("[image] use_splitisland has no effect with the native engine, whose clean "
                     "works on pixels and never collects them into islands; a large source costs "
                     "it no more than many small ones")
    elif image.splitisland_size != usual:
        notes.append("[image] splitisland_size has no effect without use_splitisland=True")
    if cfg.spectra.catalogue is not None and not cfg.spectra.do_dynspec:
        notes.append("[spectra] catalogue has no effect without do_dynspec=True")
    if cfg.control.redo_DI_model is not None and not cfg.control.redo_DI:
        notes.append("[control] redo_DI_model has no effect without redo_DI=True")
    if cfg.control.exitafter == "cleanup" and cfg.control.redofrom is None:
        notes.append("[control] exitafter=cleanup has no effect without redofrom")
    if cfg.masking.extended_size is not None and not cfg.control.bootstrap:
        notes.append("[masking] extended_size has no effect without bootstrap=True")
    if cfg.control.split_polcubes and not cfg.control.polcubes:
        notes.append("[control] split_polcubes has no effect without polcubes=True")
    if cfg.compression.compress_polcubes and not cfg.control.polcubes:
        notes.append("[compression] compress_polcubes has no effect without polcubes=True")
    if cfg.compression.compress_ms and cfg.data.full_mslist is None:
        notes.append("[compression] compress_ms has no effect without [data] full_mslist")
    if cfg.compression.delete_compressed and not cfg.compression.compress_polcubes:
        notes.append("[compression] delete_compressed has no effect without "
                     "compress_polcubes=True")
    return notes


def spoken(key: str) -> str:
    """An option's key as users write it: "[image] uvmin" for "image.uvmin"."""
    section, name = key.split(".")
    return f"[{section}] {name}"


def _data(cfg: Config) -> Iterator[Finding]:
    if cfg.data.mslist is None:
        yield ("data.mslist",), (
            "a text file that names the measurement sets must be given; make_mslists.py makes one"
        )
    if cfg.control.remove_columns and cfg.data.full_mslist is None:
        yield ("control.remove_columns", "data.full_mslist"), (
            "columns are removed from the measurement sets of full_mslist, which is not given"
        )


def _beams(cfg: Config) -> Iterator[Finding]:
    """Restoring beams that the pixels of their images can show."""
    image, full = cfg.image, cfg.data.full_mslist is not None
    pairs = [("psf_arcsec", "cellsize", True), ("final_psf_arcsec", "cellsize", full),
             ("final_psf_minor_arcsec", "cellsize", full), ("low_psf_arcsec", "low_cell", True),
             ("vlow_psf_arcsec", "vlow_cell", cfg.control.polcubes),
             ("wide_psf_arcsec", "wide_cell", image.do_wide)]
    for beam, cell, used in pairs:
        width, pixel = getattr(image, beam), getattr(image, cell)
        if used and width is not None and width < LEAST_BEAM * pixel:
            yield (f"image.{beam}", f"image.{cell}"), (
                f"a beam of {width:g} arcsec is less than {LEAST_BEAM:g} pixels of {pixel:g} "
                f"arcsec, too few to show its peak: lower {cell} or raise {beam}"
            )


def _smoothing(cfg: Config) -> Iterator[Finding]:
    asked = {kind.strip() for kind in cfg.solutions.smoothingtype.split(",") if kind.strip()}
    if cfg.solutions.smoothing and (not asked or asked - set(SMOOTHINGS)):
        yield ("solutions.smoothingtype",), (
            f"{cfg.solutions.smoothingtype!r} is unknown; use {', '.join(SMOOTHINGS)} or "
            f"{','.join(SMOOTHINGS)}"
        )


def _archive(cfg: Config) -> Iterator[Finding]:
    if Path(cfg.control.archive_dir).resolve() == Path.cwd():
        yield ("control.archive_dir",), (
            "redofrom moves products there, so it must be another folder than the one of the run"
        )


def _final_beam(cfg: Config) -> Iterator[Finding]:
    major, minor = cfg.image.final_psf_arcsec, cfg.image.final_psf_minor_arcsec
    if minor is None:
        return
    if cfg.image.final_psf_pa_deg is None:
        yield ("image.final_psf_minor_arcsec", "image.final_psf_pa_deg"), (
            "an elliptical beam needs its position angle: set final_psf_pa_deg"
        )
    if minor > major:
        yield ("image.final_psf_minor_arcsec", "image.final_psf_arcsec"), (
            f"the minor axis ({minor:g} arcsec) is longer than the major axis ({major:g} arcsec)"
        )


def _uv_ranges(cfg: Config) -> Iterator[Finding]:
    if cfg.image.uvmin >= cfg.image.uvmax:
        yield ("image.uvmin", "image.uvmax"), (
            f"uvmin ({cfg.image.uvmin:g} km) must be below uvmax ({cfg.image.uvmax:g} km)"
        )


def _low_resolution(cfg: Config) -> Iterator[Finding]:
    image, control = cfg.image, cfg.control
    if control.polcubes and image.uvmin >= VERY_LOW_UV_KM:
        yield ("control.polcubes", "image.uvmin"), (
            f"cubes at very low resolution use baselines up to {VERY_LOW_UV_KM:g} km: lower "
            f"[image] uvmin ({image.uvmin:g} km)"
        )
    if image.low_psf_arcsec is not None:
        return
    if control.bootstrap:
        yield ("control.bootstrap", "image.low_psf_arcsec"), (
            "bootstrap makes images at low resolution: set [image] low_psf_arcsec"
        )
    if control.polcubes and image.vlow_psf_arcsec is None:
        yield ("control.polcubes", "image.low_psf_arcsec"), (
            "polcubes makes images at low resolution: set [image] low_psf_arcsec, or only "
            "vlow_psf_arcsec for cubes at very low resolution alone"
        )


def _bands(cfg: Config) -> Iterator[Finding]:
    centres = cfg.image.centralfreqs
    if cfg.control.spectral_restored and len(set(centres)) < len(centres):
        yield ("image.centralfreqs",), "a band is named twice"


def _bootstrap_lists(cfg: Config) -> Iterator[Finding]:
    lists = {
        name: getattr(cfg.bootstrap, name)
        for name, spec in options_of(Bootstrap).items() if spec.kind == "list"
    }
    lengths = {name: len(value) for name, value in lists.items() if value is not None}
    if len(set(lengths.values())) > 1:
        words = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        yield tuple(f"bootstrap.{name}" for name in lengths), (
            f"all lists need one entry per catalogue, but {words}"
        )
    if cfg.control.bootstrap:
        for name in ("catalogues", "frequencies"):
            if lists[name] is None:
                yield (f"bootstrap.{name}", "control.bootstrap"), (
                    f"bootstrap=True needs the list {name}"
                )
        yield from _bootstrap_use(cfg)


def _bootstrap_use(cfg: Config) -> Iterator[Finding]:
    """What would make the factors indeterminate, or useless."""
    names, frequencies = cfg.bootstrap.names, cfg.bootstrap.frequencies
    if names is not None and len(set(names)) < len(names):
        yield ("bootstrap.names",), "every catalogue needs a name of its own"
    if frequencies is not None and max(frequencies) < 1.2 * min(frequencies):
        yield ("bootstrap.frequencies", "control.bootstrap"), (
            "catalogues at one frequency tell the level of the flux scale but not its slope: add "
            "one at another frequency"
        )
    if cfg.inputmodel.basedicomodel is not None:
        yield ("control.bootstrap", "inputmodel.basedicomodel"), (
            "a run from an input model begins after the bootstrap; switch one of them off"
        )


def _sky_models(cfg: Config) -> Iterator[Finding]:
    if cfg.inputmodel.skymodel is not None and cfg.inputmodel.basedicomodel is not None:
        yield ("inputmodel.skymodel", "inputmodel.basedicomodel"), (
            "both are starting models; give one of them"
        )


def _wide_field(cfg: Config) -> Iterator[Finding]:
    """The wide field must be there, and wider than the main one."""
    image = cfg.image
    if not image.do_wide:
        return
    if cfg.data.full_mslist is None:
        yield ("image.do_wide", "data.full_mslist"), (
            "do_wide subtracts from the measurement sets of full_mslist, which is not given"
        )
    wide, main = image.wide_imsize * image.wide_cell, image.imsize * image.cellsize
    if wide <= main:
        yield ("image.wide_imsize", "image.wide_cell"), (
            f"the wide image ({wide / 3600:.2f} deg) must reach beyond the main image "
            f"({main / 3600:.2f} deg)"
        )


def report(problems: list[str], error: Callable[[str], Exception] = ConfigError) -> Exception:
    """One error that tells all problems."""
    if len(problems) == 1:
        return error(problems[0])
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return error(f"{len(problems)} problems with the configuration:\n{lines}")
