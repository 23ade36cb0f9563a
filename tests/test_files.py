"""Writing: what is replaced, what it keeps, and what is refused."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styletryon import _files
from styletryon._files import append_line, find_target, shortened, write_atomically, write_bytes, write_text
from styletryon.errors import SaveError

posix = pytest.mark.skipif(os.name != "posix", reason="what POSIX says of files")
WRITERS: tuple[Callable[[Path], object], ...] = (
    lambda path: write_bytes(path, b"new\n"),
    lambda path: write_text(path, "new\n"),
    lambda path: append_line(path, "new"),
)


@posix
@pytest.mark.parametrize("write", WRITERS)
def test_a_link_stays_and_its_target_is_written(write: Callable[[Path], object], tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "target"
    target.parent.mkdir()
    target.touch()
    (tmp_path / "near").symlink_to(target)
    (tmp_path / "far").symlink_to("near")  # a link to a link, and relative
    write(tmp_path / "far")
    assert (tmp_path / "far").is_symlink()
    assert (tmp_path / "near").is_symlink()
    assert target.read_text() == "new\n"
    assert sorted(path.name for path in target.parent.iterdir()) == ["target"]


@posix
@pytest.mark.parametrize("write", WRITERS)
def test_a_link_to_nothing_makes_its_target(write: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("folder/target")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "target").read_text() == "new\n"


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_permissions_are_kept(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    write_bytes(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


@posix
def test_what_replaces_a_secret_file_is_secret_while_it_is_written(tmp_path: Path) -> None:
    path, seen = tmp_path / "file", []

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"new")
        seen.append(stat.S_IMODE(temporary.stat().st_mode))

    path.touch(0o600)
    write_atomically(path, write)
    assert seen == [0o600]


@posix
def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_bytes(tmp_path / "new", b"")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


@posix
@pytest.mark.parametrize("write", WRITERS)
def test_what_is_no_regular_file_is_refused_and_stays(write: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        with pytest.raises(SaveError, match=r"^path: expected the path of a file, got .* no regular file"):
            write(path)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(SaveError, match="got the folder"):
        write(tmp_path)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["a" * 300, "長" * 100, "a\0b"])
def test_names_that_cannot_be_are_refused(write: Callable[[Path], object], name: str, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"^path: cannot write .*") as caught:
        write(tmp_path / name)
    assert ("255 bytes" in str(caught.value)) == ("\0" not in name) or sys.platform != "linux"
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="others count characters")
@pytest.mark.parametrize("name", ["a" * 255, "長" * 85, "é" * 127])
def test_the_longest_names_are_written(name: str, tmp_path: Path) -> None:
    write_bytes(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("thing", [3, None, object()])
def test_what_is_no_path_is_refused(thing: object) -> None:
    with pytest.raises(SaveError, match=r"^out: expected the path of a file, got "):
        find_target(thing, argument="out")  # type: ignore[arg-type]


@posix
def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(SaveError, match="cannot write"):
        write_bytes(tmp_path / "a", b"")


@given(name=st.text(st.characters(exclude_categories=["Cs"]), max_size=300), most=st.integers(0, 300))
def test_shortened_names_are_beginnings_of_at_most_so_many_bytes(name: str, most: int) -> None:
    short = shortened(name, most)
    assert name.startswith(short)
    assert len(short.encode()) <= most
    assert short == name or len(name[: len(short) + 1].encode()) > most


def test_the_folder_is_clean_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    monkeypatch.setattr(_files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(SaveError):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]
