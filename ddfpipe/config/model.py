"""The configuration of a run as one frozen value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .option import Option, options_of
from .sections_control import Bootstrap, Compression, Control, Offsets, Spectra
from .sections_data import Data, InputModel, Machine, Solutions
from .sections_image import Image, Masking

SECTIONS: dict[str, type] = {
    "machine": Machine,
    "data": Data,
    "solutions": Solutions,
    "image": Image,
    "masking": Masking,
    "control": Control,
    "bootstrap": Bootstrap,
    "compression": Compression,
    "offsets": Offsets,
    "spectra": Spectra,
    "inputmodel": InputModel,
}
"""Section dataclasses by name, in the order in which they are documented."""


@dataclass(frozen=True)
class Config:
    """All options of a run.  `Config()` holds the defaults.

    provenance: where a value came from, by "section.option": "command line" or "FILE:LINE";
        an option that is not in it has its default.  Not compared.
    """

    machine: Machine = field(default_factory=Machine)
    data: Data = field(default_factory=Data)
    solutions: Solutions = field(default_factory=Solutions)
    image: Image = field(default_factory=Image)
    masking: Masking = field(default_factory=Masking)
    control: Control = field(default_factory=Control)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    compression: Compression = field(default_factory=Compression)
    offsets: Offsets = field(default_factory=Offsets)
    spectra: Spectra = field(default_factory=Spectra)
    inputmodel: InputModel = field(default_factory=InputModel)
    provenance: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def source(self, section: str, name: str) -> str:
        """Where the value of an option came from: "default", "command line" or "FILE:LINE"."""
        return self.provenance.get(f"{section}.{name}", "default")


def all_options(sections: Mapping[str, type] = SECTIONS) -> Iterator[tuple[str, str, Option]]:
    """Every option as (section, name, what is known of it)."""
    for section, cls in sections.items():
        for name, spec in options_of(cls).items():
            yield section, name, spec
