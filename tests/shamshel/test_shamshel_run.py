"""What a run hands back, at its limits and on bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import shamshel_host

from lilith.shamshel import Limits, Sandbox, client, shutdown

FAST = Limits(wall_s=10, memory_mb=128)


@pytest.fixture(scope="module")
def box() -> Sandbox:
    """A sandbox whose limits a loaded machine does not touch."""
    return Sandbox(FAST)


def test_a_program_prints_and_ends(box: Sandbox) -> None:
    run = box.run("print(6*7)", stdin="", files={"data.csv": b"1,2"})
    assert (run.status, run.stdout, run.stderr) == ("ok", "42\n", "")
    assert (run.exit_code, run.signal, run.files, run.cut) == (0, None, {}, ())
    assert run.level == "default"
    assert run.warning == ""
    assert 0 < run.wall_s < 10
    assert 0 < run.peak_mb < 128


def test_stdin_files_in_and_files_out(box: Sandbox) -> None:
    code = (
        "import sys, os\n"
        "text = sys.stdin.read() + open('in/data.csv').read()\n"
        "os.makedirs('out/deep')\n"
        "open('out/deep/a.txt', 'w').write(text)\n"
        "open('kept.txt').read()\n"
        "open('changed.txt', 'a').write('more')\n"
    )
    given = {"in/data.csv": b"1,2", "kept.txt": "kept", "changed.txt": b"some "}
    run = box.run(code, stdin="é;", files=given)
    assert run.status == "ok", run.stderr
    assert run.files == {"out/deep/a.txt": "é;1,2".encode(), "changed.txt": b"some more"}


@pytest.mark.parametrize(
    ("source", "status", "exit_code", "signal"),
    [
        ("raise SystemExit(3)", "error", 3, None),
        ("1/0", "error", 1, None),
        ("this is not python", "error", 1, None),
        ("", "ok", 0, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "killed", None, 15),
        ("x = [0] * 10**10", "memory", 1, None),
        ("exit(0)", "ok", 0, None),
    ],
)
def test_how_it_ended(
    box: Sandbox, source: str, status: str, exit_code: int | None, signal: int | None
) -> None:
    run = box.run(source)
    assert (run.status, run.exit_code, run.signal) == (status, exit_code, signal), run.stderr
    if source == "1/0":
        assert 'File "/box/code/main.py", line 1' in run.stderr
        assert "ZeroDivisionError" in run.stderr


def test_wall_time_ends_a_run_within_a_second() -> None:
    begin = time.monotonic()
    run = Sandbox(Limits(wall_s=0.5)).run("import time; print('begun', flush=True); time.sleep(60)")
    assert run.status == "timeout"
    assert run.stdout == "begun\n"
    assert time.monotonic() - begin < 1.5 + 1  # the first run may start the zygote


def test_processor_time_is_counted_over_all_processes() -> None:
    code = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    run = Sandbox(Limits(wall_s=20, cpu_s=0.5)).run(code)
    assert run.status == "timeout"
    assert run.wall_s < 15
    assert run.cpu_s < 5


def test_output_is_cut_and_marked() -> None:
    run = Sandbox(Limits(output_kb=2)).run("print('x' * 5000)")
    assert run.status == "output"
    assert run.cut == ("stdout",)
    assert len(run.raw_stdout) == 2048
    assert run.stdout.endswith("[stdout cut at 2 KiB]")


def test_files_are_cut_and_marked() -> None:
    code = "for n in range(20): open(f'f{n:02}', 'w').write('x')"
    run = Sandbox(Limits(files=16)).run("import os\nos.mkdir('a' )\n" + code)
    assert run.status == "error"  # no more inodes than allowed, plus the machinery's few
    assert len(run.files) <= 16
    deep = "import os\nfor _ in range(60):\n os.mkdir('d'); os.chdir('d')\nopen('x', 'w').close()"
    run = Sandbox(FAST).run(deep)
    assert (run.status, run.files, run.cut) == ("ok", {}, ("files",))


def test_text_is_safe_to_print_and_bytes_are_kept(box: Sandbox) -> None:
    run = box.run("import os; os.write(1, b'\\x1b[2Ja\\x00\\xff\\u202e\\r\\n\\ttab\\rb')")
    assert run.stdout == "\\x1b[2Ja\\x00\ufffd\\u202e\n\ttab\\x0db"
    assert run.raw_stdout == b"\x1b[2Ja\x00\xff\\u202e\r\n\ttab\rb"
    odd = box.run("import os\nfor n in (b'\\xff', b'\\xfe', b'a\\nb'): os.mknod(n)")
    assert sorted(odd.files) == ["\\xfe", "\\xff", "a\\nb"]
    shown = box.run("print('a\u202eb\u0085c')").stdout
    assert shown == "a\\u202eb\\x85c\n"


@pytest.mark.parametrize("field", ["wall_s", "cpu_s", "memory_mb", "processes", "file_mb", "files"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 2**31, "5", True, None])
def test_limits_of_zero_or_below_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


def test_unknown_level_and_too_little_memory() -> None:
    with pytest.raises(ValueError, match="level is 'none'"):
        Limits(level="none")
    with pytest.raises(ValueError, match="memory_mb is 8"):
        Limits(memory_mb=8)
    with pytest.raises(ValueError, match="workers is 0"):
        Sandbox(workers=0)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a\0b", "x" * 300, "a/" * 20 + "b"]
)
def test_input_file_names_stay_inside(box: Sandbox, name: str) -> None:
    with pytest.raises(ValueError, match="input file name"):
        box.run("", files={name: b""})


def test_other_bad_input_files(box: Sandbox) -> None:
    with pytest.raises(ValueError, match="lies beneath another"):
        box.run("", files={"a": b"", "a/b": b""})
    with pytest.raises(ValueError, match="must be bytes or str"):
        box.run("", files={"a": 5})
    with pytest.raises(TypeError, match="source is bytes"):
        box.run(b"1")


def test_odd_sources_have_a_clear_status(box: Sandbox) -> None:
    run = box.run("print(1)\n\0")
    assert run.status == "error"
    assert "NUL character in line 2" in run.stderr
    assert box.run("x = '\ud800'").status == "error"
    run = box.run("#" * (10 << 20))
    assert run.status == "refused"
    assert "10485760 bytes" in run.reason
    assert box.run("x = 1\n" * 150_000).status in ("ok", "memory")


def test_no_result_holds_the_machinery_s_own_frames(box: Sandbox) -> None:
    for source in ("1/0", "import sys; sys.excepthook = 5; 1/0", "raise BaseException"):
        assert "lilith" not in box.run(source).stderr


def test_the_work_folder_and_its_surroundings(box: Sandbox) -> None:
    code = (
        "import os, sys, socket, tempfile, site\n"
        "assert os.getcwd() == '/box/work' and os.listdir('.') == []\n"
        "assert socket.gethostname() == 'jail' and os.getpid() == 2\n"
        "assert dict(os.environ) == {} and sys.flags.isolated\n"
        "assert os.listdir(site.getsitepackages()[0]) == []\n"
        "tempfile.NamedTemporaryFile().write(b'x')\n"
        "print(os.getuid())\n"
    )
    run = box.run(code)
    assert run.status == "ok", run.stderr
    assert int(run.stdout) != 0
    if os.geteuid() == 0:
        other = box.run(code)
        assert other.stdout != run.stdout, "two runs share a user"


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nasync def f(): return 5\nassert asyncio.run(f()) == 5",
        "import threading\nt = threading.Thread(target=print)\nt.start(); t.join()",
        "import multiprocessing as m\nassert m.Pool(2).map(abs, [-1]) == [1]",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''], check=True)",
        "import sqlite3; sqlite3.connect('x.db').execute('create table t (a)')",
        "import json, re, decimal, hashlib, ssl, lzma, zoneinfo, ctypes, dataclasses, unittest",
        "import shutil, os\nopen('a','w').write('x'); shutil.copy('a','b'); os.rename('b','c')",
        "import sys\nsys.setrecursionlimit(5000)\ndef f(n): return n and f(n-1)\nf(4000)",
        "import random, secrets, uuid, time\nassert secrets.token_bytes(9) and uuid.uuid4()",
    ],
)
def test_ordinary_programs_work(box: Sandbox, source: str) -> None:
    run = box.run(source)
    assert run.status == "ok", run.stderr


def test_packages_are_let_in_by_name_only(box: Sandbox) -> None:
    code = "import numpy, scipy.linalg\nprint(scipy.linalg.det(numpy.eye(3)))"
    assert "No module named 'numpy'" in box.run(code).stderr
    run = Sandbox(Limits(wall_s=30, cpu_s=30), packages=("scipy",)).run(code)
    assert (run.status, run.stdout) == ("ok", "1.0\n"), run.stderr
    with pytest.raises(ValueError, match="'no-such-package' is not installed"):
        Sandbox(packages=("no-such-package",))


def test_from_a_thread_and_from_sixteen_at_once(box: Sandbox) -> None:
    results: dict[int, str] = {}

    def work(number: int) -> None:
        results[number] = box.run(f"print({number} * 2)").stdout

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: f"{n * 2}\n" for n in range(16)}


def test_two_hundred_jobs_leave_nothing(box: Sandbox) -> None:
    host = shamshel_host.Host()
    try:
        box.run("")
        before = host.settled_state()
        with ThreadPoolExecutor(200) as pool:
            runs = list(pool.map(box.run, [f"print({n}**2)" for n in range(200)]))
        assert [r.stdout for r in runs] == [f"{n * n}\n" for n in range(200)]
        assert {r.status for r in runs} == {"ok"}
        assert host.changes(before) == []
    finally:
        host.close()
    assert [r.stdout for r in box.run_many(["print(1)", "print(2)"])] == ["1\n", "2\n"]


def test_after_shutdown_nothing_at_all_is_left(box: Sandbox) -> None:
    box.run("")
    assert shamshel_host.descendants(client.zygote((), "default").process.pid)
    shutdown()

    def left() -> list[str]:
        # by the package's folder: other tests' children have this folder's name in their sys.path
        package = str(Path(client.__file__).parent)
        processes = shamshel_host.descendants(os.getpid())
        ours = [p for p in processes if package in shamshel_host.command_line(p)]
        return ours + shamshel_host.groups_of(os.getpid())

    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left() == []


def test_every_mechanism_is_probed_and_held(box: Sandbox) -> None:
    found = box.capabilities()
    assert len(found) == 20
    assert [name for name, capability in found.items() if not capability.held] == []
    assert next(iter(found)) == "own session"
    assert all(capability.detail and not capability.remedy for capability in found.values())


def test_process_level_must_be_asked_for_and_says_so() -> None:
    bare = Sandbox(Limits(level="process", wall_s=5, processes=8))
    run = bare.run("open('made', 'w').write('x'); print(1)", files={"a": b"x"})
    assert (run.status, run.stdout, run.files) == ("ok", "1\n", {"made": b"x"})
    assert run.level == "process"
    assert "could read and write" in run.warning
    assert "could read and write" in bare.run("\0").warning
    run = bare.run("import os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(60)")
    assert run.status == "ok"
    assert Sandbox(Limits(level="process", wall_s=0.5)).run("while True: pass").status == "timeout"
    host = shamshel_host.Host()
    try:
        assert host.state()["left"] == []
    finally:
        host.close()


def _run_without(setup: str, code: str) -> str:
    """Run code in a process that lacks something."""
    program = f"import sys\nsys.path.insert(0, {str(Path.cwd())!r})\n{setup}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_machine_that_lacks_a_mechanism_refuses_in_words() -> None:
    setup = "from lilith.shamshel import interpreter, client\n"
    setup += "client._BOOT = client._BOOT.replace('main()', '''\n"
    setup += "from shamshel import landlock\nlandlock.version = lambda: 0\nmain()''')"
    code = (
        "from lilith.shamshel import Sandbox, verify\n"
        "box = Sandbox()\n"
        "print(box.run('print(1)').reason)\n"
        "print(box.session().run('1').status, verify('', 'f', [((), {}, 1)]).passed)\n"
        "print(box.capabilities()['landlock'])"
    )
    lines = _run_without(setup, code).splitlines()
    assert lines[0].startswith("landlock: the kernel has no Landlock, or it is off. Remedy: run ")
    assert "Limits(level='process')" in lines[0]
    assert lines[1] == "refused False"
    assert lines[2].startswith("Capability(held=False, detail='the kernel has no Landlock")


def test_without_user_namespaces_the_remedy_names_the_setting() -> None:
    setup = "from lilith.shamshel import client\n"
    setup += "client._BOOT = client._BOOT.replace('main()', '''\n"
    setup += "from shamshel import linux\nkeep = linux.unshare\n"
    setup += "def unshare(flags):\n    if flags & linux.CLONE_NEWUSER:\n"
    setup += '        raise OSError(1, "Operation not permitted")\n    keep(flags)\n'
    setup += "linux.unshare = unshare\nmain()''')"
    code = "from lilith.shamshel import Sandbox\nrun = Sandbox().run('print(1)')\n"
    code += "print(run.status, run.stdout, run.reason)"
    text = _run_without(setup, code)
    assert text.startswith("refused  user namespace: Operation not permitted. Remedy: set sysctl")


def test_a_killed_zygote_is_replaced(box: Sandbox) -> None:
    box.run("")
    found = client.zygote((), "default")
    found.process.kill()
    found.process.wait()
    assert box.run("print(1)").stdout == "1\n"
    shutdown()
    assert box.run("print(2)").stdout == "2\n"


def test_a_run_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    code = "from lilith.shamshel import Sandbox\nSandbox().run('import time; time.sleep(600)')"
    program = f"import sys\nsys.path.insert(0, {str(Path.cwd())!r})\n{code}"
    caller = subprocess.Popen([sys.executable, "-c", program])
    found: set[str] = set()
    deadline = time.monotonic() + 20
    while len(found) < 4 and time.monotonic() < deadline:  # zygote, supervisor, init, program
        time.sleep(0.05)
        found = shamshel_host.descendants(caller.pid)
    assert len(found) >= 4
    caller.kill()
    caller.wait()
    while (left := [p for p in found if os.path.exists(f"/proc/{p}")]) and (
        time.monotonic() < deadline + 10
    ):
        time.sleep(0.05)
    assert left == []


def test_after_a_fork_the_child_has_a_zygote_of_its_own(box: Sandbox) -> None:
    code = (
        "import os\nfrom lilith.shamshel import Sandbox\nbox = Sandbox()\nbox.run('')\n"
        "child = os.fork()\nprint(box.run('print(7)').stdout, flush=True)\n"
        "if child: assert os.waitpid(child, 0)[1] == 0; print(box.run('print(7)').stdout)"
    )
    assert _run_without("", code).split() == ["7", "7", "7"]


def _interpreters(folder: Path) -> list[str]:
    """This one, one in /usr, and two virtual environments made here."""
    found = [sys.executable]
    for kind, extra in (("links", []), ("copies", ["--copies"])):
        made = folder / "home" / kind
        command = [sys.executable, "-m", "venv", "--without-pip", *extra, str(made)]
        subprocess.run(command, check=True, timeout=60)
        found.append(str(made / "bin" / "python"))
    other = Path("/usr/bin/python3")
    if other.exists():
        asked = [str(other), "-c", "import sys; print(sys.version_info >= (3, 11))"]
        if subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "True\n":
            found.append(str(other))
    return found


def test_every_place_of_an_interpreter(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from lilith.shamshel import Sandbox, verify\n"
        "run = Sandbox().run('import sys, ssl; print(sys.version_info[:3])')\n"
        "assert run.stdout == f'{sys.version_info[:3]}\\n', run\n"
        "assert verify('def f(): return 1', 'f', [((), {}, 1)], 'assert f() == 1').passed\n"
    )
    for executable in _interpreters(tmp_path):
        done = subprocess.run(
            [executable, "-c", code], capture_output=True, text=True, timeout=60, env={}
        )
        assert done.returncode == 0, (executable, done.stderr)
