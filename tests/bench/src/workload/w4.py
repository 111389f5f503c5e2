# Makes a wheel of a package with many modules, installs pip and it into a new environment, and runs its tests.
import glob, os, subprocess, zipfile

MODULES = 120
name = "dozy-1.0-py3-none-any.whl"
code = '''"""Module {i} of a package that exists to be installed and tested."""
import json, re, statistics
from dataclasses import dataclass, field

@dataclass
class Item{i}:
    name: str
    weights: list = field(default_factory=list)

    def mean(self):
        return statistics.fmean(self.weights) if self.weights else 0.0

    def to_json(self):
        return json.dumps({{"name": self.name, "weights": self.weights}}, sort_keys=True)

def parse(text):
    return [int(n) + {i} for n in re.findall(r"[0-9]+", text)]
'''
test = '''import unittest
from dozy.module_{i} import Item{i}, parse

class Test{i}(unittest.TestCase):
    def test_mean(self):
        self.assertEqual(Item{i}("a", list(range(1001))).mean(), 500)

    def test_json(self):
        self.assertIn("weights", Item{i}("b", [{i}]).to_json())

    def test_parse(self):
        self.assertEqual(parse("1 and 2"), [1 + {i}, 2 + {i}])
'''
os.makedirs("/root/tests", exist_ok=True)
with zipfile.ZipFile(f"/root/{name}", "w", zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr("dozy/__init__.py", "")
    for i in range(MODULES):
        wheel.writestr(f"dozy/module_{i}.py", code.format(i=i))
        with open(f"/root/tests/test_{i}.py", "w") as file:
            file.write(test.format(i=i))
    info = "dozy-1.0.dist-info"
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: dozy\nVersion: 1.0\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(f"{info}/RECORD", "")

def run(*command):
    subprocess.run(command, check=True)

pip = glob.glob("/root/pip-*.whl")[0]
python = "/root/environment/bin/python"
run("python3", "-m", "venv", "--without-pip", "/root/environment")
run(python, f"{pip}/pip", "install", "--no-index", "--disable-pip-version-check", pip, f"/root/{name}")
run(python, "-m", "unittest", "discover", "-s", "/root/tests", "-p", "test_*.py")
open("/run/bench.done", "w").close()
