"""Tokens and signed addresses."""

import httpx
import pytest
from e2b import AuthenticationException, NotFoundException, Sandbox
from e2b.connection_config import ConnectionConfig
from packaging.version import Version


def secured(port, token):
    return Sandbox(
        sandbox_id="secured",
        sandbox_domain=None,
        envd_version=Version("0.6.13"),
        envd_access_token=token,
        traffic_access_token=None,
        connection_config=ConnectionConfig(
            sandbox_url=f"http://127.0.0.1:{port}",
            extra_sandbox_headers={"X-Access-Token": token} if token else {},
        ),
    )


def test_a_debug_sandbox_is_running(agent):
    assert Sandbox.create().is_running()


def test_signed_addresses_work_without_a_token_and_only_for_what_they_sign(secured_agent, tmp_path):
    sandbox, path = secured(*secured_agent), tmp_path / "f"
    uploaded = httpx.post(sandbox.upload_url(str(path)), files={"file": ("f", b"content")})
    assert uploaded.status_code == 200, uploaded.text
    assert path.read_bytes() == b"content"
    url = sandbox.download_url(str(path), use_signature_expiration=60)
    assert httpx.get(url).content == b"content"
    assert httpx.get(url.replace("%2Ff&", "%2Fg&")).status_code == 401
    assert httpx.get(sandbox.upload_url(str(path))).status_code == 401
    expired = httpx.get(sandbox.download_url(str(path), use_signature_expiration=-10))
    assert (expired.status_code, expired.json()) == (401, {"code": 401, "message": "signature is already expired"})


def test_the_token_is_needed(secured_agent, tmp_path):
    port, token = secured_agent
    assert secured(port, token).commands.run("echo in").stdout == "in\n"
    for wrong in ("tok_other", None):
        with pytest.raises(AuthenticationException):
            secured(port, wrong).commands.run("true")
        with pytest.raises(AuthenticationException):
            secured(port, wrong).files.list(str(tmp_path))
    with pytest.raises(NotFoundException):
        secured(port, token).files.read(str(tmp_path / "missing"))
