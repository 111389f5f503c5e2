"""What the tests drive: an agent of their own outside a VM, where the SDK's debug mode looks for it, or the agent of a real guest that
DORMOUSE_GUEST_URL and DORMOUSE_GUEST_TOKEN name. Both of the SDK's flavours over it."""

import inspect
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest

# Before the SDK is imported: it reads its environment then and at each create.
for name in [name for name in os.environ if name.startswith("E2B_")]:
    del os.environ[name]
os.environ["E2B_DEBUG"] = "true"

from e2b import AsyncSandbox, Sandbox  # noqa: E402
from e2b.connection_config import ConnectionConfig  # noqa: E402
from packaging.version import Version  # noqa: E402
from place import Place, here  # noqa: E402

PORT = 49983
START_LIMIT = 10.0
GUEST_URL = os.environ.get("DORMOUSE_GUEST_URL")
GUEST_TOKEN = os.environ.get("DORMOUSE_GUEST_TOKEN")
"""Whether the agent can become other users."""
IS_ROOT = bool(GUEST_URL) or os.geteuid() == 0


def sandbox_at(url: str, token: str | None, kind=Sandbox):
    """A sandbox whose agent is at `url`, without asking any API for it."""
    return kind(
        sandbox_id="here",
        sandbox_domain=None,
        envd_version=Version("0.6.13"),
        envd_access_token=token,
        traffic_access_token=None,
        connection_config=ConnectionConfig(
            sandbox_url=url,
            extra_sandbox_headers={"X-Access-Token": token} if token else {},
        ),
    )


def wait_until_healthy(process: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + START_LIMIT
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.exit(f"the agent ended at once with {process.returncode}", returncode=2)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    pytest.exit("the agent did not become healthy", returncode=2)


def start_agent(port: int, home) -> subprocess.Popen:
    binary = os.environ.get("DORMOUSE_AGENT")
    if not binary:
        pytest.exit("DORMOUSE_AGENT does not name the agent's binary: run scripts/test-sdk", returncode=2)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            pytest.exit(f"port {port} of 127.0.0.1 is taken; the SDK's debug mode knows no other", returncode=2)
    agent = subprocess.Popen([binary, "--no-vm", "--listen", f"127.0.0.1:{port}"], cwd=home)
    wait_until_healthy(agent, port)
    return agent


def stop(agent: subprocess.Popen) -> None:
    agent.terminate()
    try:
        agent.wait(5)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()


@pytest.fixture(scope="session")
def agent(tmp_path_factory):
    """The agent. One of our own has no token and works as the user who runs the tests."""
    if GUEST_URL:
        yield
        return
    process = start_agent(PORT, tmp_path_factory.mktemp("agent"))
    yield
    assert process.poll() is None, "the agent went down during the tests"
    stop(process)


@pytest.fixture
def secured_agent(tmp_path):
    """The address of an agent with a token, and the token."""
    if GUEST_URL:
        yield GUEST_URL, GUEST_TOKEN
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start_agent(port, tmp_path)
    init = urllib.request.Request(
        f"http://127.0.0.1:{port}/init", data=b'{"accessToken":"tok_sdk"}', method="POST"
    )
    with urllib.request.urlopen(init, timeout=5) as answer:
        assert answer.status == 204
    yield f"http://127.0.0.1:{port}", "tok_sdk"
    stop(process)


async def done(value: Any) -> Any:
    """The result of a call of either flavour."""
    return await value if inspect.isawaitable(value) else value


async def feed(flavour, source, pid: int, chunks: list) -> None:
    """Streams chunks to a process: sync in one call, async through an open handle."""
    if not flavour.is_async:
        source.stream_input(pid, chunks)
        return
    async with source.stream_input(pid) as stream:
        for chunk in chunks:
            await stream.send(chunk)


@dataclass
class Flavour:
    sandbox: Any
    is_async: bool


@pytest.fixture(params=["sync", "async"])
async def flavour(request, agent):
    is_async = request.param == "async"
    kind = AsyncSandbox if is_async else Sandbox
    sandbox = sandbox_at(GUEST_URL, GUEST_TOKEN, kind) if GUEST_URL else await done(kind.create())
    return Flavour(sandbox, is_async)


@pytest.fixture
def sandbox(flavour):
    return flavour.sandbox


@pytest.fixture
def place(agent, tmp_path):
    """An empty folder of the sandbox, which its default user owns."""
    if not GUEST_URL:
        return Place(str(tmp_path), here)
    witness = sandbox_at(GUEST_URL, GUEST_TOKEN)

    def there(script: str) -> str:
        return witness.commands.run(script).stdout

    # Not in /tmp, whose file system keeps no metadata before Linux 6.6.
    return Place(there("mktemp -d -p ~").strip(), there)
