"""The command line on a terminal of its own, as people see it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_in_terminal(*arguments: str, columns: int = 160) -> str:
    """Run `routellm-fast` with standard output on a terminal. Return what it shows, without colours."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "routellm_fast", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.PIPE,
        env={**environment, "TERM": "xterm"},
    )
    os.close(follower)
    shown = b""
    # Where the last writer has closed a terminal, Linux reports an error instead of the end.
    with contextlib.suppress(OSError):
        while part := os.read(leader, 1 << 16):
            shown += part
    os.close(leader)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    return _ESCAPES.sub("", shown.decode()).replace("\r\n", "\n")
