import asyncio

import pytest
from conftest import done, feed
from e2b import CommandExitException, PtySize


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

    async def end(self):
        if self.flavour.is_async:
            return await self.handle.wait()
        return self.handle.wait(on_pty=self.hear)


async def test_a_terminal_talks_and_has_its_size(flavour, tmp_path):
    terminal = await Terminal(flavour).open(cwd=str(tmp_path), envs={"A": "abc"})
    script = b"stty size; pwd; echo \"<$A$TERM>\"; exit\n"
    await done(terminal.pty.send_stdin(terminal.handle.pid, script))
    await terminal.end()
    for said in (b"24 80", str(tmp_path).encode(), b"<abcxterm-256color>"):
        assert said in terminal.output


async def test_a_terminal_is_resized_and_fed_by_a_stream(flavour):
    terminal = await Terminal(flavour).open()
    await done(terminal.pty.resize(terminal.handle.pid, PtySize(rows=11, cols=33)))
    await feed(flavour, terminal.pty, terminal.handle.pid, [b"stty ", b"size\n", b"exit\n"])
    await terminal.end()
    assert b"11 33" in terminal.output


async def test_a_terminal_is_killed(flavour):
    terminal = await Terminal(flavour).open()
    assert await done(terminal.pty.kill(terminal.handle.pid)) is True
    with pytest.raises(CommandExitException):
        await asyncio.wait_for(terminal.end(), 20)
    assert await done(terminal.pty.kill(terminal.handle.pid)) is False
