"""Commands from start to end."""

import asyncio
import threading

import pytest
from conftest import GUEST_URL, IS_ROOT, done
from e2b import (
    AuthenticationException,
    CommandExitException,
    InvalidArgumentException,
    NotFoundException,
    TimeoutException,
)


# QEMU's user network takes few new connections at a time, and an emulated guest writes slowly.
AT_ONCE = 4 if GUEST_URL else 40
LINES = 2000 if GUEST_URL else 60000


async def until(holds):
    for _ in range(200):
        if await done(holds()):
            return
        await asyncio.sleep(0.1)
    pytest.fail("never")


async def pids(sandbox):
    return {process.pid for process in await done(sandbox.commands.list())}


async def test_a_command_runs_and_its_output_comes_apart(sandbox):
    result = await done(sandbox.commands.run("echo out; echo err >&2"))
    assert (result.stdout, result.stderr, result.exit_code, result.error) == ("out\n", "err\n", 0, None)


async def test_an_exit_code_is_an_exception_with_what_was_said(sandbox):
    with pytest.raises(CommandExitException) as caught:
        await done(sandbox.commands.run("echo why >&2; exit 7"))
    assert (caught.value.exit_code, caught.value.stderr) == (7, "why\n")
    assert caught.value.error == "exit status 7"


async def test_directory_environment_and_login_shell(sandbox, place):
    script = 'pwd; echo "$A"; shopt -q login_shell && echo login'
    result = await done(sandbox.commands.run(script, cwd=str(place), envs={"A": "x y"}))
    assert result.stdout == f"{place}\nx y\nlogin\n"


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
async def test_a_command_runs_as_the_user_who_is_named(sandbox):
    script = "id -un; id -gn; echo $USER $LOGNAME $HOME"
    for user, said in [("root", "root\nroot\nroot root /root\n"), ("bin", "bin\nbin\nbin bin /bin\n")]:
        assert (await done(sandbox.commands.run(script, user=user))).stdout == said


async def test_output_of_any_size_and_with_characters_of_many_bytes_is_whole(sandbox):
    script = f"for i in $(seq {LINES}); do echo -n 'ä€𝄞'; done; yes | head -c 3000000"
    result = await done(sandbox.commands.run(script))
    assert result.stdout == "ä€𝄞" * LINES + "y\n" * 1500000


async def test_callbacks_hear_output_while_it_comes(sandbox):
    out, err = [], []
    script = "echo a; echo b >&2; sleep 0.1; echo c"
    hear = {"on_stdout": out.append, "on_stderr": err.append}
    result = await done(sandbox.commands.run(script, retain_output=False, **hear))
    assert ("".join(out), "".join(err), result.stdout) == ("a\nc\n", "b\n", None)


async def test_a_background_command_is_listed_attached_to_and_killed(sandbox, place):
    script = "echo hello; exec sleep 60"
    started = await done(
        sandbox.commands.run(script, background=True, timeout=0, cwd=str(place), envs={"A": "1"})
    )
    listed = {p.pid: p for p in await done(sandbox.commands.list())}[started.pid]
    assert (listed.cmd, listed.args) == ("/bin/bash", ["-l", "-c", script])
    assert (listed.cwd, listed.envs, listed.tag) == (str(place), {"A": "1"}, None)
    place.sh(f"kill -0 {started.pid}")
    attached = await done(sandbox.commands.connect(started.pid))
    assert attached.pid == started.pid
    assert await done(sandbox.commands.kill(started.pid)) is True
    for handle in (started, attached):
        with pytest.raises(CommandExitException):
            await done(handle.wait())
    assert started.pid not in await pids(sandbox)
    assert await done(sandbox.commands.kill(started.pid)) is False
    place.sh(f"! kill -0 {started.pid} 2>&1")


async def test_an_ended_command_can_still_be_attached_to(sandbox, place):
    started = await done(sandbox.commands.run("exit 3", background=True))
    with pytest.raises(CommandExitException):
        await done(started.wait())
    late = await done(sandbox.commands.connect(started.pid))
    with pytest.raises(CommandExitException) as caught:
        await done(late.wait())
    assert (late.pid, caught.value.exit_code) == (started.pid, 3)


async def test_the_time_of_a_client_that_attached_is_not_the_commands(sandbox, place):
    started = await done(
        sandbox.commands.run("until [ -e go ]; do sleep 0.1; done; echo on", background=True, cwd=str(place))
    )
    attached = await done(sandbox.commands.connect(started.pid, timeout=0.5))
    with pytest.raises(TimeoutException):
        await done(attached.wait())
    place.put("go", "")
    assert (await done(started.wait())).stdout == "on\n"


async def test_a_command_past_its_time_is_killed(sandbox, place):
    with pytest.raises(TimeoutException):
        await done(sandbox.commands.run(f"echo $$ > {place}/pid; exec sleep 60", timeout=3))
    pid = int(place.get("pid"))

    async def gone():
        return pid not in await pids(sandbox)

    await until(gone)
    place.sh(f"! kill -0 {pid} 2>&1")


async def test_a_client_that_leaves_does_not_end_the_command(sandbox, place):
    started = await done(sandbox.commands.run(f"sleep 0.5; echo on > {place}/on", background=True))
    await done(started.disconnect())
    await until(lambda: place.has("on"))


async def test_what_cannot_be_done_says_why(sandbox):
    for missing in (sandbox.commands.connect, sandbox.commands.close_stdin):
        with pytest.raises(NotFoundException):
            await done(missing(999999))
    with pytest.raises(NotFoundException):
        await done(sandbox.commands.send_stdin(999999, "x"))
    with pytest.raises(InvalidArgumentException):
        await done(sandbox.commands.run("true", cwd="/no/such/place"))
    with pytest.raises(AuthenticationException, match="invalid username: 'root123'"):
        await done(sandbox.commands.run("true", user="root123"))


async def test_many_at_once_all_end(flavour):
    if flavour.is_async:
        results = await asyncio.gather(*(flavour.sandbox.commands.run(f"echo {n}") for n in range(AT_ONCE)))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(AT_ONCE)]
        return
    out = {}
    threads = [
        threading.Thread(target=lambda n=n: out.update({n: flavour.sandbox.commands.run(f"echo {n}").stdout}))
        for n in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert out == {n: f"{n}\n" for n in range(AT_ONCE)}
