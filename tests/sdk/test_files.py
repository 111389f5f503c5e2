import gzip
import io
import os

import pytest
from conftest import done
from e2b import FileType, InvalidArgumentException, NotFoundException


async def test_what_is_written_is_read_in_every_format(sandbox, tmp_path):
    path = str(tmp_path / "new" / "a.txt")
    info = await done(sandbox.files.write(path, "grüße"))
    assert (info.name, info.path) == ("a.txt", path)
    assert await done(sandbox.files.read(path)) == "grüße"
    assert await done(sandbox.files.read(path, format="bytes")) == "grüße".encode()
    stream = await done(sandbox.files.read(path, format="stream"))
    chunks = [chunk async for chunk in stream] if hasattr(stream, "__aiter__") else list(stream)
    assert b"".join(chunks) == "grüße".encode()


@pytest.mark.parametrize("octets", [True, False])
async def test_text_bytes_and_file_objects_are_written(sandbox, tmp_path, octets):
    for name, data in [("text", "t"), ("bytes", b"\0\xff"), ("file", io.BytesIO(b"f")), ("empty", b"")]:
        path = tmp_path / name
        await done(sandbox.files.write(str(path), data, use_octet_stream=octets))
        expected = {"text": b"t", "bytes": b"\0\xff", "file": b"f", "empty": b""}[name]
        assert path.read_bytes() == expected


async def test_a_shorter_content_replaces_a_longer_one(sandbox, tmp_path):
    path = tmp_path / "f"
    await done(sandbox.files.write(str(path), "long content"))
    await done(sandbox.files.write(str(path), "short"))
    assert path.read_text() == "short"


async def test_several_files_in_one_call_keep_their_folders(sandbox, tmp_path):
    entries = [{"path": str(tmp_path / d / "f"), "data": d} for d in ("a", "b", "ünï cödé")]
    written = await done(sandbox.files.write_files(entries))
    assert [info.path for info in written] == [entry["path"] for entry in entries]
    assert [(tmp_path / d / "f").read_text() for d in ("a", "b", "ünï cödé")] == ["a", "b", "ünï cödé"]


async def test_a_large_file_comes_back_as_it_went(sandbox, tmp_path):
    data = os.urandom(1 << 20) * 64
    path = str(tmp_path / "large")
    await done(sandbox.files.write(path, data))
    assert await done(sandbox.files.read(path, format="bytes")) == data


async def test_directories_are_made_listed_renamed_and_removed(sandbox, tmp_path):
    folder = str(tmp_path / "d")
    assert await done(sandbox.files.make_dir(folder)) is True
    assert await done(sandbox.files.make_dir(folder)) is False
    await done(sandbox.files.write(f"{folder}/sub/f", "x"))
    listed = await done(sandbox.files.list(folder))
    assert [(e.name, e.type) for e in listed] == [("sub", FileType.DIR)]
    deep = await done(sandbox.files.list(folder, depth=2))
    assert [e.path for e in deep] == [f"{folder}/sub", f"{folder}/sub/f"]
    moved = await done(sandbox.files.rename(f"{folder}/sub/f", f"{folder}/g"))
    assert (moved.path, moved.type, moved.size) == (f"{folder}/g", FileType.FILE, 1)
    assert not await done(sandbox.files.exists(f"{folder}/sub/f"))
    await done(sandbox.files.remove(folder))
    assert not await done(sandbox.files.exists(folder))
    await done(sandbox.files.remove(folder))


async def test_an_entry_is_described(sandbox, tmp_path):
    path = tmp_path / "f"
    path.write_text("12345")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to("f")
    info = await done(sandbox.files.get_info(str(path)))
    assert (info.size, info.mode, info.permissions, info.type) == (5, 0o640, "-rw-r-----", FileType.FILE)
    assert info.modified_time.timestamp() == pytest.approx(path.stat().st_mtime, abs=1)
    assert info.symlink_target is None
    link = await done(sandbox.files.get_info(str(tmp_path / "link")))
    assert (link.symlink_target, link.type) == ("f", FileType.FILE)


async def test_what_is_not_there_says_so(sandbox, tmp_path):
    missing = str(tmp_path / "missing")
    for call in (sandbox.files.read, sandbox.files.get_info, sandbox.files.list):
        with pytest.raises(NotFoundException):
            await done(call(missing))
    with pytest.raises(NotFoundException):
        await done(sandbox.files.rename(missing, missing + "2"))
    assert await done(sandbox.files.exists(missing)) is False
    with pytest.raises(InvalidArgumentException):
        await done(sandbox.files.read(str(tmp_path)))
    with pytest.raises(InvalidArgumentException):
        await done(sandbox.files.list(missing, depth=0))


async def test_a_compressed_upload_is_stored_plain(sandbox, tmp_path):
    path = tmp_path / "f"
    await done(sandbox.files.write(str(path), "x" * 100_000, gzip=True))
    assert path.read_bytes() == b"x" * 100_000


async def test_a_compressed_download_is_plain_again(sandbox, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100_000)
    assert await done(sandbox.files.read(str(path), format="bytes", gzip=True)) == b"x" * 100_000
    packed = tmp_path / "f.gz"
    packed.write_bytes(gzip.compress(b"inside"))
    read = await done(sandbox.files.read(str(packed), format="bytes", gzip=True))
    assert gzip.decompress(read) == b"inside"


async def test_metadata_is_kept_with_the_file_and_replaced_whole(sandbox, tmp_path):
    path = str(tmp_path / "f")
    written = await done(sandbox.files.write(path, "x", metadata={"owner": "me", "kind": "test"}))
    assert written.metadata == {"owner": "me", "kind": "test"}
    assert (await done(sandbox.files.get_info(path))).metadata == {"owner": "me", "kind": "test"}
    await done(sandbox.files.write(path, "y", metadata={"owner": "you"}))
    assert (await done(sandbox.files.list(str(tmp_path))))[0].metadata == {"owner": "you"}
