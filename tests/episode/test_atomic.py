"""A file is replaced as a whole, or left as it was."""

import pytest

from examples.tau2.episode.atomic import atomic_file


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_file(path) as file:
        file.write("é\ud800")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "é?"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_block_leaves_the_old_content_and_no_partial_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path, "wb") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_that_is_missing_raises(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "none" / "a.txt"):
        pass


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    device = tmp_path / "device"
    device.symlink_to("/dev/null")
    with atomic_file(device) as file:
        file.write("text")
    assert device.is_symlink() and device.is_char_device()
