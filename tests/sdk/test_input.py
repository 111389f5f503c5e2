"""What commands read."""

import asyncio

import pytest
from conftest import done, feed
from e2b import NotFoundException, SandboxException


async def cat(sandbox, script="cat"):
    return await done(sandbox.commands.run(script, background=True, stdin=True))


async def test_input_is_fed_until_it_is_closed(sandbox):
    started = await cat(sandbox)
    await done(sandbox.commands.send_stdin(started.pid, "one\n"))
    await done(sandbox.commands.send_stdin(started.pid, b"two\n"))
    await done(sandbox.commands.close_stdin(started.pid))
    assert (await done(started.wait())).stdout == "one\ntwo\n"


async def test_a_handle_feeds_and_closes_too(sandbox):
    started = await cat(sandbox)
    await done(started.send_stdin("grüße\n"))
    await done(started.close_stdin())
    assert (await done(started.wait())).stdout == "grüße\n"


async def test_input_is_streamed_in_order(flavour):
    commands = flavour.sandbox.commands
    chunks = [f"{n}\n" for n in range(500)]
    started = await cat(flavour.sandbox)
    await feed(flavour, commands, started.pid, chunks)
    await feed(flavour, commands, started.pid, [b"\xff\0", "end"])
    await done(commands.close_stdin(started.pid))
    assert (await done(started.wait())).stdout == "".join(chunks) + "\ufffd\0end"


async def test_much_input_is_taken_at_the_commands_pace(flavour):
    started = await cat(flavour.sandbox, "sleep 1; wc -c")
    await feed(flavour, flavour.sandbox.commands, started.pid, ["x" * 100_000] * 20)
    await done(flavour.sandbox.commands.close_stdin(started.pid))
    assert (await done(started.wait())).stdout.strip() == "2000000"


async def test_a_stream_to_nobody_says_so(flavour):
    with pytest.raises(NotFoundException):
        await asyncio.wait_for(feed(flavour, flavour.sandbox.commands, 999999, ["x"]), 20)


async def test_a_command_without_input_takes_none(sandbox):
    quiet = await done(sandbox.commands.run("sleep 60", background=True))
    with pytest.raises(SandboxException):
        await done(sandbox.commands.send_stdin(quiet.pid, "x"))
    assert await done(quiet.kill()) is True
