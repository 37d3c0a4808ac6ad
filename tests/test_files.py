import errno
import os
import stat
from pathlib import Path

import pytest

from descend import files
from descend.errors import InputError, OutputError, SourceError
from descend.files import check_output, free_name, write_atomically, written_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_text_and_bytes_as_they_are(tmp_path: Path) -> None:
    """Bytes arrive unchanged, text as UTF-8 without a change of line ends, even with a lone surrogate."""
    assert write_atomically(tmp_path / "a", b"\x00\xff").read_bytes() == b"\x00\xff"
    assert write_atomically(tmp_path / "b", "é\r\n").read_bytes() == "é\r\n".encode()
    assert write_atomically(str(tmp_path / "c"), "\ud800").read_bytes() == b"\\ud800"
    assert names(tmp_path) == ["a", "b", "c"]


def test_existing_file_stays_without_force(tmp_path: Path) -> None:
    """A file that exists is refused with its name and --force, and replaced with force."""
    path = tmp_path / "model.descend"
    path.write_text("old")
    with pytest.raises(InputError, match=r"model\.descend' exists already.*--force"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    write_atomically(path, "new", force=True)
    assert path.read_text() == "new"


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    """A folder, a missing one, a file as folder, a device, an impossible name are one InputError each."""
    (tmp_path / "file").write_text("")
    for place, words in {
        tmp_path: "is a folder",
        tmp_path / "none" / "x": "none' does not exist",
        tmp_path / "file" / "x": "file' is not a folder",
        Path("/dev/null"): "not a regular file",
        tmp_path / ("x" * 300): "cannot be written",
        tmp_path / "a\0b": "cannot be written",
    }.items():
        with pytest.raises(InputError, match=words):
            write_atomically(place, "data", force=True)
        with pytest.raises(InputError, match=words):
            check_output(place, force=True)
    assert names(tmp_path) == ["file"]


def test_folder_without_the_right_to_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system denies writing into the folder, nothing is tried."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="cannot be written; choose another"):
        check_output(tmp_path / "x")


@pytest.mark.parametrize("fails", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_behind_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: BaseException
) -> None:
    """A full disk is one OutputError, an interrupt passes through, and the old file stays alone and whole."""
    path = tmp_path / "x"
    path.write_text("old")

    def fail(_: int) -> None:
        raise fails

    monkeypatch.setattr(os, "fsync", fail)
    expected = OutputError if isinstance(fails, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if isinstance(fails, OSError) else None):
        write_atomically(path, "new" * 1000, force=True)
    assert names(tmp_path) == ["x"]
    assert path.read_text() == "old"


def test_place_never_holds_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment before the rename the whole content lies under another name, the old one in its place."""
    path = tmp_path / "x"
    path.write_text("old")
    seen: list[list[str]] = []
    rename = Path.replace

    def watch(source: Path, target: Path) -> Path:
        seen.append(sorted(p.read_text() for p in tmp_path.iterdir()))
        return rename(source, target)

    monkeypatch.setattr(files.Path, "replace", watch)
    write_atomically(path, "new", force=True)
    assert seen == [["new", "old"]]


def test_permissions_follow_the_umask_and_the_replaced_file(tmp_path: Path) -> None:
    """A new file has the permissions the umask leaves; a replaced one keeps its own."""
    old = os.umask(0o027)
    try:
        path = write_atomically(tmp_path / "x", "1")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    write_atomically(path, "2", force=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_link_goes_on_pointing_at_what_is_replaced(tmp_path: Path) -> None:
    """Writing through a symbolic link changes its target and leaves the link."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", "new", force=True)
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


def test_free_name_counts_up(tmp_path: Path) -> None:
    """The first name that is not taken is given, a dangling link counting as taken."""
    path = tmp_path / "adult.html"
    assert free_name(path) == path
    path.write_text("")
    (tmp_path / "adult-2.html").symlink_to("nowhere")
    assert free_name(path) == tmp_path / "adult-3.html"


def test_hostile_name_is_made_visible() -> None:
    """Control characters of a name do not reach the message."""
    with pytest.raises(InputError, match=r"\\x1b\[31m") as caught:
        write_atomically("nowhere/\x1b[31m", "")
    assert "\x1b" not in str(caught.value)


def test_pieces_are_a_file_once_all_are_there(tmp_path: Path) -> None:
    """Content that comes piece by piece is seen when it is whole, and keeps the permissions of what it replaces."""
    path = tmp_path / "predictions.csv"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with written_atomically(path, force=True) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_goes_wrong_between_pieces_leaves_nothing_and_keeps_its_name(tmp_path: Path) -> None:
    """Data that cannot be read on are not blamed on the output; a full disk is."""

    def write_half(error: Exception) -> None:
        with written_atomically(tmp_path / "x") as file:
            file.write(b"half")
            raise error

    with pytest.raises(SourceError, match="row 7 is damaged"):
        write_half(SourceError("row 7 is damaged"))
    with pytest.raises(OutputError, match="could not be written: No space left"):
        write_half(OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []
