"""Python as a tool: what it prints and gives, its limits, and a verdict on code."""

import pytest

from lilith.agent.python_tools import LONGEST_TESTS, PythonSession, verify_code_tool
from lilith.config import UserError
from lilith.shamshel import Limits

LIMITS = Limits(wall_s=3.0, cpu_s=2.0, output_kb=16)
RIGHT = "def add(a, b):\n    return a + b\n"


@pytest.fixture(scope="module")
def python():
    session = PythonSession(limits=LIMITS)
    yield session.tool()
    session.close()


@pytest.fixture(scope="module")
def verify():
    return verify_code_tool(limits=LIMITS)


def test_output_value_and_state(python):
    first = python(code="x = 20\nprint('hello')\nx + 1")
    assert first["ok"], first
    assert first["result"] == {
        "status": "ok", "stdout": "hello\n21\n", "stderr": "", "value": "21", "error": None,
    }  # fmt: skip
    assert python(code="x * 2")["result"]["value"] == "40"
    assert python(code="y = 3")["result"]["value"] is None
    assert python(code="for _ in range(3): print(_)")["result"]["value"] is None
    assert python(code="print(7)")["result"]["value"] is None
    assert python(code="'a\\nb'")["result"]["value"] == repr("a\nb")
    assert python(code="")["result"]["status"] == "ok"


def test_an_exception_is_a_result_with_its_words(python):
    result = python(code="1/0")["result"]
    assert result["status"] == "error"
    assert result["error"] == "ZeroDivisionError: division by zero"
    assert "line 1" in result["stderr"]
    assert "SyntaxError" in python(code="def f(:")["result"]["error"]


def test_limits_end_the_code_and_say_that_names_are_gone(python):
    python(code="kept = 1")
    ended = python(code="while True: pass")
    assert ended["result"]["status"] == "timeout"
    assert "longer than 3 s" in ended["result"]["error"]
    assert any("names defined before are gone" in text for text in ended["warnings"])
    assert "NameError" in python(code="kept")["result"]["error"]


def test_much_output_is_cut_in_the_middle(python):
    result = python(code="print('a' * 9000)")["result"]
    assert "characters left out" in result["stdout"]
    assert len(result["stdout"]) < 8200


def test_the_host_is_out_of_sight(python):
    result = python(code="import os; print(os.environ.get('HOME'), os.listdir('/'))")["result"]
    assert "work" not in result["stdout"] or result["status"] != "ok"
    assert python(code="open('/etc/passwd').read()")["result"]["status"] == "error"
    code = "import socket; socket.create_connection(('127.0.0.1', 80), timeout=1)"
    assert python(code=code)["result"]["status"] == "error"


def test_two_sessions_share_nothing(python):
    other = PythonSession(limits=LIMITS)
    try:
        python(code="secret = 1")
        assert "NameError" in other.tool()(code="secret")["result"]["error"]
    finally:
        other.close()
        other.close()


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(UserError, match="nowhere-to-be-found"):
        PythonSession(["nowhere-to-be-found"])
    with pytest.raises(UserError, match="nowhere-to-be-found"):
        verify_code_tool(["nowhere-to-be-found"])


def test_verdicts_by_tests_and_by_cases(verify):
    cases = [{"args": [1, 2], "expected": 3}, {"kwargs": {"a": 0.1, "b": 0.2}, "expected": 0.3,
             "tolerance": 1e-9}]  # fmt: skip
    assert verify(code=RIGHT, cases=cases)["result"] == {"passed": True, "failures": []}
    assert verify(code=RIGHT, tests="assert add(2, 2) == 4")["result"]["passed"]
    wrong = RIGHT.replace("+", "-")
    failed = verify(code=wrong, cases=cases, tests="assert add(2, 2) == 4")["result"]
    assert not failed["passed"]
    assert "add(1, 2); expected 3; came -1" in failed["failures"]
    two = "def helper(x): return x\ndef other(a, b): return 0\n" + RIGHT
    named = verify(code=two, entry_point="other", cases=[{"args": [1, 2], "expected": 0}])
    assert named["result"]["passed"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "missing_argument"),
        ({"tests": "  "}, "missing_argument"),
        ({"tests": "def ("}, "not_python"),
        ({"tests": "x = " + "(" * 5000}, "not_python"),
        ({"tests": "#" * (LONGEST_TESTS + 1)}, "too_long"),
        ({"cases": [{"args": [1]}]}, "not_a_case"),
        ({"cases": ["add(1, 2) == 3"]}, "not_a_case"),
        ({"cases": [{"args": 3, "expected": 3}]}, "not_a_case"),
        ({"cases": []}, "too_few_entries"),
    ],
)
def test_what_can_not_be_judged_is_said(verify, arguments, code):
    answer = verify(code=RIGHT, **arguments)
    assert not answer["ok"]
    assert answer["error"]["code"] == code
    assert answer["error"]["hint"]


def test_a_sandbox_that_refuses_is_an_error_as_data(monkeypatch):
    from lilith.agent import python_tools

    class Refusing:
        packages = ()
        limits = LIMITS

        def run(self, source):
            return python_tools.Session.__new__(python_tools.Session) and _refused()

        def session(self):
            return self

    def _refused():
        from lilith.shamshel import Run

        return Run("refused", reason="no user namespaces")

    session = PythonSession(limits=LIMITS)
    session._sandbox = Refusing()
    answer = session.tool()(code="1")
    assert answer["error"]["code"] == "sandbox_refused"
    assert "no user namespaces" in answer["error"]["message"]
