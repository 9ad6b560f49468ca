"""The processes of a run watch over each other: a lost one stops the rest, in words.

Every process keeps a connection to process 0 (:mod:`experiments.roll_call`), says each second that
it lives and what it is doing, and listens. A connection that closes, or stays silent for
``--host-timeout`` seconds, is a lost host: then every process says which one and ends with exit
code :data:`RESTART`, so that a restart can follow. What XLA's collectives do meanwhile (fail, hang,
abort) does not matter. A process that ends by its own error says why, and the others repeat it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from experiments.host_facts import facts_of
from experiments.roll_call import Wire, gather, report_to
from lilith.config import UserError

RESTART = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong with the command, start it again
TICK = 1.0  # seconds between signs of life
# Longest time between two looks that counts. After this process itself stood still (SIGSTOP, a
# sleeping laptop, a starved machine) the others must not seem silent.
LONGEST_LOOK = 5 * TICK
ALIKE_SECONDS = 1.0  # for all processes to say themselves what is wrong with all of them
REPEAT_SECONDS = 3.0  # until another's sentence is repeated, if this process has none of its own
LAST_SECONDS = REPEAT_SECONDS + 2 * ALIKE_SECONDS  # until all others have ended
SOON_SECONDS = 5.0
VERDICT_SECONDS = 5.0  # until a closed connection is surely seen
SHUTDOWN_SECONDS = 24 * 3600  # process 0 may write a long report before it ends
GO_ON = "the same command goes on from the last checkpoint"

_current: Hosts | None = None


def current() -> Hosts | None:
    """The watch over the other processes of this run; None if it is the only one."""
    return _current


def join(
    coordinator: str | None,
    processes: int,
    process: int | None,
    *,
    config: Any,
    command: Mapping[str, Any],
    start_timeout: float,
    host_timeout: float,
) -> None:
    """Find the other processes, compare what they have, start jax with them, and watch.

    The watch is :func:`current` from then on.

    Args:
      coordinator: HOST:PORT of process 0; it and ``process`` may be None where the machine says
        them (Cloud TPU, Slurm and others that jax knows).
      config: the resolved config; it and ``command`` must be the same in every process.
      start_timeout: seconds for all processes to come.
      host_timeout: seconds of silence after which a process counts as lost.

    Raises:
      RestartError: a process did not come.
      UserError: the hosts differ, or jax can not start.
    """
    global _current
    import jax

    from experiments.stage import versions

    host, port, process = _place(coordinator, processes, process, start_timeout)
    facts = facts_of(config, command, versions())
    if process == 0:
        wires, names = gather(port, processes, facts, start_timeout)
    else:
        wire, names = report_to(host.strip("[]"), port, process, processes, facts, start_timeout)
        wires = {0: wire}
    hosts = Hosts(process, names, wires, host_timeout)
    hosts.start()
    _current = hosts
    _end_calmly_on_abort()
    try:
        jax.distributed.initialize(
            f"{host}:{port}",
            processes,
            process,
            initialization_timeout=int(start_timeout),
            # jax knows no names: its own watch comes second.
            heartbeat_timeout_seconds=int(2 * host_timeout + 60),
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of this run could not find each other: {error}") from None


def _place(
    coordinator: str | None, processes: int, process: int | None, seconds: float
) -> tuple[str, int, int]:
    """Process 0's host and port, and this process's number, given or found by jax."""
    from jax._src.clusters import ClusterEnv

    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    # jax.distributed.initialize looks the same up, but tells nobody what it has found.
    address, _, number, _ = ClusterEnv.auto_detect_unset_distributed_params(
        coordinator, processes, process, None, None, int(seconds)
    )
    host, _, port = (address or "").rpartition(":")
    if number is None or not host or not port.isdecimal() or not 0 <= number < processes:
        raise UserError(
            "the processes of this run could not find each other: nothing on this machine says "
            f"where they are (--coordinator is {coordinator}, --process {process} of {processes}); "
            "give each --coordinator HOST:PORT, --processes N and its own --process, from 0 to N-1"
        )
    return host, int(port), number


def _end_calmly_on_abort() -> None:
    """Let a lost host be named before jax aborts this process.

    When process 0 dies, so does jax's coordination service, and in every other process a C++ thread
    of jax calls abort() at once; no option prevents it. The handler runs in that thread.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(_aborted, ctypes.c_void_p))


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborted(number: int) -> None:
    time.sleep(VERDICT_SECONDS)  # the watching thread ends the process if a host is lost
    os._exit(128 + number)


class Hosts:
    """This process's watch over the others, in a thread of its own."""

    def __init__(
        self, process: int, names: list[str], wires: Mapping[int, Wire], timeout: float
    ) -> None:
        """Watch over ``wires``: all others for process 0, process 0 for any other.

        Args:
          names: the words for each process.
          timeout: seconds of silence that make a process lost.
        """
        self.process, self.names, self.timeout = process, names, timeout
        self._wires = dict(wires)
        self._doing = "starting"
        self._outgoing: list[dict[str, Any]] = []
        self._ended: set[int] = set()  # processes whose work is done
        self._all_done = threading.Event()
        self._closed = threading.Event()
        self._ending = threading.Lock()
        self._clock = 0.0  # seconds in which this process looked
        self._heard = dict.fromkeys(wires, 0.0)  # on that clock
        self._others_doing: dict[int, str] = {}
        self._repeat: tuple[float, str, int] | None = None  # when, what and how, of another's error
        self._figures: dict[str, dict[int, str]] = {}  # by what they are of, and process
        self._differing: list[str] = []
        self._differed: set[int] = set()  # each is named once
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="hosts", daemon=True).start()

    def name(self, process: int) -> str:
        """The words for a process."""
        return self.names[process]

    def working(self, what: str) -> None:
        """Say what this process does now; the others name it if it is lost."""
        self._doing = what

    def heartbeat_age(self) -> float:
        """Seconds since the last sign of the process that has been silent longest."""
        return max((self._clock - heard for heard in self._heard.values()), default=0.0)

    def compare(self, what: str, figures: str) -> None:
        """Have the figures of ``what``, such as a step, compared with the other processes'."""
        if self.process == 0:
            self._compare(0, what, figures)
        else:
            with self._lock:
                self._outgoing.append({"figures": figures, "of": what})

    def differences(self) -> list[str]:
        """What :meth:`compare` found since the last call, in words; process 0 knows."""
        with self._lock:
            found, self._differing = self._differing, []
        return found

    def leave(self) -> None:
        """End well: wait until every process has, then stop watching."""
        self._say()
        if self.process == 0:
            self._done(0)
        else:
            self._send(0, {"done": self.process})
        self._all_done.wait()
        for words in self.differences():
            print(f"warning: {words}", flush=True)
        self._closed.set()

    def fail(self, sentence: str, code: int, *, patience: float, stacks: bool = False) -> NoReturn:
        """Say what is wrong here, tell the others, and end this process.

        Args:
          patience: seconds in which another process may turn out lost, which explains it better.
          stacks: the others show what their threads are doing.
        """
        time.sleep(patience)
        self._broadcast(
            {"ended": self.process, "sentence": sentence, "code": code, "stacks": stacks}
        )
        self._end(sentence, code)

    def _watch(self) -> None:
        selector = selectors.DefaultSelector()
        for process, wire in self._wires.items():
            wire.connection.settimeout(TICK)
            selector.register(wire.connection, selectors.EVENT_READ, process)
        looked = beat = time.monotonic()
        while not self._closed.is_set():
            for key, _ in selector.select(TICK):
                if not self._hear(key.data):
                    selector.unregister(key.fileobj)
            now = time.monotonic()
            self._clock += min(now - looked, LONGEST_LOOK)
            looked = now
            if now - beat >= TICK:
                beat = now
                self._say()
            self._judge()

    def _say(self) -> None:
        """Send a sign of life, and the figures to compare."""
        with self._lock:
            news, self._outgoing = self._outgoing, []
        self._broadcast({"doing": self._doing})
        for one in news:
            self._send(0, one)

    def _hear(self, process: int) -> bool:
        """Take in what another process says; False when it will say no more."""
        try:
            messages = self._wires[process].receive()
        except TimeoutError:
            return True
        except (OSError, ValueError):
            if process not in self._ended and not self._all_done.is_set():
                self._lose(process, "its connection closed, so it died or was killed")
            return False
        self._heard[process] = self._clock
        for message in messages:
            self._take(process, message)
        return True

    def _take(self, process: int, message: Mapping[str, Any]) -> None:
        if "doing" in message:
            self._others_doing[process] = message["doing"]
        elif "figures" in message:
            self._compare(process, message["of"], message["figures"])
        elif "done" in message:
            self._done(message["done"])
        elif "all_done" in message:
            self._all_done.set()
        elif "lost" in message:
            self._end(message["lost"], RESTART)
        elif "ended" in message:
            self._follow(message)

    def _done(self, process: int) -> None:
        """Process 0 counts who has done its work."""
        self._ended.add(process)
        if len(self._ended) == len(self.names):
            self._broadcast({"all_done": True})
            self._all_done.set()

    def _follow(self, message: Mapping[str, Any]) -> None:
        """Another process ended by an error: so will this one, unless it says the same itself."""
        ended, code = message["ended"], message["code"]
        self._ended.add(ended)
        if self.process == 0:
            self._broadcast(message)
        if message["stacks"]:
            print(f"what the threads of {self.name(self.process)} do:", file=sys.stderr, flush=True)
            show_stacks()
        sentence = f"{self.name(ended)} stopped: {message['sentence']}"
        # A mistake of the person stays one; anything else is worth another start.
        code = code if code in (2, 128 + signal.SIGINT) else RESTART
        self._repeat = self._repeat or (self._clock + REPEAT_SECONDS, sentence, code)

    def _judge(self) -> None:
        """End this process if another is silent, or has ended by an error."""
        if self._repeat is not None:
            when, sentence, code = self._repeat
            if self._clock >= when:
                self._end(sentence, code)
            return
        for process, heard in self._heard.items():
            if self._clock - heard > self.timeout and process not in self._ended:
                self._lose(process, f"it gave no sign of life for {self.timeout:g} s")

    def _lose(self, process: int, why: str) -> None:
        if self._repeat is not None:
            return
        doing = self._others_doing.get(process)
        at = f" (last known to be at: {doing})" if doing else ""
        sentence = f"{self.name(process)} is lost: {why}{at}; start all again: {GO_ON}"
        self._broadcast({"lost": sentence})
        if process == 0:
            time.sleep(ALIKE_SECONDS)  # jax's abort prints a trace: the sentence comes after it
        self._end(sentence, RESTART)

    def _compare(self, process: int, what: str, figures: str) -> None:
        """Process 0 holds figures until all have sent theirs."""
        with self._lock:
            known = self._figures.setdefault(what, {})
            known[process] = figures
            if len(known) < len(self.names):
                return
            del self._figures[what]
            others = [
                p
                for p, theirs in sorted(known.items())
                if theirs != known[0] and p not in self._differed
            ]
            self._differed.update(others)
            self._differing += [
                f"{self.name(p)} has other figures of {what} ({known[p]}) than "
                f"{self.name(0)} ({known[0]}): one of them computes or receives wrong values; "
                "train.check_replicas_every=N finds which weights differ, and stops"
                for p in others
            ]

    def _broadcast(self, message: Mapping[str, Any]) -> None:
        for process in self._wires:
            self._send(process, message)

    def _send(self, process: int, message: Mapping[str, Any]) -> None:
        # One that can not be reached is found out by its silence.
        with contextlib.suppress(OSError), self._lock:
            self._wires[process].send(message)

    def _end(self, sentence: str, code: int) -> NoReturn:
        """Print the sentence and end this process at once, whatever its other threads wait for."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # another thread is ending the process
        with contextlib.suppress(OSError, ValueError):
            print(f"error: {sentence}", file=sys.stderr, flush=True)
            sys.stdout.flush()
        # The others must read what was sent before this one's connections close; and process 0 goes
        # last, since jax's coordination service goes with it.
        time.sleep(LAST_SECONDS if self.process == 0 else ALIKE_SECONDS)
        os._exit(code)


def stop(sentence: str, code: int, *, patience: float = 0.0, stacks: bool = False) -> NoReturn:
    """End this process, whatever its threads wait for, and tell the others of the run why."""
    if _current is not None:
        _current.fail(sentence, code, patience=patience, stacks=stacks)
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


def fail_soon(sentence: str, code: int = 2) -> None:
    """Say that something failed in the background of this process, which is one of several.

    All end with the sentence, unless they find it out together first, and end in good order.
    """
    if _current is not None:
        timer = threading.Timer(SOON_SECONDS, stop, (sentence, code))
        timer.daemon = True
        timer.start()


def show_stacks() -> None:
    """Print what every thread of this process is doing to stderr."""
    with contextlib.suppress(OSError, ValueError):
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
