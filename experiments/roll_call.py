"""The processes of a run find each other before jax looks for them, so that a missing one is named.

When a process does not come in time, jax ends the others with a C++ abort that names nobody. So
process 0 first listens itself where jax will (the coordinator's port), every other process sends
what it has (:mod:`experiments.host_facts`), and process 0 answers all of them: go, or one sentence
on who is missing or differs. The connections stay open: :mod:`experiments.hosts` watches over them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from experiments.host_facts import difference, some_of
from lilith.config import UserError

RETRY_SECONDS = 0.2
HELLO_SECONDS = 10.0  # for what is sent at once after connecting
BIND_SECONDS = 10.0  # an earlier start of the same run may still hold the port
LONGEST_LINE = 1 << 24
ADDRESSES = "TPU_WORKER_HOSTNAMES"  # of every host of a TPU slice, with commas between


class RestartError(UserError):
    """Nobody's mistake, and cured by starting the same command again: exit code 75."""


class Wire:
    """JSON messages over a connection, one a line."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._buffer = b""

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises OSError when the other end is gone."""
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have come whole, after waiting for some bytes.

        Raises:
          OSError: the connection is closed (EOFError's meaning too), or its timeout passed.
          ValueError: what came is not of this protocol.
        """
        data = self.connection.recv(1 << 16)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the other end")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        messages = [json.loads(line) for line in lines]
        if len(self._buffer) > LONGEST_LINE or not all(isinstance(m, dict) for m in messages):
            raise ValueError("not a message of this protocol")
        return messages

    def first(self, seconds: float) -> dict[str, Any]:
        """The next message, which comes alone; errors as of ``receive``."""
        end = time.monotonic() + seconds
        while True:
            self.connection.settimeout(max(0.01, end - time.monotonic()))
            if messages := self.receive():
                return messages[0]

    def close(self) -> None:
        self.connection.close()


def name_of(process: int, host: str) -> str:
    """The words for a process: ``process 1 (worker-1)``."""
    return f"process {process} ({host})" if host else f"process {process}"


def gather(
    port: int, processes: int, facts: Mapping[str, Any], seconds: float
) -> tuple[dict[int, Wire], list[str]]:
    """Process 0's part: wait for all the others, compare what they have, and answer them.

    Returns:
      The connection to each of the others by its number, and the name of every process.

    Raises:
      RestartError: some did not come within ``seconds``.
      UserError: the hosts differ, or the port can not be had; all that came are told.
    """
    end = time.monotonic() + seconds
    arrived: dict[int, tuple[Wire, dict[str, Any]]] = {}
    with contextlib.closing(_listen(port, min(seconds, BIND_SECONDS))) as server:
        while len(arrived) < processes - 1 and (left := end - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                _greet(Wire(connection), arrived, min(left, HELLO_SECONDS))
    known = {0: facts} | {process: said["facts"] for process, (_, said) in arrived.items()}
    sentence, code = _verdict(processes, known, arrived, seconds)
    names = [name_of(p, known[p]["host"] if p in known else "") for p in range(processes)]
    for wire, _ in arrived.values():
        with contextlib.suppress(OSError):
            wire.send({"refused": sentence, "code": code} if sentence else {"names": names})
    if sentence:
        raise (RestartError if code else UserError)(sentence)
    return {process: wire for process, (wire, _) in arrived.items()}, names


def report_to(
    host: str, port: int, process: int, processes: int, facts: Mapping[str, Any], seconds: float
) -> tuple[Wire, list[str]]:
    """Any other process's part: tell process 0, at ``host``, what this one has.

    Returns:
      The connection to process 0, and the name of every process.

    Raises:
      RestartError: process 0 did not answer within ``seconds``, or somebody did not come.
      UserError: the hosts differ.
    """
    end = time.monotonic() + seconds
    hello = {"process": process, "processes": processes, "facts": facts}
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(OSError, ValueError):
            wire = Wire(socket.create_connection((host, port), timeout=left))
            wire.send(hello)
            answer = wire.first(seconds + HELLO_SECONDS)  # process 0 may have begun to wait later
            if "names" in answer:
                return wire, answer["names"]
            if "refused" in answer:
                raise (RestartError if answer["code"] else UserError)(answer["refused"])
        time.sleep(RETRY_SECONDS)
    raise RestartError(
        f"process 0 did not answer at {host}:{port} within {seconds:g} s; see whether it runs, "
        "whether that is its address and whether the port is open (--start-timeout waits longer)"
    )


def _listen(port: int, seconds: float) -> socket.socket:
    end = time.monotonic() + seconds
    while True:
        try:
            if socket.has_dualstack_ipv6():
                return socket.create_server(
                    ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
                )
            return socket.create_server(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise UserError(
                    f"process 0 can not listen on port {port} ({error.strerror}); end what uses "
                    "it, or give every process another --coordinator HOST:PORT"
                ) from None
        time.sleep(RETRY_SECONDS)


def _greet(wire: Wire, arrived: dict[int, tuple[Wire, dict[str, Any]]], seconds: float) -> None:
    """Take in what a new connection says; what is no process of a run is sent away."""
    try:
        said = wire.first(seconds)
        process = int(said["process"])
        complete = {"host", "code", "packages", "config", "seen"} <= said["facts"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        wire.close()
        return
    if process == 0 or (process in arrived and not _is_closed(arrived[process][0])):
        process = -1 - len(arrived)  # twice the same number: kept, for _verdict
    arrived[process] = wire, said


def _is_closed(wire: Wire) -> bool:
    """Whether the other end has gone: it has nothing to say before it is answered."""
    wire.connection.settimeout(0)
    try:
        return not wire.connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _verdict(
    processes: int,
    known: Mapping[int, Mapping[str, Any]],
    arrived: Mapping[int, tuple[Wire, Mapping[str, Any]]],
    seconds: float,
) -> tuple[str, int]:
    """What is wrong, or nothing; and whether another start may help (1) or not (0)."""
    numbers = [0, *(said["process"] for _, said in arrived.values())]
    hosts = [known[0]["host"], *(said["facts"]["host"] for _, said in arrived.values())]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        same = some_of([host for n, host in zip(numbers, hosts) if n == twice[0]])
        return (
            f"two processes say that they are number {twice[0]} (on {same}); give each its own "
            f"--process, from 0 to {processes - 1}"
        ), 0
    for _, said in arrived.values():
        own, host = said["process"], said["facts"]["host"]
        if said["processes"] != processes or not 0 < own < processes:
            return (
                f"{name_of(own, host)} was started as one of {said['processes']} processes and "
                f"process 0 ({known[0]['host']}) as one of {processes}; give all the same "
                "--processes"
            ), 0
    if missing := [p for p in range(processes) if p not in known]:
        names = some_of([name_of(p, _place(p, processes)) for p in missing])
        here = some_of([name_of(p, known[p]["host"]) for p in sorted(known)])
        return (
            f"{names} did not come within {seconds:g} s; there are {here}; see why the others did "
            "not start, then start all again (--start-timeout waits longer)"
        ), 1
    named = [name_of(p, known[p]["host"]) for p in range(processes)]
    return difference([known[p] for p in range(processes)], named) or "", 0


def _place(process: int, processes: int) -> str:
    """Where a process that did not come should be, if this machine was told."""
    addresses = os.environ.get(ADDRESSES, "").split(",")
    return addresses[process] if len(addresses) == processes else ""
