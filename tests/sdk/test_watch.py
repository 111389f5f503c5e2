import asyncio

import pytest
from conftest import IS_ROOT, done
from e2b import FilesystemEventType as Kind
from e2b import InvalidArgumentException, NotFoundException, SandboxException, TimeoutException


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


async def test_a_new_file_is_three_events(flavour, place):
    watched = await Watched(flavour).start(str(place))
    await done(flavour.sandbox.files.write(place / "f", "hello"))
    await watched.until(lambda events: len(events) >= 3)
    await asyncio.sleep(0.3)
    await watched.until(lambda _: True)
    assert shown(watched.events) == [(Kind.CREATE, "f"), (Kind.CHMOD, "f"), (Kind.WRITE, "f")]
    assert all(event.entry is None for event in watched.events)
    await done(watched.handle.stop())


async def test_events_are_there_as_soon_as_the_write_has_returned(flavour, place):
    if flavour.is_async:
        pytest.skip("only the sync flavour polls")
    files = flavour.sandbox.files
    handle = files.watch_dir(str(place))
    for n in range(20):
        files.write(place / f"f{n}", "hello")
        assert len(handle.get_new_events()) == 3
    handle.stop()
    with pytest.raises(SandboxException):
        handle.get_new_events()


async def test_nested_folders_old_and_new_are_watched_when_asked(flavour, place):
    place.sh("mkdir old")
    flat = await Watched(flavour).start(str(place))
    deep = await Watched(flavour).start(str(place), recursive=True)
    await done(flavour.sandbox.files.write(place / "old/f", "x"))
    await done(flavour.sandbox.files.write(place / "new/sub/g", "x"))
    wanted = {(Kind.WRITE, "old/f"), (Kind.CREATE, "new"), (Kind.CREATE, "new/sub"), (Kind.CREATE, "new/sub/g")}
    await deep.until(lambda events: wanted <= set(shown(events)))
    await flat.until(lambda events: (Kind.CREATE, "new") in shown(events))
    assert all("/" not in name for _, name in shown(flat.events))
    await done(deep.handle.stop())
    await done(flat.handle.stop())


async def test_entries_come_along_when_asked_and_renames_are_two_events(flavour, place):
    watched = await Watched(flavour).start(str(place), include_entry=True)
    await done(flavour.sandbox.files.write(place / "f", "hello"))
    await watched.until(lambda events: len(events) >= 3)
    assert watched.events[-1].entry.path == place / "f"
    del watched.events[:]
    await done(flavour.sandbox.files.rename(place / "f", place / "g"))
    await done(flavour.sandbox.files.remove(place / "g"))
    events = await watched.until(lambda events: len(events) >= 3)
    assert shown(events) == [(Kind.RENAME, "f"), (Kind.CREATE, "g"), (Kind.REMOVE, "g")]
    assert events[0].entry is None and events[2].entry is None
    await done(watched.handle.stop())


async def test_what_cannot_be_watched_says_why(flavour, place):
    place.put("file", "")
    with pytest.raises(NotFoundException):
        await Watched(flavour).start(place / "missing")
    with pytest.raises((InvalidArgumentException, SandboxException)):
        await Watched(flavour).start(place / "file")


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
async def test_a_relative_path_is_watched_in_the_home_of_the_user_who_is_named(flavour, place):
    watched = await Watched(flavour).start(".", user="root", allow_network_mounts=True)
    name = f"dormouse-{place.path.rsplit('/', 1)[-1]}"
    await done(flavour.sandbox.commands.run(f"touch ~/{name}; rm ~/{name}", user="root"))
    await watched.until(lambda events: {(Kind.CREATE, name), (Kind.REMOVE, name)} <= set(shown(events)))
    await done(watched.handle.stop())


async def test_a_watch_ends_at_its_time_limit_or_when_it_is_stopped(flavour, place):
    if not flavour.is_async:
        pytest.skip("only the async flavour streams")
    ends, heard = [], asyncio.Event()
    watch = {"on_event": lambda event: heard.set(), "on_exit": ends.append}
    await flavour.sandbox.files.watch_dir(str(place), timeout=0.5, **watch)
    for _ in range(200):
        if ends:
            break
        await asyncio.sleep(0.1)
    assert [type(end) for end in ends] == [TimeoutException]
    handle = await flavour.sandbox.files.watch_dir(str(place), timeout=0, **watch)
    await flavour.sandbox.files.write(place / "f", "x")
    await asyncio.wait_for(heard.wait(), 20)
    await handle.stop()
    assert ends[1:] == [None]
