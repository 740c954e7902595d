"""Reference catalogues: from disk in any form, and fetched from a server that fails at times."""

from __future__ import annotations

import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import ConfigError, DataError, StageFailed, StopRequested
from ddfpipe.products import refcats
from ddfpipe.products.crossmatch import nearest, separations
from ddfpipe.products.refcats import download, servers
from ddfpipe.products.refcats.servers import BadAnswer, parse_csv, parse_plain
from ddfpipe.products.refcats.tiling import MARGIN, RADIUS, circles, healpix_tiles
from ddfpipe.units import ARCSEC, DEGREE

GRID = SkyGrid(0.2 * DEGREE, 50 * DEGREE, 1000, 1000, 6 * ARCSEC)


class Monitor:
    """Keeps messages; `stop` raises."""

    def __init__(self):
        self.messages, self.stop = [], False

    def message(self, text):
        self.messages.append(text)

    def progress(self, what, done, total):
        pass

    def check(self):
        if self.stop:
            raise StopRequested("asked")


@pytest.fixture
def sky():
    """(n, 2) positions in degrees around GRID, across 0h."""
    rng = np.random.default_rng(0)
    half = 0.6 * GRID.nx * GRID.cell
    ra, dec = GRID.radec(*rng.uniform(-half, half, (2, 4000)))
    return np.degrees(np.stack([ra, dec], axis=1))


@pytest.fixture
def server(sky):
    """A server like MAST's and a TAP service; it fails as `server.faults` says, in order."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            self.server.paths.append(self.path)
            fault = self.server.faults.pop(0) if self.server.faults else None
            if fault == "busy":
                self.send_error(503)
                return
            if fault == "cut":
                self.close_connection = True
                self.connection.close()
                return
            text = "<html>maintenance</html>" if fault == "html" else self.answer()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def answer(self):
            parts = urllib.parse.urlsplit(self.path)
            query = {k: v[0] for k, v in urllib.parse.parse_qs(parts.query).items()}
            if "QUERY" in query:
                ra, dec, radius = (float(v) for v in
                                   query["QUERY"].split("'ICRS', ")[-1].rstrip(")").split(","))
                return self.rows(ra, dec, radius, "ra,dec")
            if "radius" in query:
                ra, dec, radius = (float(query[k]) for k in ("ra", "dec", "radius"))
                size, page = int(query["pagesize"]), int(query["page"])
                return self.rows(ra, dec, radius, "raMean,decMean", size * (page - 1), size)
            pixel = int(parts.path.rsplit("/", 1)[1])
            from ducc0.healpix import Healpix_Base

            angles = np.radians(sky)
            mine = Healpix_Base(64, "RING").ang2pix(
                np.stack([0.5 * np.pi - angles[:, 1], angles[:, 0]], axis=1)) == pixel
            return "".join(f"{a:.7f} {b:.7f} 17{k}\n" for k, (a, b) in enumerate(sky[mine]))

        def rows(self, ra, dec, radius, head, first=0, count=None):
            away = separations(*np.radians(sky.T), *np.radians([[ra], [dec]]))
            found = sky[away <= radius * DEGREE][first:][:count]
            return head + "\n" + "".join(f"{a:.9f},{b:.9f}\n" for a, b in found)

        def log_message(self, *words):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.faults, made.paths = [], []
    made.address = f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def inside(sky):
    """Positions on GRID and a little beyond, sorted, in degrees."""
    l, m = GRID.lm_of(*np.radians(sky.T))  # noqa: E741
    half = GRID.nx * GRID.cell / 2 + MARGIN
    return sky[(abs(l) < half) & (abs(m) < half)]


def has_all(found, wanted):
    """Whether every position (n, 2) is among those found, (ra, dec) in radians."""
    return (nearest(*np.radians(wanted.T), *found)[1] < 1e-3 * ARCSEC).all()


# ---------------------------------------------------------------------- tiles


@pytest.mark.parametrize("dec", [-60.0, 0.0, 60.0, 89.0, 90.0])
def test_circles_leave_no_gap(dec):
    grid = SkyGrid(10 * DEGREE, dec * DEGREE, 1000, 1000, 30 * ARCSEC)
    tiles = circles(grid)
    half = 500 * grid.cell + MARGIN
    rng = np.random.default_rng(1)
    ra, dec = grid.radec(*rng.uniform(-half, half, (2, 3000)))
    away = separations(ra[:, None], dec[:, None], [t.ra for t in tiles], [t.dec for t in tiles])
    assert (away.min(axis=1) < RADIUS).all()
    assert len(tiles) < 2.2 * (2 * half / RADIUS) ** 2 / np.pi
    assert len({tile.name for tile in tiles}) == len(tiles)


def test_healpix_tiles_cover_the_field():
    from ducc0.healpix import Healpix_Base

    names = {tile.name for tile in healpix_tiles(GRID)}
    half = 500 * GRID.cell
    ra, dec = GRID.radec(*np.random.default_rng(1).uniform(-half, half, (2, 2000)))
    pixels = Healpix_Base(64, "RING").ang2pix(np.stack([0.5 * np.pi - dec, ra], axis=1))
    assert {str(pixel) for pixel in pixels} <= names


# ---------------------------------------------------------------------- fetching


@pytest.mark.parametrize("name", ["panstarrs", "wise", "pslocal"])
def test_a_field_is_fetched(name, server, sky, tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "PAGE", 300)  # so that MAST's answers come in several pages
    found = refcats.fetch_catalogue(name, GRID, tmp_path / name, Monitor(), server=server.address)
    assert has_all(found, inside(sky))
    assert len(found[0]) <= len(sky), "no object twice"
    if name == "panstarrs":
        assert any("page=2" in path for path in server.paths)
        assert all("nDetections.gte=6" in path for path in server.paths)


def test_faults_are_waited_out(server, sky, tmp_path):
    server.faults = ["busy", "html", "cut"]
    waited = []
    monitor = Monitor()
    found = refcats.fetch_catalogue("wise", GRID, tmp_path, monitor, server=server.address,
                                    sleep=waited.append)
    assert has_all(found, inside(sky))
    assert sum(waited) == 5 + 20 + 35
    told = " ".join(monitor.messages)
    assert "503" in told and "maintenance" in told and "cannot be reached" in told


def test_what_has_come_is_not_fetched_again(server, sky, tmp_path):
    server.faults = [None, None] + ["busy"] * 3
    with pytest.raises(StageFailed, match="503.*kept.*catalogue_dir.*method=None"):
        refcats.fetch_catalogue("wise", GRID, tmp_path, Monitor(), server=server.address, tries=3,
                                sleep=lambda s: None)
    before = len(server.paths)
    assert len(list(tmp_path.glob("*.fits"))) == 2
    found = refcats.fetch_catalogue("wise", GRID, tmp_path, Monitor(), server=server.address)
    assert len(server.paths) - before == len(circles(GRID)) - 2
    assert has_all(found, inside(sky))
    asked = len(server.paths)
    refcats.fetch_catalogue("wise", GRID, tmp_path, Monitor(), server=server.address)
    assert len(server.paths) == asked, "complete: nobody is asked"


def test_without_a_network(tmp_path):
    with pytest.raises(StageFailed, match="panstarrs is not complete: .* cannot be reached"):
        refcats.fetch_catalogue("panstarrs", GRID, tmp_path, Monitor(), tries=2,
                                server="http://127.0.0.1:9", sleep=lambda s: None)
    assert not refcats.reachable("http://127.0.0.1:9")
    assert not refcats.reachable("http://no.invalid")


def test_a_server_is_reachable(server):
    assert refcats.reachable(server.address + "/some/thing")


def test_a_stop_is_noticed_while_waiting(server, tmp_path):
    monitor = Monitor()

    def sleep(seconds):
        monitor.stop = True

    server.faults = ["busy"] * 9
    with pytest.raises(StopRequested):
        refcats.fetch_catalogue("wise", GRID, tmp_path, monitor, server=server.address,
                                sleep=sleep)


def test_cut_answers_are_no_answers(monkeypatch, server, tmp_path):
    monkeypatch.setattr(servers, "MOST_ROWS", 100)
    with pytest.raises(StageFailed, match="some are missing"):
        refcats.fetch_catalogue("gaia", GRID, tmp_path, Monitor(), tries=1,
                                server=_gaia(server, monkeypatch))


def _gaia(server, monkeypatch):
    from dataclasses import replace

    tap = replace(servers.SERVERS["gaia"], ra="ra", dec="dec")
    monkeypatch.setitem(download.SERVERS, "gaia", tap)
    return server.address


@pytest.mark.parametrize("text", ["", "<VOTABLE>error</VOTABLE>", "a,b\n1,2\n", "ra,dec\n1\n",
                                  "ra,dec\nx,2\n", "ra,dec\n1,95\n"])
def test_nonsense_is_recognised(text):
    with pytest.raises(BadAnswer):
        parse_csv(text, "ra", "dec")


def test_plain_lists():
    assert parse_plain("# RA DEC\n1.5 2.5 99\n3,4\n").tolist() == [[1.5, 2.5], [3, 4]]
    assert parse_plain("").shape == (0, 2)
    for text in ("<html>no</html>", "hello world", "1.0 x"):
        with pytest.raises(BadAnswer):
            parse_plain(text)


# ---------------------------------------------------------------------- on disk


def write(path: Path, ra, dec, names=("RA", "DEC"), **given):
    path.parent.mkdir(exist_ok=True)
    Table([ra, dec], names=names).write(path, **given)
    return path


@pytest.mark.parametrize("file, names, given", [
    ("panstarrs.fits", ("raMean", "decMean"), {}),
    ("panstarrs.vo", ("RAJ2000", "DEJ2000"), {"format": "votable"}),
    ("panstarrs.xml", ("ra", "dec"), {"format": "votable"}),
    ("panstarrs.csv", ("RA", "DEC"), {"format": "csv"}),
    ("panstarrs/part1.fits", ("RA_ICRS", "DE_ICRS"), {}),
])
def test_catalogues_of_any_form(tmp_path, sky, file, names, given):
    write(tmp_path / file, *sky.T, names, **given)
    files = refcats.local_files("panstarrs", tmp_path, GRID)
    assert files == [tmp_path / file]
    ra, dec = refcats.read_reference(files)
    np.testing.assert_allclose(np.degrees(ra), sky[:, 0], atol=1e-9)
    near = refcats.read_reference(files, GRID)
    assert has_all(near, inside(sky)) and len(near[0]) < len(sky)
    assert refcats.local_files(str(tmp_path / file), None) == [tmp_path / file]


def test_healpix_tiles_on_disk(tmp_path, sky):
    wanted = healpix_tiles(GRID)
    folder = tmp_path / "pslocal"
    folder.mkdir()
    for number, tile in enumerate(wanted):
        (folder / tile.name).write_text("".join(
            f"{a:.8f} {b:.8f} 1\n" for a, b in sky[number::len(wanted)]))
    (folder / "1").write_text("10 -80 4\n")
    files = refcats.local_files("pslocal", tmp_path, GRID)
    assert {p.name for p in files} == {tile.name for tile in wanted}
    assert has_all(refcats.read_reference(files, GRID), inside(sky))
    (folder / wanted[0].name).write_text("<html>")
    with pytest.raises(DataError, match="cannot be read"):
        refcats.read_reference(files, GRID)


def test_what_is_not_there(tmp_path):
    assert refcats.local_files("wise", None) is None
    with pytest.raises(ConfigError, match="neither wise.fits"):
        refcats.local_files("wise", tmp_path)
    (tmp_path / "wise.fits").write_text("SIMPLE  = no")
    with pytest.raises(DataError, match="wise.fits"):
        refcats.read_reference(refcats.local_files("wise", tmp_path))


def test_coverage(sky):
    ra, dec = np.radians(sky.T)
    assert refcats.coverage(ra, dec, GRID) > 0.95
    west = GRID.lm_of(ra, dec)[0] < 0
    assert refcats.coverage(ra[west], dec[west], GRID) == pytest.approx(0.5, abs=0.1)
    assert refcats.coverage(ra + 1.0, dec, GRID) == 0.0


def test_positions_survive_their_file(tmp_path, sky):
    path = refcats.write_positions(tmp_path / "p.fits", *np.radians(sky.T))
    np.testing.assert_allclose(np.stack(refcats.read_positions(path), axis=1), np.radians(sky),
                               atol=1e-12)
