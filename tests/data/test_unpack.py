"""Archives are unpacked safely, and only once."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ddfpipe.data import unpack as module
from ddfpipe.data.ms import read_metadata
from ddfpipe.data.unpack import unpack_all
from ddfpipe.errors import DataError, ResourceError

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "unpack.py"


def write_archive(path, members, mode=None):
    """A tar archive of {name: content, or a link target (str)}."""
    mode = mode or ("w" if path.suffix == ".tar" else "w:gz")
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))


def ms(prefix, content=b"table"):
    return {f"{prefix}/table.dat": content, f"{prefix}/ANTENNA/table.dat": b"antenna"}


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_all_layouts_by_the_script(tmp_path):
    write_archive(tmp_path / "a.tar.gz", ms("prefactor/results/L1_SB0.ms"))
    write_archive(tmp_path / "b.tar", ms("scratch/x/y/Output/L1_SB1.ms") | {"scratch/log": b"1"})
    write_archive(tmp_path / "c.tgz", ms("results/L1_SB2.ms"))
    write_archive(tmp_path / "d.tar", ms("L1_SB3.ms"))
    for token in ("tokens", "LINC", "cal_solutions", "logs", "inspection"):
        write_archive(tmp_path / f"x_{token}_1.tar", ms(f"{token}.ms"))
    done = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 archive(s) unpacked, 0 done before; 4 measurement set(s)" in done.stdout
    assert sorted(p.name for p in tmp_path.glob("*.ms")) == [f"L1_SB{k}.ms" for k in range(4)]
    assert not any((tmp_path / d).exists() for d in ("prefactor", "scratch", "results"))
    assert (tmp_path / "L1_SB1.ms/ANTENNA/table.dat").read_bytes() == b"antenna"
    again = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True)
    assert "0 archive(s) unpacked, 4 done before" in again.stdout


def test_sets_unpacked_by_other_means_are_moved_up(tmp_path):
    for k, place in enumerate(("prefactor/results", "results", "scratch/1/2/3/Output")):
        folder = tmp_path / place / f"S{k}.ms"
        folder.mkdir(parents=True)
        (folder / "table.dat").write_text("x")
    assert sorted(unpack_all(tmp_path).moved) == ["S0.ms", "S1.ms", "S2.ms"]
    assert (tmp_path / "S2.ms/table.dat").exists()


def test_only_what_changed_is_done_again(tmp_path):
    write_archive(tmp_path / "a.tar", ms("A.ms"))
    write_archive(tmp_path / "b.tar", ms("B.ms"))
    assert set(unpack_all(tmp_path).unpacked) == {"a.tar", "b.tar"}
    (tmp_path / "B.ms/table.dat").write_text("worked on")
    for file in sorted((tmp_path / "A.ms").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (tmp_path / "A.ms").rmdir()
    result = unpack_all(tmp_path)
    assert set(result.unpacked) == {"a.tar"} and result.done_before == ["b.tar"]
    (tmp_path / ".unpacked.json").write_text("{broken")
    result = unpack_all(tmp_path)
    assert (tmp_path / "B.ms/table.dat").read_text() == "worked on"
    assert any("B.ms: is there already" in r for r in result.remarks)


def test_killed_half_way(tmp_path, monkeypatch):
    write_archive(tmp_path / "a.tar", ms("A.ms"))
    write_archive(tmp_path / "b.tar", ms("B.ms"))
    left = tmp_path / ".unpack-b.tar.part"
    (left / "B.ms").mkdir(parents=True)
    (left / "B.ms/table.dat").write_text("half")
    real = tarfile.TarFile.extract

    def killed(self, member, *args, **kwargs):
        if "B.ms/ANTENNA" in member.name:
            raise KeyboardInterrupt
        return real(self, member, *args, **kwargs)

    monkeypatch.setattr(tarfile.TarFile, "extract", killed)
    with pytest.raises(KeyboardInterrupt):
        unpack_all(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["A.ms"]
    monkeypatch.undo()
    result = unpack_all(tmp_path)
    assert result.done_before == ["a.tar"] and set(result.unpacked) == {"b.tar"}
    assert (tmp_path / "B.ms/table.dat").read_bytes() == b"table"


@pytest.mark.parametrize("members", [
    {"../evil.ms/table.dat": b"x"}, {"a.ms/../../evil.ms/table.dat": b"x"},
    {"a.ms/link": "/etc", "a.ms/table.dat": b"x"}, {"a.ms/link": "../../..", "a.ms/t": b"x"}])
def test_archives_cannot_write_elsewhere(tmp_path, members):
    folder = tmp_path / "deep" / "work"
    folder.mkdir(parents=True)
    write_archive(folder / "bad.tar", members)
    write_archive(folder / "good.tar", ms("G.ms"))
    with pytest.raises(DataError, match="bad.tar: would write outside"):
        unpack_all(folder)
    assert files(tmp_path) == ["deep/work/.unpacked.json", "deep/work/G.ms/ANTENNA/table.dat",
                               "deep/work/G.ms/table.dat", "deep/work/bad.tar",
                               "deep/work/good.tar"]


def test_absolute_names_stay_inside(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    write_archive(folder / "a.tar", ms(f"{tmp_path}/A.ms"))
    unpack_all(folder)
    assert not (tmp_path / "A.ms").exists() and (folder / "A.ms/table.dat").exists()


@pytest.mark.parametrize("damage", ["truncated gz", "truncated tar", "garbage", "checksum"])
def test_damaged_archives_are_named_and_the_rest_is_done(tmp_path, damage):
    bad = tmp_path / ("a.tar" if damage == "truncated tar" else "a.tar.gz")
    noise = bytes(k * k % 251 for k in range(60000))
    write_archive(bad, ms("A.ms", noise))
    content = bad.read_bytes()
    if damage == "garbage":
        content = b"<html>not found</html>"
    elif damage == "checksum":
        content = content[:60] + bytes([content[60] ^ 0xFF]) + content[61:]
    else:
        content = content[: len(content) // 2]
    bad.write_bytes(content)
    write_archive(tmp_path / "b.tar", ms("B.ms"))
    with pytest.raises(DataError, match=f"{bad.name}: damaged or incomplete"):
        unpack_all(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["B.ms"]


def test_full_disk(tmp_path, monkeypatch):
    write_archive(tmp_path / "a.tar", ms("A.ms"))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.tarfile.TarFile, "extract", full)
    with pytest.raises(ResourceError, match="a.tar: cannot be unpacked .No space left"):
        unpack_all(tmp_path)
    assert files(tmp_path) == ["a.tar"]


def test_archive_without_a_set_is_remarked(tmp_path):
    write_archive(tmp_path / "a.tar", {"results/notes.txt": b"x"})
    assert unpack_all(tmp_path).remarks == ["a.tar: holds no measurement set"]


def test_a_real_archive(shared_data, tmp_path):
    (tmp_path / "real.tgz").symlink_to(shared_data / "lofar" / "A1775_LT10_010_4ch.ms.tgz")
    (name,) = unpack_all(tmp_path).unpacked["real.tgz"]
    assert read_metadata(tmp_path / name).n_chan == 4
