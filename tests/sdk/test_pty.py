import asyncio

import pytest
from conftest import IS_ROOT, done, feed
from e2b import CommandExitException, NotFoundException, PtySize


class Terminal:
    def __init__(self, flavour):
        self.flavour, self.pty, self.output = flavour, flavour.sandbox.pty, b""

    def hear(self, data):
        self.output += data

    async def open(self, **options):
        size = PtySize(rows=24, cols=80)
        if self.flavour.is_async:
            self.handle = await self.pty.create(size, on_data=self.hear, **options)
        else:
            self.handle = self.pty.create(size, **options)
        return self

    async def attach(self, pid):
        if self.flavour.is_async:
            self.handle = await self.pty.connect(pid, on_data=self.hear)
        else:
            self.handle = self.pty.connect(pid)
        return self

    async def end(self):
        if self.flavour.is_async:
            return await self.handle.wait()
        return self.handle.wait(on_pty=self.hear)


async def test_a_terminal_talks_and_has_its_size(flavour, place):
    terminal = await Terminal(flavour).open(cwd=str(place), envs={"A": "abc"})
    script = b"stty size; pwd; echo \"<$A$TERM>\"; exit\n"
    await done(terminal.pty.send_stdin(terminal.handle.pid, script))
    await terminal.end()
    for said in (b"24 80", str(place).encode(), b"<abcxterm-256color>"):
        assert said in terminal.output


async def test_a_terminal_is_resized_and_fed_by_a_stream(flavour):
    terminal = await Terminal(flavour).open()
    await done(terminal.pty.resize(terminal.handle.pid, PtySize(rows=11, cols=33)))
    await feed(flavour, terminal.pty, terminal.handle.pid, [b"stty ", b"size\n", b"exit\n"])
    await terminal.end()
    assert b"11 33" in terminal.output


async def test_a_second_client_attaches_to_a_terminal(flavour):
    first = await Terminal(flavour).open(timeout=0)
    pid = first.handle.pid
    await done(first.handle.disconnect())
    second = await Terminal(flavour).attach(pid)
    await done(second.pty.send_stdin(pid, b"echo still-$((40+2)); exit\n"))
    await second.end()
    assert (second.handle.pid, b"still-42" in second.output) == (pid, True)


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
async def test_a_terminal_is_the_users_who_is_named(flavour):
    terminal = await Terminal(flavour).open(user="bin")
    await done(terminal.pty.send_stdin(terminal.handle.pid, b"echo \"<$(id -un)>\"; exit\n"))
    await terminal.end()
    assert b"<bin>" in terminal.output


async def test_a_terminal_is_killed(flavour):
    terminal = await Terminal(flavour).open()
    assert await done(terminal.pty.kill(terminal.handle.pid)) is True
    with pytest.raises(CommandExitException):
        await asyncio.wait_for(terminal.end(), 20)
    assert await done(terminal.pty.kill(terminal.handle.pid)) is False
    with pytest.raises(NotFoundException):
        await done(terminal.pty.resize(terminal.handle.pid, PtySize(rows=1, cols=1)))
