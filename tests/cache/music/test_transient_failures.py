"""Which failures of a file that has not changed are gone."""

from pathlib import Path

import pytest

from mixstyle.cache.music import ffmpeg
from mixstyle.cache.music.transient_failures import is_gone, is_transient


def test_a_file_that_can_be_opened_was_denied_in_vain(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "link.wav").symlink_to(tmp_path / "none.wav")
    for reason in ("permission denied: this user may not read it", "broken link: what it points to is gone"):
        assert is_gone(reason, tmp_path / "a.wav")
        assert not is_gone(reason, tmp_path / "link.wav")
        assert not is_gone(reason, tmp_path / "none.wav")
    assert not is_gone("not music: in no format that libsndfile reads", tmp_path / "a.wav")


def test_a_folder_of_stems_is_open_where_all_its_files_are(tmp_path: Path) -> None:
    denied = "permission denied: vocals: this user may not read it"
    (tmp_path / "vocals.wav").write_bytes(b"RIFF")
    assert is_gone(denied, tmp_path)
    (tmp_path / "bass.wav").symlink_to(tmp_path / "none.wav")
    assert not is_gone(denied, tmp_path)


def test_what_ffmpeg_may_read_is_tried_again_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = f"not music: in no format that libsndfile reads; {ffmpeg.NOT_INSTALLED}"
    for program, gone in ((None, False), ("/usr/bin/ffmpeg", True)):
        monkeypatch.setattr(ffmpeg, "installed", lambda program=program: program)
        assert is_gone(reason, Path("a.m4a")) is gone
        assert not is_transient(reason)


def test_a_disk_that_fails_may_work_again() -> None:
    assert is_transient("cannot be read: Input/output error")
    assert is_transient("cannot be read: vocals: Input/output error")
