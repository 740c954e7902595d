"""redo_DI: station phases against a list of components, and where that list comes from."""

from __future__ import annotations

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from engine_fields import CENTRE, Listener, make_engine, make_field, radec_of, sources_at

from ddfpipe.data import skyserver
from ddfpipe.data.skymodel import read_skymodel
from ddfpipe.data.viscache import open_cache
from ddfpipe.engines.base import SolveJob, VisSelection
from ddfpipe.engines.native.phases import ListPredictor
from ddfpipe.engines.native.reader import open_reader
from ddfpipe.errors import ResourceError, SolveError
from ddfpipe.simulate.sky import Source, write_skymodel
from ddfpipe.simulate.truth import read_truth
from ddfpipe.units import ARCSEC, DEGREE


def sky() -> list[Source]:
    """Points out to 3 degrees and two Gaussians, off centre and inclined."""
    points = sources_at([(0.2, 0.3), (-1.1, 0.7), (2.1, -2.0), (0.5, -1.9)], [6, 4, 9, 3], -0.8)
    wide = []
    for name, (east, north), size in (("g0", (-0.4, -0.3), (200.0, 60.0, 0.6)),
                                      ("g1", (1.3, 1.0), (90.0, 40.0, 2.4))):
        ra, dec = radec_of(east * DEGREE, north * DEGREE)
        wide.append(Source(name, float(ra), float(dec), 5.0, (-0.7,), 144e6,
                           size[0] * ARCSEC, size[1] * ARCSEC, size[2]))
    return points + wide


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    """(MSs, engine, truth): phases of the stations that change from slot to slot, noise, beam."""
    folder = tmp_path_factory.mktemp("phases")
    simulation = make_field(
        folder / "field", sky(), beam="array_factor", companions=True, subsamples=1,
        errors={"phase_rms_rad": 1.2, "timescale_min": 2.0}, noise={"sample_jy": 0.5},
        observation={"core_fields": 12, "remote_stations": 5, "blocks": 3, "slots": 4,
                     "channels": 4},
    )
    engine = make_engine(folder, beam_model="array_factor", threads=2)
    write_skymodel(sky(), folder / "sky.txt")
    return simulation.ms, engine, read_truth(folder / "field")


def job_of(sets, **changes) -> SolveJob:
    job = SolveJob(
        name="redo_DI", vis=VisSelection(tuple(sets), "DATA", uv_km=(0.15, 1000.0)), kind="phase",
        model="sky.txt", dt_min=0.0, n_chan_sols=1, update_weights=False,
    )
    return replace(job, **changes)


def test_components_are_predicted_as_the_simulator_does(disturbed):
    """Points and Gaussians through the beam, to a fraction of a per cent of the whole."""
    sets, engine, _ = disturbed
    clean, noise = (open_cache(sets[0], name, engine.cache_dir)
                    for name in ("CLEAN_DATA", "NOISE_DATA"))
    beam = engine.beam(sets[0])
    predictor = ListPredictor(
        read_skymodel(engine.workdir / "sky.txt"), clean.phase_centre, [clean], [beam], True
    )
    part = slice(1, 10)
    want = clean.stokes_i(part.start, part.stop) - noise.stokes_i(part.start, part.stop)
    left = predictor(clean, part) - want
    rms = np.sqrt(np.mean(np.abs(want) ** 2))
    assert np.sqrt(np.mean(np.abs(left) ** 2)) < 3e-3 * rms
    flat = ListPredictor(
        replace(read_skymodel(engine.workdir / "sky.txt"), gaussian=np.zeros(6, bool)),
        clean.phase_centre, [clean], [beam], True,
    )
    assert np.sqrt(np.mean(np.abs(flat(clean, part) - want) ** 2)) > 0.05 * rms


def test_station_phases_are_found_and_taken_out(disturbed):
    sets, engine, truth = disturbed
    result = engine.solve(job_of(sets), Listener())
    assert result.details["sets"] == 2 and result.details["chi2"] < 1.1
    assert result.details["flagged"] == 0
    for number, ms in enumerate(sets):
        data, clean = (open_cache(ms, name, engine.cache_dir) for name in ("DATA", "CLEAN_DATA"))
        read = open_reader(data, VisSelection((ms,), "DATA", pre_di="redo_DI"), engine.solsdir)
        noise = open_cache(ms, "NOISE_DATA", engine.cache_dir)
        whole = slice(0, data.n_time)
        want = clean.vis[whole] - noise.vis[whole]
        before = data.vis[whole] - noise.vis[whole] - want
        # the noise turns with the phases: it is compared with its own size
        after = read(whole) - want
        size = [np.sqrt(np.mean(np.abs(v[..., [0, 3]]) ** 2)) for v in (want, before, after)]
        assert size[1] > 0.8 * size[0]
        thermal = np.sqrt(np.mean(np.abs(noise.vis[whole][..., [0, 3]]) ** 2))
        assert size[2] < 1.15 * thermal + 0.02 * size[0]
        gains = read.pre.gains[:, 0, :, 0]
        true = truth.station_jones(number)[:, :, 0][..., [0, 1], [0, 1]]
        wrong = np.angle(gains * true.conj())
        wrong = np.angle(np.exp(1j * (wrong - wrong[:, :1])))
        error = read.pre.error[:, 0, :, 0]
        assert np.sqrt(np.mean(wrong**2)) < 2.5 * np.sqrt(np.mean(error**2))


def test_a_set_that_is_done_is_kept_until_the_sky_model_changes(disturbed):
    sets, engine, _ = disturbed
    job = job_of(sets[:1], name="again")
    [npz] = [p for p in engine.solve(job, Listener()).products if p.suffix == ".npz"]
    first = npz.stat().st_mtime_ns
    engine.solve(job, Listener())
    assert npz.stat().st_mtime_ns == first
    write_skymodel(sky()[:4], engine.workdir / "sky.txt")
    try:
        worse = engine.solve(job, Listener())
        assert npz.stat().st_mtime_ns != first and worse.details["chi2"] > 1.2
    finally:
        write_skymodel(sky(), engine.workdir / "sky.txt")


def test_a_sky_model_of_another_field_is_refused(disturbed):
    sets, engine, _ = disturbed
    far = [replace(s, ra=s.ra + np.pi, dec=-s.dec) for s in sky()]
    write_skymodel(far, engine.workdir / "far.txt")
    with pytest.raises(SolveError, match="far.txt.*sky model of this field"):
        engine.solve(job_of(sets[:1], name="far", model="far.txt"), Listener())


# ---------------------------------------------------------------------- the server


class Server(BaseHTTPRequestHandler):
    """Answers with what `answer` holds and remembers what was asked."""

    answer, asked = b"", ""

    def do_GET(self):
        Server.asked = self.path
        self.send_response(200 if Server.answer else 503)
        self.end_headers()
        self.wfile.write(Server.answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Server) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setitem(skyserver.SERVERS, "GSM", f"http://127.0.0.1:{made.server_port}/gsm")
        yield Server
        made.shutdown()


def test_a_sky_model_is_asked_for_and_kept(server, tmp_path):
    write_skymodel(sky(), tmp_path / "sky.txt")
    server.answer = (tmp_path / "sky.txt").read_bytes()
    size = skyserver.download_skymodel(
        "GSM", tuple(np.radians(CENTRE)), 5 * DEGREE, tmp_path / "got.skymodel"
    )
    assert size == 6 and (tmp_path / "got.skymodel").read_bytes() == server.answer
    assert server.asked == "/gsm?coord=210.000000,50.000000&radius=5&unit=deg&deconv=y"


@pytest.mark.parametrize("answer", [b"", b"<html>no</html>", b"FORMAT = Name, Type, Ra, Dec, I\n"])
def test_a_useless_answer_names_the_option(server, tmp_path, answer):
    server.answer = answer
    with pytest.raises(ResourceError, match=r"GSM server.*\[control\] redo_DI_model"):
        skyserver.download_skymodel("GSM", (1.0, 0.8), 0.1, tmp_path / "got.skymodel")
    assert list(tmp_path.iterdir()) == []


def test_no_network_names_the_option(monkeypatch, tmp_path):
    monkeypatch.setitem(skyserver.SERVERS, "TGSS", "http://127.0.0.1:9/none")
    with pytest.raises(ResourceError, match=r"TGSS server.*\[control\] redo_DI_model") as caught:
        skyserver.download_skymodel("TGSS", (1.0, 0.8), 0.1, tmp_path / "got.skymodel")
    assert caught.value.exit_code == 1
