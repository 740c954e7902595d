"""Reference catalogues of positions: from files, or fetched from their servers in tiles."""

from ddfpipe.products.refcats.download import fetch_catalogue
from ddfpipe.products.refcats.local import (
    coverage, local_files, read_positions, read_reference, write_positions,
)
from ddfpipe.products.refcats.servers import SERVERS, reachable

__all__ = [
    "SERVERS", "coverage", "fetch_catalogue", "local_files", "read_positions", "read_reference",
    "reachable", "write_positions",
]
