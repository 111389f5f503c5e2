import asyncio

import pytest
from conftest import done
from e2b import FilesystemEventType as Kind
from e2b import InvalidArgumentException, NotFoundException, SandboxException


class Watched:
    """Events of either flavour: the one polls, the other calls back."""

    def __init__(self, flavour):
        self.flavour, self.events, self.handle = flavour, [], None

    async def start(self, path, **options):
        files = self.flavour.sandbox.files
        if self.flavour.is_async:
            self.handle = await files.watch_dir(path, on_event=self.events.append, **options)
        else:
            self.handle = files.watch_dir(path, **options)
        return self

    async def until(self, enough):
        for _ in range(100):
            if not self.flavour.is_async:
                self.events += self.handle.get_new_events()
            if enough(self.events):
                return self.events
            await asyncio.sleep(0.1)
        pytest.fail(f"only {self.events}")


def shown(events):
    return [(event.type, event.name) for event in events]


async def test_a_new_file_is_three_events(flavour, tmp_path):
    watched = await Watched(flavour).start(str(tmp_path))
    await done(flavour.sandbox.files.write(str(tmp_path / "f"), "hello"))
    await watched.until(lambda events: len(events) >= 3)
    await asyncio.sleep(0.3)
    await watched.until(lambda _: True)
    assert shown(watched.events) == [(Kind.CREATE, "f"), (Kind.CHMOD, "f"), (Kind.WRITE, "f")]
    assert all(event.entry is None for event in watched.events)
    await done(watched.handle.stop())


async def test_events_are_there_as_soon_as_the_write_has_returned(agent, tmp_path):
    from e2b import Sandbox

    sandbox = Sandbox.create()
    handle = sandbox.files.watch_dir(str(tmp_path))
    for n in range(20):
        sandbox.files.write(str(tmp_path / f"f{n}"), "hello")
        assert len(handle.get_new_events()) == 3
    handle.stop()
    with pytest.raises(SandboxException):
        handle.get_new_events()


async def test_nested_folders_old_and_new_are_watched_when_asked(flavour, tmp_path):
    (tmp_path / "old").mkdir()
    flat = await Watched(flavour).start(str(tmp_path))
    deep = await Watched(flavour).start(str(tmp_path), recursive=True)
    await done(flavour.sandbox.files.write(str(tmp_path / "old/f"), "x"))
    await done(flavour.sandbox.files.write(str(tmp_path / "new/sub/g"), "x"))
    wanted = {(Kind.WRITE, "old/f"), (Kind.CREATE, "new"), (Kind.CREATE, "new/sub"), (Kind.CREATE, "new/sub/g")}
    await deep.until(lambda events: wanted <= set(shown(events)))
    await flat.until(lambda events: (Kind.CREATE, "new") in shown(events))
    assert all("/" not in name for _, name in shown(flat.events))
    await done(deep.handle.stop())
    await done(flat.handle.stop())


async def test_entries_come_along_when_asked_and_renames_are_two_events(flavour, tmp_path):
    watched = await Watched(flavour).start(str(tmp_path), include_entry=True)
    await done(flavour.sandbox.files.write(str(tmp_path / "f"), "hello"))
    await watched.until(lambda events: len(events) >= 3)
    assert watched.events[-1].entry.path == str(tmp_path / "f")
    del watched.events[:]
    await done(flavour.sandbox.files.rename(str(tmp_path / "f"), str(tmp_path / "g")))
    await done(flavour.sandbox.files.remove(str(tmp_path / "g")))
    events = await watched.until(lambda events: len(events) >= 3)
    assert shown(events) == [(Kind.RENAME, "f"), (Kind.CREATE, "g"), (Kind.REMOVE, "g")]
    assert events[0].entry is None and events[2].entry is None
    await done(watched.handle.stop())


async def test_what_cannot_be_watched_says_why(flavour, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFoundException):
        await Watched(flavour).start(str(tmp_path / "missing"))
    with pytest.raises((InvalidArgumentException, SandboxException)):
        await Watched(flavour).start(str(tmp_path / "file"))
