"""The SDK's git module, against repositories in the sandbox and a git daemon on its loopback."""

import random

import pytest
from conftest import done

AUTHOR = {"author_name": "Ann", "author_email": "ann@example.com"}


@pytest.fixture(autouse=True)
def needs_git(place):
    if not place.sh("command -v git || true"):
        pytest.skip("git is not installed")


@pytest.fixture
def daemon(place):
    """Serves the folder `served`, also for pushes. The address of a repository in it."""
    place.sh("git init -q --bare -b main served/repo.git")
    port = random.randrange(20000, 32000)
    options = f"--reuseaddr --export-all --enable=receive-pack --base-path={place}/served --pid-file={place}/git.pid"
    place.sh(f"git daemon --listen=127.0.0.1 --port={port} {options} --detach >/dev/null 2>&1")
    place.sh(f"for i in $(seq 100); do (: > /dev/tcp/127.0.0.1/{port}) 2>/dev/null && exit; sleep 0.1; done; exit 1")
    yield f"git://127.0.0.1:{port}/repo.git"
    place.sh("kill $(cat git.pid)")


async def first_commit(sandbox, repo):
    await done(sandbox.git.init(repo, initial_branch="main"))
    await done(sandbox.files.write(f"{repo}/a", "1"))
    await done(sandbox.git.add(repo))
    await done(sandbox.git.commit(repo, "first", **AUTHOR))


async def test_a_repository_is_made_changed_and_branched(sandbox, place):
    git, repo = sandbox.git, place / "repo"
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


async def test_changes_are_staged_taken_back_and_thrown_away(sandbox, place):
    git, repo = sandbox.git, place / "repo"
    await first_commit(sandbox, repo)
    await done(sandbox.files.write(f"{repo}/a", "2"))
    await done(git.add(repo, files=["a"]))
    assert (await done(git.status(repo))).has_staged
    await done(git.restore(repo, ["a"], staged=True))
    assert not (await done(git.status(repo))).has_staged
    await done(git.restore(repo, ["a"]))
    assert await done(sandbox.files.read(f"{repo}/a")) == "1"
    await done(sandbox.files.write(f"{repo}/a", "3"))
    await done(git.reset(repo, mode="hard"))
    assert (await done(git.status(repo))).is_clean


async def test_settings_are_kept_for_one_repository_and_for_all(sandbox, place):
    git, repo = sandbox.git, place / "repo"
    await done(git.init(repo))
    local, everywhere = {"scope": "local", "path": repo}, {"envs": {"HOME": str(place)}}
    await done(git.configure_user("Ann", "ann@example.com", **local))
    await done(git.set_config("pull.rebase", "true", **everywhere))
    assert await done(git.get_config("user.email", **local)) == "ann@example.com"
    assert await done(git.get_config("pull.rebase", **everywhere)) == "true"
    assert await done(git.get_config("no.such", **everywhere)) is None
    await done(git.dangerously_authenticate("ann", "secret", host="git.test", **everywhere))
    assert place.get(".git-credentials") == b"https://ann:secret@git.test\n"


async def test_a_remote_is_pushed_to_and_cloned_from(sandbox, place, daemon):
    git, repo, copy = sandbox.git, place / "repo", place / "copy"
    await first_commit(sandbox, repo)
    await done(git.remote_add(repo, "origin", daemon))
    assert await done(git.remote_get(repo, "origin")) == daemon
    assert await done(git.remote_get(repo, "other")) is None
    await done(git.push(repo, remote="origin", branch="main", set_upstream=True))
    await done(git.clone(daemon, copy, branch="main", depth=1))
    assert await done(sandbox.files.read(f"{copy}/a")) == "1"
    await done(sandbox.files.write(f"{repo}/a", "2"))
    await done(git.add(repo))
    await done(git.commit(repo, "second", **AUTHOR))
    await done(git.push(repo))
    await done(git.pull(copy))
    assert await done(sandbox.files.read(f"{copy}/a")) == "2"
