"""A folder of the sandbox, looked at in other ways than those under test: on this machine, or by commands in a guest."""

import base64
import shlex
import subprocess


class Place:
    def __init__(self, path: str, run):
        self.path, self.run = path, run

    def __truediv__(self, name: str) -> str:
        return f"{self.path}/{name}"

    def __str__(self) -> str:
        return self.path

    def sh(self, script: str) -> str:
        """What a shell command in the folder prints; it must succeed."""
        return self.run(f"cd {shlex.quote(self.path)} && {{ {script}\n}}")

    def put(self, name: str, content: bytes | str) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.sh(f"echo {base64.b64encode(data).decode()} | base64 -d > {shlex.quote(name)}")

    def get(self, name: str) -> bytes:
        return base64.b64decode(self.sh(f"base64 -w0 {shlex.quote(name)}"))

    def has(self, name: str) -> bool:
        return self.sh(f"[ -e {shlex.quote(name)} ] && echo yes || echo no") == "yes\n"


def here(script: str) -> str:
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, f"{script}: {done.stderr}"
    return done.stdout
