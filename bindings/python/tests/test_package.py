"""What users of the package see of it: types, documentation."""

import inspect
import subprocess
import sys

import pytest

import mapring


@pytest.mark.parametrize("checked", ["mypy.stubtest mapring._mapring", "mypy --strict --ignore-missing-imports -p mapring"])
def test_type_checkers_find_what_is_there(tmp_path, checked):
    done = subprocess.run([sys.executable, "-m", *checked.split()], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout


def test_everything_public_is_documented():
    parts = [(name, getattr(mapring, name)) for name in mapring.__all__ if name != "ABI"]
    parts += [(f"{name}.{part}", value) for name, of in parts if isinstance(of, type) for part, value in vars(of).items()]
    bare = [name for name, part in parts if callable(part) and "._" not in name and not inspect.getdoc(part)]
    assert parts and not bare
