"""Tokens and signed addresses."""

import httpx
import pytest
from conftest import GUEST_URL, done, sandbox_at
from e2b import AsyncSandbox, AuthenticationException, NotFoundException, Sandbox


async def test_a_sandbox_is_running(sandbox):
    assert await done(sandbox.is_running())


@pytest.mark.skipif(bool(GUEST_URL), reason="the debug mode knows one address only")
def test_in_debug_mode_ports_are_local_ones(agent):
    assert Sandbox.create().get_host(8000) == "localhost:8000"


def test_signed_addresses_work_without_a_token_and_only_for_what_they_sign(secured_agent, place):
    sandbox, path = sandbox_at(*secured_agent), place / "f"
    uploaded = httpx.post(sandbox.upload_url(path), files={"file": ("f", b"content")})
    assert uploaded.status_code == 200, uploaded.text
    assert place.get("f") == b"content"
    url = sandbox.download_url(path, use_signature_expiration=60)
    assert httpx.get(url).content == b"content"
    assert httpx.get(url.replace("%2Ff&", "%2Fg&")).status_code == 401
    assert httpx.get(sandbox.upload_url(path)).status_code == 401
    expired = httpx.get(sandbox.download_url(path, use_signature_expiration=-10))
    assert (expired.status_code, expired.json()) == (401, {"code": 401, "message": "signature is already expired"})


@pytest.mark.parametrize("kind", [Sandbox, AsyncSandbox])
async def test_the_token_is_needed(secured_agent, place, kind):
    url, token = secured_agent
    assert (await done(sandbox_at(url, token, kind).commands.run("echo in"))).stdout == "in\n"
    for wrong in ("tok_other", None):
        stranger = sandbox_at(url, wrong, kind)
        with pytest.raises(AuthenticationException):
            await done(stranger.commands.run("true"))
        with pytest.raises(AuthenticationException):
            await done(stranger.files.list(str(place)))
        with pytest.raises(AuthenticationException):
            await done(stranger.files.write(place / "large", b"x" * (8 << 20)))
        assert not place.has("large")
    with pytest.raises(NotFoundException):
        await done(sandbox_at(url, token, kind).files.read(place / "missing"))
