from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from routellm_fast.adaptation.unit_tests import code_of, passes, problem_of

SQUARE = "def square(x):\n    return x * x\n"


def test_code_that_is_right_passes() -> None:
    assert passes(SQUARE, "assert square(3) == 9")
    assert not passes(SQUARE, "assert square(3) == 8")
    assert not passes("def square(x:", "assert True")
    assert not passes("", "assert square(3) == 9")


def test_functions_and_classes_of_tests_are_run() -> None:
    assert passes(SQUARE, "def test_it():\n    assert square(3) == 9")
    assert not passes(SQUARE, "def test_it():\n    assert square(3) == 8")
    case = (
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(square(3), {})"
    )
    assert passes(SQUARE, case.format(9))
    assert not passes(SQUARE, case.format(8))
    assert passes(SQUARE, "from answer import square\ndef check(f):\n    assert f(2) == 4\ncheck(square)")


def test_tests_of_the_answer_itself_are_not_run() -> None:
    assert passes(f"{SQUARE}\ndef test_mine():\n    assert False\n", "assert square(2) == 4")


def test_dataclasses_of_an_answer_find_their_module() -> None:
    code = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
    assert passes(code, "assert P(3).x == 3")


@pytest.mark.parametrize(
    "end", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit", "raise KeyError"]
)
def test_code_that_ends_the_process_has_not_passed(end: str) -> None:
    assert not passes(f"{SQUARE}\n{end}", "assert True")


def test_what_runs_only_as_a_program_is_not_run() -> None:
    assert passes(f"{SQUARE}\nif __name__ == '__main__':\n    raise SystemExit(1)", "assert square(2) == 4")


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])",
    ],
)
def test_code_that_does_not_end_is_ended(code: str) -> None:
    assert not passes(code, "assert True", timeout_s=1.0)


def test_what_code_has_started_ends_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
    )
    assert passes(code, "assert True")
    child = int(mark.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("it lives on")


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(1 << 31)",
        "open('f', 'wb').write(bytes(1 << 25))",
        "kept = [open('f' + str(i), 'w') for i in range(100)]",
    ],
)
def test_what_takes_too_much_fails(code: str) -> None:
    assert not passes(code, "assert True")


def test_no_secret_of_the_environment_and_no_input_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    assert passes("import os, sys", "assert not [n for n in os.environ if 'KEY' in n or 'PYTHON' in n]")
    assert passes("import sys", "assert sys.stdin.read() == ''")


def test_the_folder_is_a_new_one_and_gone_afterwards(tmp_path: Path) -> None:
    mark = tmp_path / "folder"
    code = "import os\nassert os.listdir('.') == []\nopen('kept', 'w').write('x')\n"
    code += f"open({str(mark)!r}, 'w').write(os.getcwd())"
    assert passes(code, "assert True")
    assert not Path(mark.read_text()).exists()
    assert Path.cwd() != Path(mark.read_text())


def test_texts_that_are_no_source_fail() -> None:
    assert not passes("x = '\ud800'\n\0", "assert True")
    assert not passes("(" * 100_000, "assert True")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("x = 1", "x = 1"),
        ("Text\n```python\nx = 1\n```\n", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```Py\nx = 1\n", "x = 1\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("  ```python\n  def f():\n      pass\n  ```", "def f():\n    pass\n"),
        ("```python\ndef f(): 1\n```\nbetter:\n```python\ndef f(): 2\n```", "def f(): 2\n"),
        ("```python\ndef f(): 1\n```\nuse:\n```python\nprint(f())\n```", "def f(): 1\n"),
        ("```python\ndef f(): 1\n```\ntests:\n```python\ndef test_f(): f()\n```", "def f(): 1\n"),
        ("```bash\npip install x\n```\n```python\nx = 1\n```", "x = 1\n"),
        ("```bash\nls\n```", None),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n"),
    ],
)
def test_the_code_of_an_answer(answer: str, code: str | None) -> None:
    assert code_of(answer) == code


def test_tests_that_are_no_python_are_known_before() -> None:
    assert problem_of("assert 1 == 1") is None
    assert problem_of(r"assert '\d' != 'd'") is None  # a warning of Python's, no error
    for text in ("assert (", "\0", "(" * 100_000, ""):
        assert problem_of(text) is not None


def test_the_environment_of_this_process_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    passes("import os; os.environ['X_OF_ANSWER'] = '1'", "assert True")
    assert dict(os.environ) == before
