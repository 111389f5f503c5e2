"""The SDK's git module, against repositories here and a git daemon on the loopback."""

import shutil
import socket
import subprocess
import time

import pytest
from conftest import done

AUTHOR = {"author_name": "Ann", "author_email": "ann@example.com"}


@pytest.fixture
def daemon(tmp_path):
    """Serves tmp_path/served, also for pushes. Its address."""
    served = tmp_path / "served"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(served / "repo.git")], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["--reuseaddr", "--export-all", "--enable=receive-pack", f"--base-path={served}"]
    process = subprocess.Popen(["git", "daemon", "--listen=127.0.0.1", f"--port={port}", *arguments])
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"git://127.0.0.1:{port}/repo.git"
    process.terminate()
    process.wait(5)


@pytest.fixture(autouse=True)
def needs_git():
    if not shutil.which("git"):
        pytest.skip("git is not installed")


async def test_a_repository_is_made_changed_and_branched(sandbox, tmp_path):
    git, repo = sandbox.git, str(tmp_path / "repo")
    await done(git.init(repo, initial_branch="main"))
    await done(sandbox.files.write(f"{repo}/a", "1"))
    status = await done(git.status(repo))
    assert status.has_untracked and [entry.name for entry in status.file_status] == ["a"]
    await done(git.add(repo))
    await done(git.commit(repo, "first", **AUTHOR))
    assert (await done(git.status(repo))).is_clean
    await done(git.create_branch(repo, "side"))
    branches = await done(git.branches(repo))
    assert (sorted(branches.branches), branches.current_branch) == (["main", "side"], "side")
    await done(git.checkout_branch(repo, "main"))
    await done(git.delete_branch(repo, "side"))
    assert (await done(git.branches(repo))).branches == ["main"]


async def test_a_remote_is_pushed_to_and_cloned_from(sandbox, tmp_path, daemon):
    git, repo, copy = sandbox.git, str(tmp_path / "repo"), str(tmp_path / "copy")
    await done(git.init(repo, initial_branch="main"))
    await done(sandbox.files.write(f"{repo}/a", "1"))
    await done(git.add(repo))
    await done(git.commit(repo, "first", **AUTHOR))
    await done(git.remote_add(repo, "origin", daemon))
    await done(git.push(repo, remote="origin", branch="main", set_upstream=True))
    await done(git.clone(daemon, copy))
    assert await done(sandbox.files.read(f"{copy}/a")) == "1"
    await done(sandbox.files.write(f"{repo}/a", "2"))
    await done(git.add(repo))
    await done(git.commit(repo, "second", **AUTHOR))
    await done(git.push(repo))
    await done(git.pull(copy))
    assert await done(sandbox.files.read(f"{copy}/a")) == "2"
