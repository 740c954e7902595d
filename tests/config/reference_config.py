"""The options of ddf-pipeline with their defaults, and configurations in use with it.

Typed from the documentation of ddf-pipeline v3.1, not from our code.
"""

from __future__ import annotations

AUTO = object()
"""Default found on the machine."""

REFERENCE = {
    "machine": {"NCPU_DDF": ("int", AUTO), "NCPU_killms": ("int", AUTO)},
    "data": {
        "mslist": ("str", None),
        "full_mslist": ("str", None),
        "colname": ("str", "CORRECTED_DATA"),
    },
    "solutions": {
        "ndir": ("int", 45),
        "SolsDir": ("str", "SOLSDIR"),
        "NChanSols": ("int", None),
        "dt_slow": ("float", 1.0),
        "do_very_slow": ("bool", True),
        "sigma_clip": ("float", 5.0),
        "dt_very_slow": ("float", 43.63),
        "dt_di": ("float", None),
        "dt_fast": ("float", 0.5),
        "LambdaKF": ("float", 0.5),
        "NIterKF": ("list", [1, 1, 1, 1, 6, 1, 6]),
        "normalize": ("list", ["BLBased", "BLBased", "SumBLBased"]),
        "uvmin": ("float", None),
        "uvmin_very_slow": ("float", 0.5),
        "wtuv": ("float", None),
        "robust": ("float", None),
        "smoothing": ("bool", True),
        "smoothingtype": ("str", "TEC,PolyAmp"),
        "apply_sols": ("list", ["P", "AP", "AP", "AP", "AP", "AP", "AP"]),
    },
    "image": {
        "do_wide": ("bool", False),
        "wide_imsize": ("int", 10000),
        "wide_cell": ("float", 10.0),
        "wide_robust": ("float", -0.20),
        "wide_psf_arcsec": ("float", 45.0),
        "imsize": ("int", 20000),
        "cellsize": ("float", 1.5),
        "robust": ("float", -0.15),
        "final_robust": ("float", -0.5),
        "psf_arcsec": ("float", 12.0),
        "final_psf_arcsec": ("float", 6.0),
        "final_psf_minor_arcsec": ("float", None),
        "final_psf_pa_deg": ("float", None),
        "final_rmsfactor": ("float", 1.0),
        "low_psf_arcsec": ("float", None),
        "low_robust": ("float", -0.20),
        "low_cell": ("float", 4.5),
        "low_imsize": ("int", None),
        "vlow_psf_arcsec": ("float", None),
        "vlow_robust": ("float", -0.20),
        "vlow_cell": ("float", 50.0),
        "vlow_imsize": ("int", 500),
        "do_decorr": ("bool", True),
        "HMPsize": ("int", 10),
        "uvmin": ("float", 0.1),
        "uvmax": ("float", 1000.0),
        "apply_weights": ("list", [False, True, True, True]),
        "use_weightspectrum": ("bool", False),
        "clusterfile": ("str", None),
        "centralfreqs": ("list", [128.0, 143.7, 160.2]),
        "use_splitisland": ("bool", False),
        "splitisland_size": ("float", 100),
    },
    "masking": {
        "thresholds": ("list", [15, 10, 10, 5]),
        "low_threshold": ("float", 3.0),
        "wide_threshold": ("float", 3.0),
        "tgss": ("str", None),
        "tgss_radius": ("float", 8.0),
        "tgss_flux": ("float", 300),
        "tgss_extended": ("bool", False),
        "tgss_pointlike": ("float", 30),
        "region": ("str", None),
        "external_fits_mask": ("str", None),
        "extended_size": ("int", None),
        "extended_rms": ("float", 3.0),
        "rmsfacet": ("bool", False),
        "thres_outmaskextended": ("float", 15),
        "use_maskdiffuse": ("bool", True),
    },
    "control": {
        "quiet": ("bool", False),
        "nobar": ("bool", False),
        "logging": ("str", "logs"),
        "dryrun": ("bool", False),
        "restart": ("bool", True),
        "cache_dir": ("str", None),
        "clearcache": ("bool", True),
        "clearcache_end": ("bool", True),
        "skip_di": ("bool", False),
        "bootstrap": ("bool", False),
        "catch_signal": ("bool", True),
        "exitafter": ("str", None),
        "redofrom": ("str", None),
        "archive_dir": ("str", "old"),
        "msss_mode": ("bool", False),
        "remove_columns": ("bool", False),
        "spectral_restored": ("bool", False),
        "polcubes": ("bool", False),
        "split_polcubes": ("bool", False),
        "stokesv": ("bool", False),
        "redo_DI": ("bool", False),
        "redo_DI_type": ("str", "GSM"),
        "beam_at": ("str", "facet"),
    },
    "bootstrap": {
        "catalogues": ("list", None),
        "groups": ("list", None),
        "frequencies": ("list", None),
        "names": ("list", None),
        "radii": ("list", None),
    },
    "compression": {
        "compress_polcubes": ("bool", False),
        "fpack_q": ("int", 4),
        "delete_compressed": ("bool", False),
        "compress_ms": ("bool", False),
    },
    "offsets": {"method": ("str", None), "fit": ("str", "mcmc"), "mode": ("str", "normal")},
    "spectra": {"do_dynspec": ("bool", False), "bright_threshold": ("float", 1.0)},
    "inputmodel": {
        "basedicomodel": ("str", None),
        "basemaskname": ("str", None),
        "baseimagename": ("str", None),
    },
}

COUNTS = {
    "image": 32, "control": 23, "solutions": 19, "masking": 15, "bootstrap": 5, "compression": 4,
    "data": 3, "offsets": 3, "inputmodel": 3, "machine": 2, "spectra": 2,
}

BASE = {
    "data": {
        "mslist": "mslist.txt", "full_mslist": "big-mslist.txt", "colname": "CORRECTED_DATA",
    },
    "image": {
        "imsize": "20000", "robust": "-0.15", "psf_arcsec": "12.0", "final_robust": "-0.5",
        "final_psf_arcsec": "6.0", "do_decorr": "True", "low_imsize": "6000",
        "low_psf_arcsec": "20", "low_robust": "-0.25", "final_rmsfactor": "1.0",
    },
    "control": {
        "restart": "True", "bootstrap": "True", "polcubes": "True", "stokesv": "True",
        "spectral_restored": "True", "clearcache": "False",
    },
    "masking": {
        "tgss": "$$/TGSSADR1_7sigma_catalog.fits", "extended_size": "2000",
        "thresholds": "[15,5,5,5]", "rmsfacet": "True",
    },
    "bootstrap": {
        "catalogues": "['$$/VLSS.fits','$$/wenss.fits']", "names": "['VLSS','WENSS']",
        "radii": "[40,10]", "frequencies": "[74e6,327e6]",
    },
    "solutions": {
        "ndir": "45", "uvmin": "0.1", "normalize": "['None','None','None']",
        "NIterKF": "[6, 6, 6, 6, 6, 6, 6]", "dt_slow": "1.0", "dt_fast": "0.5",
    },
    "spectra": {"do_dynspec": "True"},
    "offsets": {"method": "pslocal"},
    "compression": {
        "compress_polcubes": "True", "delete_compressed": "True", "compress_ms": "True",
    },
}
"""The recipe of the second LoTSS release (tier1-jul2018)."""

NVSS = {
    "bootstrap": {
        "catalogues": "['$$/VLSS.fits','$$/wenss.fits',\n  '$$/NVSS.fits']",
        "names": "['VLSS','WENSS','NVSS']", "radii": "[40,10,30]",
        "frequencies": "[74e6,327e6,1400e6]", "groups": "[1,2,2]",
    },
}
LOW_BEAM = {
    "do_wide": "True", "wide_imsize": "10000", "wide_cell": "10.0", "wide_psf_arcsec": "45.0",
    "final_psf_arcsec": "9.0", "final_psf_minor_arcsec": "8.0", "final_psf_pa_deg": "90.0",
}
PHASES = "['P','P','P','P','P','P','P']"
NO_EXTRAS = {"control": {"spectral_restored": "False"}, "offsets": {"method": "None"}}
MODEL = {
    "image": {"clusterfile": "template/image_dirin_SSD_m.npy.ClusterCat.npy"},
    "inputmodel": {
        "basedicomodel": "template/image_full_ampphase_di_m.NS",
        "basemaskname": "template/image_full_ampphase_di_m.NS.mask.fits",
        "baseimagename": "template/image_full_ampphase_di_m.NS",
    },
}
BARE = {
    "control": {
        "bootstrap": "False", "polcubes": "False", "stokesv": "False", "spectral_restored": "False",
    },
    "spectra": {"do_dynspec": "False"},
    "offsets": {"method": "None"},
}
MAR2024_MW = {
    "masking": {"low_threshold": "5"}, "solutions": {"dt_di": "20", "apply_sols": PHASES},
}
JUL2018_MW = {
    "image": {"use_splitisland": "True"}, "control": {"skip_di": "True"},
    "masking": {"thresholds": "[50,50,50,50]", "rmsfacet": "False"},
    "solutions": {"apply_sols": PHASES},
}

VARIANTS = {
    "tier1-jul2018": [],
    "tier1-jul2018-NVSS": [NVSS],
    "tier1-jul2018-lowdec": [NVSS, {"image": LOW_BEAM}],
    "tier1-jul2018-MW": [NVSS, JUL2018_MW],
    "tier1-mar2024-MW": [NVSS, MAR2024_MW],
    "tier1-mar2024-MW-lowdec": [NVSS, MAR2024_MW, {"image": LOW_BEAM}],
    "tier1-sep2024": [NO_EXTRAS],
    "tier1-sep2024-NVSS": [NVSS, NO_EXTRAS],
    "tier1-sep2024-lowdec": [NVSS, {"image": LOW_BEAM}, NO_EXTRAS],
    "tier1-sep2024-MW": [NVSS, MAR2024_MW, NO_EXTRAS],
    "tier1-sep2024-MW-lowdec": [NVSS, MAR2024_MW, {"image": LOW_BEAM}, NO_EXTRAS],
    "tier1-minimal": [
        BARE,
        {"control": {"bootstrap": "True"}, "data": {"colname": "DATA"},
         "solutions": {"dt_di": "0.2"},
         "compression": {"compress_polcubes": "False", "delete_compressed": "False",
                         "compress_ms": "False"}},
    ],
    "tier1-rerun": [BARE, MODEL, {"data": {"colname": "DATA"}}],
    "tier1-nov2018-deepfields": [
        BARE, MODEL,
        {"spectra": {"do_dynspec": "True"}, "offsets": {"method": "panstarrs"},
         "image": {"low_psf_arcsec": "None"}, "solutions": {"dt_di": "0.2"}},
    ],
    "tier1-apr2021-galactic": [
        JUL2018_MW,
        {"machine": {"NCPU_DDF": "32"}, "data": {"colname": "DATA"},
         "solutions": {"dt_di": "0.2"}},
    ],
    "tier1": [
        {"solutions": {"uvmin": "1.5"}, "masking": {"thresholds": "[15,4,4,4]"},
         "offsets": {"method": "panstarrs"}, "control": {"stokesv": "False"},
         "spectra": {"do_dynspec": "False"}, "image": {"auto_uvmin": "False"},
         "compression": {"compress_polcubes": "False", "delete_compressed": "False",
                         "compress_ms": "False"}},
    ],
}
"""What each production configuration changes, in order, in BASE."""

STALE = {
    "tier1-feb2018": [
        {"solutions": {"NIterKF": "[6, 6, 6]", "PowerSmooth": "0.0"},
         "control": {"second_selfcal": "False"}, "image": {"auto_uvmin": "False"}},
    ],
    "tier1-apr2018": [
        {"solutions": {"NIterKF": "[6, 6, 6]", "PowerSmooth": "0.0", "NChanSols_di": "5",
                       "ndir": "90"},
         "control": {"second_selfcal": "False"},
         "image": {"auto_uvmin": "False", "imsize": "25000"}},
    ],
    "tier1-dec2017": [
        {"solutions": {"PowerSmooth": "0.0", "dt": "1.0", "final_dt": "0.5",
                       "smoothing": "100"},
         "image": {"auto_uvmin": "False"}},
    ],
}
"""Configurations that ddf-pipeline itself can no longer run."""


def config_text(changes: list[dict]) -> str:
    """Text of a .cfg file: BASE with `changes` applied in order."""
    table = {title: dict(options) for title, options in BASE.items()}
    for change in changes:
        for title, options in change.items():
            table.setdefault(title, {}).update(options)
    blocks = []
    for title, options in table.items():
        blocks.append(f"[{title}]\n" + "".join(f"{k}={v}\n" for k, v in options.items()))
    return "\n".join(blocks)
