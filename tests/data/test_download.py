"""Downloads from a server that drops, lies, refuses and changes its mind."""

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import pytest
from web_server import TOKEN, Site, serve

from ddfpipe.data import download as module
from ddfpipe.data.checksums import (
    Checksum, from_digest_header, parse_checksum, read_checksums,
)
from ddfpipe.data.download import Manner, download_all, fetch, part_of
from ddfpipe.data.webclient import Client, _Redirects
from ddfpipe.data.webindex import Remote, parse_index, read_token, read_url_list
from ddfpipe.errors import ConfigError, DataError, ResourceError, StopRequested

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "download.py"
BYTES = np.random.default_rng(5).bytes(6500)
QUICK = Manner(retries=2, pause=0.01)


@pytest.fixture
def site():
    made = Site({"/x.tar": BYTES})
    server, made.url = serve(made)
    yield made
    server.shutdown()
    server.server_close()


def get(site, folder, kind="", checksum=None, manner=QUICK, client=None):
    site.kinds["/x.tar"] = kind
    remote = Remote(f"{site.url}/x.tar", "x.tar")
    return fetch(client or Client(), remote, folder, checksum, None, manner)


@pytest.mark.parametrize("kind, verified", [
    ("", "length"), ("no-range", "length"), ("digest-adler32", "adler32"), ("digest-md5", "md5"),
    ("no-length", ""), ("no-head", "length"), ("busy", "length"),
])
def test_a_file_arrives_whole_and_tells_how_that_is_known(site, tmp_path, kind, verified):
    made = get(site, tmp_path, kind)
    assert (made.size, made.fetched, made.verified) == (len(BYTES), len(BYTES), verified)
    assert (tmp_path / "x.tar").read_bytes() == BYTES
    assert os.listdir(tmp_path) == ["x.tar"]


@pytest.mark.parametrize("kind", ["drops", "resets"])
def test_dropped_connections_are_taken_up_where_they_broke(site, tmp_path, kind):
    said = []
    made = get(site, tmp_path, kind, manner=Manner(retries=2, pause=0.01, say=said.append))
    assert (tmp_path / "x.tar").read_bytes() == BYTES
    if kind == "drops":
        assert site.gets() == [None, *(f"bytes={n}000-" for n in range(1, 7))]
        assert made.fetched == len(BYTES), "nothing twice"
        assert "ended after 1000 of 6500 bytes" in said[0]


def test_a_second_process_goes_on(site, tmp_path):
    with pytest.raises(DataError, match="what came is kept, run again"):
        get(site, tmp_path, "drops-no-range", manner=Manner(retries=0))
    assert part_of(tmp_path / "x.tar").read_bytes() == BYTES[:1000]
    made = get(site, tmp_path)
    assert site.gets()[-1] == "bytes=1000-" and made.fetched == len(BYTES) - 1000
    assert (tmp_path / "x.tar").read_bytes() == BYTES and len(os.listdir(tmp_path)) == 1


def test_a_server_that_refuses_ranges_is_begun_anew_not_appended(site, tmp_path):
    with pytest.raises(DataError, match="3 times"):
        get(site, tmp_path, "drops-no-range")
    assert len(part_of(tmp_path / "x.tar").read_bytes()) == 1000
    assert get(site, tmp_path, "no-range").fetched == len(BYTES)
    assert (tmp_path / "x.tar").read_bytes() == BYTES


def test_a_server_that_lies_about_the_length_does_not_hang(site, tmp_path):
    with pytest.raises(DataError, match="ended after 6500 of 7000 bytes, 3 times"):
        get(site, tmp_path, "lies")
    assert not (tmp_path / "x.tar").exists()


def test_chunks_that_end_early_are_no_file(site, tmp_path):
    with pytest.raises(DataError, match="the connection broke"):
        get(site, tmp_path, "short-chunks")
    assert not (tmp_path / "x.tar").exists()


def test_parts_of_different_files_are_never_joined(site, tmp_path):
    site.drop_after = 4000
    with pytest.raises(DataError):
        get(site, tmp_path, "changes")
    assert not (tmp_path / "x.tar").exists()
    part = part_of(tmp_path / "x.tar").read_bytes()
    assert part in (BYTES[:4000], BYTES[::-1][:4000])
    said = []
    with pytest.raises(DataError):
        get(site, tmp_path, "shifted", manner=Manner(2, 0.01, say=said.append))
    assert any("does not belong to the file on the server" in line for line in said)
    assert not (tmp_path / "x.tar").exists()
    get(site, tmp_path)
    assert (tmp_path / "x.tar").read_bytes() == BYTES
    part_of(tmp_path / "x.tar").write_bytes(b"of unknown origin")
    (tmp_path / "x.tar").unlink()
    get(site, tmp_path)
    assert (tmp_path / "x.tar").read_bytes() == BYTES


def test_a_wrong_checksum_is_tried_once_more_then_refused(site, tmp_path):
    right = Checksum("md5", hashlib.md5(BYTES).hexdigest())
    assert get(site, tmp_path, checksum=right).verified == "md5"
    (tmp_path / "x.tar").unlink()
    before = len(site.gets())
    with pytest.raises(DataError, match="has not the md5 0{32}, twice"):
        get(site, tmp_path, checksum=Checksum("md5", "0" * 32))
    assert len(site.gets()) == before + 2 and os.listdir(tmp_path) == []
    with pytest.raises(DataError, match="adler32"):
        get(site, tmp_path, "wrong-digest")


def test_a_file_that_is_there_is_looked_at(site, tmp_path):
    target = tmp_path / "x.tar"
    remote = Remote(f"{site.url}/x.tar", "x.tar")
    right = {"x.tar": Checksum("adler32", f"{zlib.adler32(BYTES):08x}")}
    said = []
    manner = Manner(2, 0.01, say=said.append)
    target.write_bytes(BYTES[:50])
    done = download_all(Client(), [remote], tmp_path, manner=manner).done
    assert done[0].fetched == len(BYTES) and "50 bytes instead of 6500" in " ".join(said)
    assert download_all(Client(), [remote], tmp_path, right, manner=manner).done[0].fetched == 0
    target.write_bytes(BYTES[::-1])
    assert download_all(Client(), [remote], tmp_path, manner=manner).done[0].fetched == 0
    done = download_all(Client(), [remote], tmp_path, right, manner=manner).done
    assert done[0].verified == "adler32" and target.read_bytes() == BYTES


def test_refusals_name_the_token_and_end_at_once(site, tmp_path):
    with pytest.raises(ResourceError, match=r"401.*no token was sent.*--token FILE"):
        get(site, tmp_path, "auth")
    with pytest.raises(ResourceError, match=r"403.*token of my\.conf; it may have expired"):
        get(site, tmp_path, "auth", client=Client("stale", "my.conf"))
    assert len(site.gets()) == 2 and os.listdir(tmp_path) == []
    assert get(site, tmp_path, "auth", client=Client(TOKEN, "my.conf")).verified == "length"
    with pytest.raises(ConfigError, match="unencrypted; use https"):
        Client(TOKEN, "my.conf").open("http://example.org/x.tar")


def test_a_token_is_not_shown_to_other_hosts(site, tmp_path):
    other = Site({"/x.tar": BYTES})
    server, other.url = serve(other)
    site.elsewhere = other.url
    try:
        get(site, tmp_path, "redirect", client=Client(TOKEN, "my.conf"))
    finally:
        server.shutdown()
        server.server_close()
    assert site.requests[-1][3] == f"Bearer {TOKEN}" and other.requests[-1][3] is None
    assert (tmp_path / "x.tar").read_bytes() == BYTES


@pytest.mark.parametrize("new, shown", [
    ("https://h/y", True), ("http://h/y", False), ("https://h:8443/y", False),
])
def test_a_token_stays_with_its_host_and_scheme(new, shown):
    request = urllib.request.Request("https://h/x", headers={"Authorization": "Bearer t"})
    followed = _Redirects().redirect_request(request, None, 302, "Found", {}, new)
    assert followed.has_header("Authorization") == shown


def test_what_fails_does_not_hinder_the_others(site, tmp_path):
    names = [f"L{n}.tar" for n in range(5)]
    site.files |= {f"/{name}": name.encode() * 100 for name in names}
    remotes = [Remote(f"{site.url}/{name}", name) for name in ("gone.tar", *names)]
    seen = []
    made = download_all(Client(), remotes, tmp_path / "new", jobs=2, manner=Manner(
        1, 0.01, progress=lambda *words: seen.append(words)))
    assert [one.path.name for one in made.done] == names
    assert len(made.failed) == 1 and "gone.tar: is not on the server (404" in made.failed[0]
    assert {word[0] for word in seen} == set(names) and all(a <= b for _, a, b in seen)


def test_too_small_a_disk_is_told_before_anything_comes(site, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage",
                        lambda path: shutil._ntuple_diskusage(9, 9, 4000))
    remote = Remote(f"{site.url}/x.tar", "x.tar")
    with pytest.raises(ResourceError, match="6.5 kB are still to come, 4 kB are free"):
        download_all(Client(), [remote], tmp_path)
    assert site.gets() == []


def test_a_stop_keeps_what_came(site, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    calls = []

    def check():
        calls.append(1)
        if len(calls) > 6:
            raise StopRequested("enough")

    remote = Remote(f"{site.url}/x.tar", "x.tar")
    with pytest.raises(StopRequested):
        download_all(Client(), [remote], tmp_path, manner=Manner(check=check))
    kept = part_of(tmp_path / "x.tar").read_bytes()
    assert 0 < len(kept) < len(BYTES) and BYTES.startswith(kept)
    download_all(Client(), [remote], tmp_path)
    assert site.gets()[-1] == f"bytes={len(kept)}-"


def test_two_processes_do_not_write_one_file(site, tmp_path):
    with open(part_of(tmp_path / "x.tar"), "wb") as stream:
        stream.write(b"mine")
        stream.flush()
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="another process"):
            get(site, tmp_path)
    assert part_of(tmp_path / "x.tar").read_bytes() == b"mine"


def test_no_server_at_all(tmp_path):
    with pytest.raises(DataError, match="no connection.*3 times"):
        fetch(Client(), Remote("http://127.0.0.1:9/x.tar", "x.tar"), tmp_path, manner=QUICK)


MD5, ADLER = hashlib.md5(b"a").hexdigest(), "00620062"


@pytest.mark.parametrize("line, kind", [
    (f"{MD5}  L1.tar", "md5"), (f"{MD5.upper()} *L1.tar", "md5"), (f"MD5 (L1.tar) = {MD5}", "md5"),
    (f"{'ab' * 32}  deep/L1.tar", "sha256"), (f"{'ab' * 20}  L1.tar", "sha1"),
    (f"{ADLER}  L1.tar", "adler32"), ("/pnfs/x/L1.tar  ADLER32=620062", "adler32"),
    ("L1.tar adler32:00620062", "adler32"), (f"sha-512:{'0' * 128} L1.tar", "sha512"),
])
def test_lines_of_checksums(tmp_path, line, kind):
    (tmp_path / "sums").write_text(f"# comment\n\n{line}\n")
    [(name, checksum)] = read_checksums(tmp_path / "sums").items()
    assert (name, checksum.kind) == ("L1.tar", kind)
    if kind in ("md5", "adler32"):
        (tmp_path / "L1.tar").write_bytes(b"a")
        assert checksum.of(tmp_path / "L1.tar") == checksum


@pytest.mark.parametrize("line", ["L1.tar", "12345  L1.tar", "md5:00620062  L1.tar", MD5])
def test_lines_that_are_no_checksums(tmp_path, line):
    (tmp_path / "sums").write_text(f"{MD5}  a\n{line}\n")
    with pytest.raises(DataError, match="sums, line 2: is no checksum"):
        read_checksums(tmp_path / "sums")


def test_lone_checksums_and_headers():
    assert parse_checksum("ADLER32=620062") == Checksum("adler32", ADLER)
    assert parse_checksum("no checksum") is None
    assert from_digest_header("adler32=00620062, md5=DMF1ucDxtqgxw5niaXcmYQ==") == Checksum(
        "md5", MD5)
    assert from_digest_header("md5=?, crc=1") is None and from_digest_header(None) is None


PAGE = """<a href="?C=N">Name</a><a href="../">up</a>
<a href="L1_a.tar">L1_a.tar</a><A HREF='L1_a.tar'>again</A><a href="L1_a.tar.md5">sum</a>
<a href="sub/L1_b.tar.gz">b</a><a href="step1_x.tar">x</a><a href="notes.txt">n</a>"""
BUTTONS = """<a href="/api/L9_1.tar?x=1" title="Download" download="L9_1.tar">d</a>
<a href="/view/L9_1.tar" title="View">v</a><a href="/api/step1.tar" title="Download">s</a>"""


def test_index_pages():
    plain = parse_index(PAGE, "https://h/f/")
    assert plain == [
        Remote("https://h/f/L1_a.tar", "L1_a.tar", "https://h/f/L1_a.tar.md5"),
        Remote("https://h/f/sub/L1_b.tar.gz", "L1_b.tar.gz")]
    assert parse_index(BUTTONS, "https://h/f/") == [
        Remote("https://h/api/L9_1.tar?x=1", "L9_1.tar")]
    assert [r.name for r in parse_index(PAGE, "https://h/", ("step1", "_a"))] == ["L1_b.tar.gz"]
    with pytest.raises(DataError, match="not the name of a file"):
        parse_index('<a href="x" title="Download" download="../../evil.tar">', "https://h/")


def test_lists_of_addresses(tmp_path):
    path = tmp_path / "urls.txt"
    path.write_text("# mine\nhttps://h/a/L%201.tar  # first\n\nhttp://h/b.tar?t=1\n")
    assert [r.name for r in read_url_list(path)] == ["L 1.tar", "b.tar"]
    path.write_text("https://h/a/x.tar\nhttps://h/b/x.tar\n")
    with pytest.raises(ConfigError, match="two files called x.tar"):
        read_url_list(path)
    path.write_text("ftp://h/x.tar\n")
    with pytest.raises(DataError, match="line 1: is not the address"):
        read_url_list(path)


def test_tokens(tmp_path):
    path = tmp_path / "maca.conf"
    path.write_text(f"[maca]\ntype = webdav\nbearer_token = {TOKEN}\nurl = https://h\n")
    assert read_token(path) == TOKEN
    path.write_text(TOKEN + "\n")
    assert read_token(path) == TOKEN
    for text in ("", "[maca]\ntype = webdav\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="maca.conf: holds no token"):
            read_token(path)
    with pytest.raises(ConfigError, match="gone: cannot be read"):
        read_token(tmp_path / "gone")


def call(folder, *words, **environment):
    done = subprocess.run([sys.executable, str(SCRIPT), *words], cwd=folder, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=600,
                          env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


def test_an_observation_by_its_name(site, tmp_path):
    page = "".join(f'<a href="L7_{n}.tar">x</a>' for n in range(3))
    site.files |= {"/SKSP/L7/": page.encode() + b'<a href="L7_0.tar.md5">x</a>',
                   "/SKSP/L7/L7_0.tar.md5": hashlib.md5(b"0").hexdigest().encode() + b" L7_0.tar"}
    site.files |= {f"/SKSP/L7/L7_{n}.tar": str(n).encode() for n in range(3)}
    server = f"--server={site.url}/SKSP"
    code, _, err = call(tmp_path, "L7", server)
    assert code == 1 and "links to 3 archive(s) instead of at least 24" in err
    assert os.listdir(tmp_path) == []
    code, out, err = call(tmp_path, "L7", server, "--expect", "3")
    assert code == 0, err
    assert "3 file(s), 3 bytes" in out and "L7_0.tar: 1 bytes fetched, verified by its md5" in out
    assert sorted(os.listdir(tmp_path / "L7")) == [f"L7_{n}.tar" for n in range(3)]
    code, out, _ = call(tmp_path, "L7", server, "--expect", "3")
    assert code == 0 and out.count("there already") == 3


def test_script_codes_and_messages(site, tmp_path):
    (tmp_path / "list.txt").write_text(f"{site.url}/x.tar\n{site.url}/gone.tar\n")
    code, out, err = call(tmp_path, "list.txt", "--retries", "0")
    assert code == 1 and "gone.tar: is not on the server" in err and "x.tar: 6.5 kB fetched" in out
    (tmp_path / "sums").write_text(f"{hashlib.sha256(BYTES).hexdigest()}  x.tar\n")
    code, out, _ = call(tmp_path, f"{site.url}/x.tar", "--checksums", "sums")
    assert code == 0 and "there already, verified by its sha256" in out
    site.kinds["/x.tar"] = "auth"
    code, _, err = call(tmp_path, f"{site.url}/x.tar", "--output", "b")
    assert code == 1 and "--token FILE" in err and "Traceback" not in err
    code, _, err = call(tmp_path)
    assert code == 1 and "usage: download.py" in err


RCLONE = """#!/bin/sh
echo "$@" > {log}
case "$*" in
  *refused:*) echo "ERROR: 401 Unauthorized"; exit 1;;
  *broken:*) echo "Failed to copy"; exit 3;;
esac
for folder; do :; done
printf 0 > "$folder/L1.tar"
"""


def test_rclone_remotes(tmp_path):
    program = tmp_path / "bin" / "rclone"
    program.parent.mkdir()
    program.write_text(RCLONE.format(log=tmp_path / "words"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "maca.conf").write_text("[spider]\n")
    environment = {"RCLONE_COMMAND": str(program), "MACAROON_DIR": str(tmp_path)}
    code, out, err = call(tmp_path, "spider:field/", "--config", "maca.conf", "--output", "new",
                          **environment)
    assert code == 0 and (tmp_path / "new/L1.tar").read_text() == "0", err
    words = (tmp_path / "words").read_text()
    assert "maca.conf copy --transfers 2" in words and "- *step1* " in words
    assert words.rstrip().endswith("--filter - * spider:field/ new")
    code, _, err = call(tmp_path, "refused:x", "--config", "maca.conf", **environment)
    assert code == 1 and "access is refused" in err and "maca.conf" in err
    code, _, err = call(tmp_path, "broken:x", **environment)
    assert code == 1 and "rclone failed with code 3" in err and "Failed to copy" in err
    code, _, err = call(tmp_path, "spider:x", RCLONE_COMMAND="no-such-rclone")
    assert code == 1 and "needs the program rclone, which is not installed" in err
    code, _, err = call(tmp_path, "spider:x", "--config", "gone.conf", **environment)
    assert code == 1 and "gone.conf: there is no such file" in err
