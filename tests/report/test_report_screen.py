"""Progress, monitor, logs, figures, tables and the report page."""

import io
import re
import threading

import pytest

from ddfpipe.errors import StopRequested
from ddfpipe.log import StageLog
from ddfpipe.report.figures import figure_text, flux
from ddfpipe.report.monitor import RunMonitor
from ddfpipe.report.page import PageRow, write_page
from ddfpipe.report.progress import Progress, duration
from ddfpipe.report.summary import write_summary
from ddfpipe.report.table import table


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_logs_have_the_time_in_front_and_earlier_ones_are_kept(tmp_path):
    for text in ("first\nsecond", "third"):
        log = StageLog(tmp_path / "logs", "image_phase1")
        log.line(text)
        log.close()
        log.line("after the end")
    lines = (tmp_path / "logs/image_phase1.log.1").read_text().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: second", lines[1])
    assert (tmp_path / "logs/image_phase1.log").read_text().endswith(": third\n")


def test_a_log_that_cannot_be_written_says_so_and_fails_nothing(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    log = StageLog(tmp_path / "logs", "x")
    log.line("text")
    assert isinstance(log.trouble, OSError)


def test_a_full_disk_ends_the_log_only():
    log = StageLog(None, "x")
    log._stream = open("/dev/full", "w")
    log.line("text")
    assert log.trouble.errno == 28
    log.line("more")


def test_without_terminal_progress_does_not_flood(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("ddfpipe.report.progress.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(stream=stream)
    for step in range(1000):
        clock[0] += 0.3
        progress.update("gridding", step, 1000)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r"    gridding: \d+ of 1000, .* left", lines[0])


@pytest.mark.parametrize("options", [{"quiet": True}, {"bars": False}])
def test_quiet_and_nobar_show_no_progress(options):
    for stream in (io.StringIO(), Terminal()):
        progress = Progress(stream=stream, **options)
        progress.update("gridding", 1, 2)
        progress.close()
        assert stream.getvalue() == ""


def test_bars_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    progress = Progress(stream=stream)
    progress.update("gridding", 1, 2)
    progress.text("a line")
    progress.update("gridding", 2, 2)
    progress.close()
    assert "gridding" in stream.getvalue() and "a line" in stream.getvalue()
    assert progress._tasks == {}


def test_monitor_passes_on_and_stops(tmp_path):
    asked = []

    def stop():
        if asked:
            raise StopRequested("asked")

    notes = []
    monitor = RunMonitor(Progress(quiet=True), stop, quiet=True, note=notes.append)
    monitor.check()
    log = StageLog(tmp_path, "stage")
    monitor.new_stage(log)
    monitor.message("hello")
    threads = [
        threading.Thread(target=lambda n=n: [monitor.progress(f"loop{n}", i, 50)
                                             for i in range(51)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = (tmp_path / "stage.log").read_text()
    assert ": hello\n" in text
    assert text.count("loop0: ") == 11
    assert len(notes) == 1 and len(notes[0]) == 1
    asked.append(1)
    with pytest.raises(StopRequested):
        monitor.check()


def test_figures_as_text():
    text = figure_text({
        "noise": 8.5e-5, "peak": 1.25, "dynamic_range": 14705.8, "model_flux": 12.345,
        "beam_arcsec": [6.0, 5.0, 80.0], "cycles": [1, 2], "masked_fraction": 0.0123,
        "chi2": 1.00321, "kept": True, "intervals": 12,
    })
    assert text == (
        "noise 85 uJy/beam, peak 1.25 Jy/beam, dynamic range 14706, model 12.3 Jy, "
        "beam 6.0 x 5.0 arcsec at 80 deg, masked 1.2 %, chi2 1.003, kept True, intervals 12"
    )
    assert flux(float("nan")) == "unknown" and flux(0.0) == "0 Jy" and flux(-2e-3) == "-2 mJy"


@pytest.mark.parametrize("seconds, text", [
    (0.31, "0.3 s"), (59.6, "1 min 0 s"), (750, "12 min 30 s"), (11520, "3 h 12 min"),
    (187200, "2 d 4 h"), (86399.9, "1 d 0 h"), (3599.7, "1 h 0 min"),
])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_table_columns_line_up():
    text = table([("a", "1"), ("long", "22")], ("name", "x"), right=())
    assert text.splitlines() == ["name  x", "a     1", "long  22"]


def test_page_escapes_and_links(tmp_path):
    rows = [
        PageRow("image_phase1", "phases", "done", seconds=75, figures={"noise": 1e-4},
                pictures=("previews/a b.png",)),
        PageRow("DDS1", "amplitudes <&>", "failed", note="gains < 0 & worse"),
    ]
    write_page(tmp_path / "report.html", "field <1>", rows)
    text = (tmp_path / "report.html").read_text()
    assert "1 of 2 stages done" in text and "noise 100 uJy/beam" in text and "1 min 15 s" in text
    assert "field &lt;1&gt;" in text and "gains &lt; 0 &amp; worse" in text
    assert 'src="previews/a b.png"' in text and list(tmp_path.iterdir()) == [
        tmp_path / "report.html"]


def test_summary_pads_keys_to_twenty(tmp_path):
    write_summary(tmp_path / "summary.txt", {"numpy": "2.4"}, {"ndir": 45, "image_robust": -0.15},
                  "completed")
    lines = (tmp_path / "summary.txt").read_text().splitlines()
    assert lines[0].startswith("ddfpipe completed, 20")
    assert "ndir                 : 45" in lines and "image_robust         : -0.15" in lines
    assert "numpy version        : 2.4" in lines
