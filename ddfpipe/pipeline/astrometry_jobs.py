"""Jobs of the astrometry of a finished image: sources, reference, offsets, moved images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddfpipe.naming import image_product, offset_sources, offsets_file, reference_label

RESTORED, MOVED = ("app_restored", "int_restored"), ("app_facet_restored", "int_facet_restored")
"""Kinds of products that sources are found on: of an ordinary image, and of a moved one."""


@dataclass(frozen=True)
class AstrometryJob:
    """What all jobs of this module have in common: root of the image."""

    image: str

    @property
    def reads(self) -> tuple[Path, ...]:
        """Files that it reads: products, and files of the user."""
        raise NotImplementedError


@dataclass(frozen=True)
class OffsetSourcesJob(AstrometryJob):
    """Find the sources of an image.  kinds: its apparent and its intrinsic product."""

    kinds: tuple[str, str] = RESTORED

    @property
    def reads(self) -> tuple[Path, ...]:
        return tuple(Path(image_product(self.image, kind)) for kind in self.kinds)


@dataclass(frozen=True)
class ReferenceJob(AstrometryJob):
    """Bring a reference catalogue of the field of an image together.

    method, catalogue_dir, server: as the options.  file: the catalogue, where it is one file of
    the user's.  kind: product of the image whose grid is the field.
    """

    method: str = ""
    catalogue_dir: str | None = None
    server: str | None = None
    file: Path | None = None
    kind: str = RESTORED[0]

    @property
    def reads(self) -> tuple[Path, ...]:
        image = Path(image_product(self.image, self.kind))
        return (image,) if self.file is None else (image, self.file)


@dataclass(frozen=True)
class OffsetsJob(AstrometryJob):
    """Measure the offsets of an image's facets.

    method: reference catalogue; fit: "mcmc" or "chi2"; facets: facet layout.  kinds: products of
    the image.  label: word for the products' names.  correct: also write what corrections need.
    """

    method: str = ""
    fit: str = "mcmc"
    facets: Path = Path()
    kinds: tuple[str, str] = RESTORED
    label: str = ""
    correct: bool = True

    @property
    def reference(self) -> Path:
        """The reference catalogue of the field."""
        return Path(offsets_file(reference_label(self.method), "reference"))

    @property
    def reads(self) -> tuple[Path, ...]:
        return (Path(image_product(self.image, self.kinds[0])), self.facets, self.reference,
                Path(offset_sources(self.image, "catalogue")))


@dataclass(frozen=True)
class ShiftJob(AstrometryJob):
    """Move the facets of an image by offsets.  facets: facet layout; offsets: their table."""

    facets: Path = Path()
    offsets: Path = Path()

    @property
    def reads(self) -> tuple[Path, ...]:
        return (Path(image_product(self.image, RESTORED[0])), self.facets, self.offsets)
