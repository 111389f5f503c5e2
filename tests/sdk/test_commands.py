import asyncio
import os
import threading

import pytest
from conftest import done, feed
from e2b import (
    AuthenticationException,
    CommandExitException,
    InvalidArgumentException,
    NotFoundException,
    SandboxException,
    TimeoutException,
)


async def test_a_command_runs_and_its_output_comes_apart(sandbox):
    result = await done(sandbox.commands.run("echo out; echo err >&2"))
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0)


async def test_an_exit_code_is_an_exception_with_what_was_said(sandbox):
    with pytest.raises(CommandExitException) as caught:
        await done(sandbox.commands.run("echo why >&2; exit 7"))
    assert (caught.value.exit_code, caught.value.stderr) == (7, "why\n")


async def test_directory_environment_and_login_shell(sandbox, tmp_path):
    script = 'pwd; echo "$A"; shopt -q login_shell && echo login'
    result = await done(sandbox.commands.run(script, cwd=str(tmp_path), envs={"A": "x y"}))
    assert result.stdout == f"{tmp_path}\nx y\nlogin\n"


async def test_output_of_any_size_and_with_characters_of_many_bytes_is_whole(sandbox):
    result = await done(sandbox.commands.run("for i in $(seq 60000); do echo -n 'ä€𝄞'; done; yes | head -c 3000000"))
    assert result.stdout == "ä€𝄞" * 60000 + "y\n" * 1500000


async def test_callbacks_hear_output_while_it_comes(sandbox):
    out, err = [], []
    await done(sandbox.commands.run("echo a; echo b >&2; sleep 0.1; echo c", on_stdout=out.append, on_stderr=err.append))
    assert ("".join(out), "".join(err)) == ("a\nc\n", "b\n")


async def test_a_background_command_is_listed_attached_to_and_killed(sandbox):
    started = await done(sandbox.commands.run("echo hello; exec sleep 60", background=True, timeout=0))
    listed = {p.pid: p for p in await done(sandbox.commands.list())}
    assert listed[started.pid].cmd == "/bin/bash" and listed[started.pid].args[-1].endswith("sleep 60")
    os.kill(started.pid, 0)
    attached = await done(sandbox.commands.connect(started.pid))
    assert attached.pid == started.pid
    assert await done(sandbox.commands.kill(started.pid)) is True
    for handle in (started, attached):
        with pytest.raises(CommandExitException):
            await done(handle.wait())
    assert started.pid not in {p.pid for p in await done(sandbox.commands.list())}
    assert await done(sandbox.commands.kill(started.pid)) is False
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, 0)


async def test_input_is_fed_until_it_is_closed(sandbox):
    cat = await done(sandbox.commands.run("cat", background=True, stdin=True))
    await done(sandbox.commands.send_stdin(cat.pid, "one\n"))
    await done(sandbox.commands.send_stdin(cat.pid, b"two\n"))
    await done(sandbox.commands.close_stdin(cat.pid))
    assert (await done(cat.wait())).stdout == "one\ntwo\n"


async def test_input_is_streamed_in_order(flavour):
    commands = flavour.sandbox.commands
    chunks = [f"{n}\n" for n in range(500)]
    cat = await done(commands.run("cat", background=True, stdin=True))
    await feed(flavour, commands, cat.pid, chunks)
    await done(commands.close_stdin(cat.pid))
    assert (await done(cat.wait())).stdout == "".join(chunks)


async def test_a_command_past_its_time_is_killed(sandbox, tmp_path):
    mark = tmp_path / "pid"
    with pytest.raises(TimeoutException):
        await done(sandbox.commands.run(f"echo $$ > {mark}; exec sleep 60", timeout=1))
    pid = int(mark.read_text())
    for _ in range(100):
        if pid not in {p.pid for p in await done(sandbox.commands.list())}:
            return
        await asyncio.sleep(0.1)
    pytest.fail("still runs")


async def test_a_client_that_leaves_does_not_end_the_command(sandbox, tmp_path):
    started = await done(sandbox.commands.run(f"sleep 0.5; echo on > {tmp_path}/on", background=True))
    await done(started.disconnect())
    for _ in range(100):
        if (tmp_path / "on").exists():
            return
        await asyncio.sleep(0.1)
    pytest.fail("ended")


async def test_what_cannot_be_done_says_why(sandbox):
    with pytest.raises(NotFoundException):
        await done(sandbox.commands.connect(999999))
    with pytest.raises(NotFoundException):
        await done(sandbox.commands.send_stdin(999999, "x"))
    with pytest.raises(InvalidArgumentException):
        await done(sandbox.commands.run("true", cwd="/no/such/place"))
    with pytest.raises(AuthenticationException, match="invalid username: 'root123'"):
        await done(sandbox.commands.run("true", user="root123"))
    quiet = await done(sandbox.commands.run("sleep 5", background=True))
    with pytest.raises(SandboxException):
        await done(sandbox.commands.send_stdin(quiet.pid, "x"))
    await done(quiet.kill())


async def test_many_at_once_all_end(flavour):
    if flavour.is_async:
        results = await asyncio.gather(*(flavour.sandbox.commands.run(f"echo {n}") for n in range(40)))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(40)]
        return
    out = {}
    threads = [
        threading.Thread(target=lambda n=n: out.update({n: flavour.sandbox.commands.run(f"echo {n}").stdout}))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert out == {n: f"{n}\n" for n in range(20)}
