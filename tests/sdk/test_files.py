"""Files in and out, and directories."""

import gzip
import io
import os

import pytest
from conftest import GUEST_URL, IS_ROOT, done
from e2b import FileType, InvalidArgumentException, NotEnoughSpaceException, NotFoundException

LARGE = (4 if GUEST_URL else 64) << 20


async def collected(stream):
    return b"".join([chunk async for chunk in stream] if hasattr(stream, "__aiter__") else list(stream))


async def test_what_is_written_is_read_in_every_format(sandbox, place):
    path = place / "new/a.txt"
    info = await done(sandbox.files.write(path, "grüße"))
    assert (info.name, info.path) == ("a.txt", path)
    assert await done(sandbox.files.read(path)) == "grüße"
    assert await done(sandbox.files.read(path, format="bytes")) == "grüße".encode()
    assert await collected(await done(sandbox.files.read(path, format="stream"))) == "grüße".encode()


@pytest.mark.parametrize("octets", [True, False])
async def test_text_bytes_and_file_objects_are_written(sandbox, place, octets):
    for name, data in [("text", "t"), ("bytes", b"\0\xff"), ("file", io.BytesIO(b"f")), ("empty", b"")]:
        await done(sandbox.files.write(place / name, data, use_octet_stream=octets))
        expected = {"text": b"t", "bytes": b"\0\xff", "file": b"f", "empty": b""}[name]
        assert place.get(name) == expected


async def test_what_comes_piece_by_piece_is_written_whole(flavour, place):
    async def later():
        for n in range(1000):
            yield b"%d\n" % n

    pieces = later() if flavour.is_async else (b"%d\n" % n for n in range(1000))
    await done(flavour.sandbox.files.write(place / "pieces", pieces))
    assert place.get("pieces") == b"".join(b"%d\n" % n for n in range(1000))


async def test_a_shorter_content_replaces_a_longer_one(sandbox, place):
    await done(sandbox.files.write(place / "f", "long content"))
    await done(sandbox.files.write(place / "f", "short"))
    assert place.get("f") == b"short"


@pytest.mark.parametrize("octets", [True, False])
async def test_several_files_in_one_call_keep_their_folders(sandbox, place, octets):
    entries = [{"path": place / f"{d}/f", "data": d} for d in ("a", "b", "ünï cödé")]
    written = await done(sandbox.files.write_files(entries, use_octet_stream=octets, metadata={"by": "me"}))
    assert [info.path for info in written] == [entry["path"] for entry in entries]
    assert all(info.metadata == {"by": "me"} for info in written)
    assert [place.get(f"{d}/f").decode() for d in ("a", "b", "ünï cödé")] == ["a", "b", "ünï cödé"]
    assert await done(sandbox.files.write_files([])) == []


@pytest.mark.parametrize("zipped", [False, True])
async def test_a_large_file_comes_back_as_it_went(sandbox, place, zipped):
    data = os.urandom(1 << 20) * (LARGE >> 20)
    path = place / "large"
    await done(sandbox.files.write(path, io.BytesIO(data), gzip=zipped))
    assert await done(sandbox.files.read(path, format="bytes", gzip=zipped)) == data
    stream = await done(sandbox.files.read(path, format="stream"))
    assert await collected(stream) == data


async def test_relative_paths_begin_at_home(sandbox, place):
    home = place.sh("cd; pwd").strip()
    # The agent's own user is who its system says, whose home need not be this shell's.
    home = (await done(sandbox.commands.run("echo $HOME"))).stdout.strip() or home
    assert (await done(sandbox.files.get_info("~"))).path == home
    assert (await done(sandbox.files.get_info("."))).path == home
    assert (await done(sandbox.files.get_info("~/../.."))).path == "/" or home.count("/") > 2


@pytest.mark.skipif(not IS_ROOT, reason="only root can give files away")
async def test_what_is_made_belongs_to_the_user_who_is_named(sandbox, place):
    await done(sandbox.files.write(place / "d/f", "x", user="bin"))
    await done(sandbox.files.make_dir(place / "d/sub", user="bin"))
    assert place.sh("stat -c '%U:%G' d d/f d/sub").split() == ["bin:bin"] * 3
    info = await done(sandbox.files.get_info(place / "d/f", user="bin"))
    assert (info.owner, info.group) == ("bin", "bin")
    assert (await done(sandbox.files.get_info("~", user="bin"))).path == "/bin"
    assert await done(sandbox.files.read(place / "d/f", user="bin")) == "x"


async def test_directories_are_made_listed_renamed_and_removed(sandbox, place):
    folder = place / "d"
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


async def test_an_entry_is_described(sandbox, place):
    place.put("f", "12345")
    place.sh("chmod 640 f; ln -s f link; ln -s . around")
    info = await done(sandbox.files.get_info(place / "f"))
    assert (info.size, info.mode, info.permissions, info.type) == (5, 0o640, "-rw-r-----", FileType.FILE)
    assert info.modified_time.timestamp() == pytest.approx(float(place.sh("stat -c %Y f")), abs=1)
    assert info.symlink_target is None
    link = await done(sandbox.files.get_info(place / "link"))
    assert (link.symlink_target, link.type) == ("f", FileType.FILE)
    through = await done(sandbox.files.list(place / "around"))
    assert [entry.path for entry in through] == [place / f"around/{name}" for name in ("around", "f", "link")]


async def test_what_is_not_there_says_so(sandbox, place):
    missing = place / "missing"
    for call in (sandbox.files.read, sandbox.files.get_info, sandbox.files.list):
        with pytest.raises(NotFoundException):
            await done(call(missing))
    with pytest.raises(NotFoundException):
        await done(sandbox.files.rename(missing, missing + "2"))
    assert await done(sandbox.files.exists(missing)) is False
    with pytest.raises(InvalidArgumentException):
        await done(sandbox.files.read(str(place)))
    with pytest.raises(InvalidArgumentException):
        await done(sandbox.files.write(str(place), "x"))
    with pytest.raises(InvalidArgumentException):
        await done(sandbox.files.list(missing, depth=0))


async def test_a_compressed_upload_is_stored_plain(sandbox, place):
    await done(sandbox.files.write(place / "f", "x" * 50_000, gzip=True))
    assert place.get("f") == b"x" * 50_000


async def test_a_compressed_download_is_plain_again(sandbox, place):
    place.put("f", b"x" * 50_000)
    assert await done(sandbox.files.read(place / "f", format="bytes", gzip=True)) == b"x" * 50_000
    place.put("f.gz", gzip.compress(b"inside"))
    read = await done(sandbox.files.read(place / "f.gz", format="bytes", gzip=True))
    assert gzip.decompress(read) == b"inside"


async def test_metadata_is_kept_with_the_file_and_replaced_whole(sandbox, place):
    path = place / "f"
    written = await done(sandbox.files.write(path, "x", metadata={"owner": "me", "kind": "test"}))
    assert written.metadata == {"owner": "me", "kind": "test"}
    assert (await done(sandbox.files.get_info(path))).metadata == {"owner": "me", "kind": "test"}
    await done(sandbox.files.write(path, "y", metadata={"owner": "you"}))
    assert (await done(sandbox.files.list(str(place))))[0].metadata == {"owner": "you"}
    with pytest.raises(InvalidArgumentException):
        await done(sandbox.files.write(path, "z", metadata={"owner": "x" * 5000}))
    assert place.get("f") == b"y"


@pytest.mark.skipif(not IS_ROOT, reason="only root can mount")
async def test_a_full_disk_says_so_and_takes_the_part_away(sandbox, place):
    as_root = {"user": "root"}
    await done(sandbox.commands.run(f"mkdir {place}/small && mount -t tmpfs -o size=1m none {place}/small", **as_root))
    try:
        for octets in (True, False):
            with pytest.raises(NotEnoughSpaceException):
                await done(sandbox.files.write(place / "small/f", b"x" * (4 << 20), use_octet_stream=octets))
            assert not await done(sandbox.files.exists(place / "small/f"))
    finally:
        await done(sandbox.commands.run(f"umount {place}/small", **as_root))
