"""The command line with the scripted model, as a process: ``agent_child.py ARGUMENTS``."""

import fcntl
import os
import sys
import termios
from unittest import mock

import agent_fakes

import experiments.run

if __name__ == "__main__":
    if os.isatty(0):  # so that Ctrl-C in this terminal is for this process
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    with mock.patch("lilith.interop.load_checkpoint", agent_fakes.load, create=True):
        sys.exit(experiments.run.main(["--config", "agent_smollm2", *sys.argv[1:]]))
