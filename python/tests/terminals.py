"""Programs in a pseudo-terminal."""

import fcntl
import itertools
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

PATIENCE = 60
"""Seconds."""
REDRAW = 0.3
"""Seconds in which a screen is drawn as a rule; otherwise the next look sees it."""


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, command, directory=None, size=(24, 90), stdout=None, **environment):
        self.outer, inner = pty.openpty()
        self.size = size
        self.resize(*size)
        self.before = termios.tcgetattr(inner)
        self.inner = inner
        self.program = subprocess.Popen(
            command, cwd=directory, stdin=inner, stdout=stdout or inner, stderr=inner,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=os.environ | {"TERM": "xterm-256color"} | environment,
        )  # fmt: skip
        self.said = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.outer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        """Takes what is there within a time."""
        ready, _, _ = select.select([self.outer], [], [], seconds)
        if ready:
            self.said += os.read(self.outer, 1 << 16).decode(errors="replace")

    def until(self, part):
        """Waits for a text without the codes in it; gives what was said since the last wait."""
        ends = time.monotonic() + PATIENCE
        while part not in plain(self.said):
            assert time.monotonic() < ends, f"no {part!r} in {plain(self.said)!r}"
            self.read(0.1)
        said, self.said = self.said, ""
        return said

    def shows(self, part):
        """Waits for a text on the screen, which is drawn anew at each look; gives the screen."""
        ends = time.monotonic() + PATIENCE
        rows, columns = self.size
        for wider in itertools.cycle((1, 0)):
            self.said = ""
            self.resize(rows, columns + wider)
            drawn = time.monotonic() + REDRAW
            while time.monotonic() < drawn:
                self.read(0.05)
            if part in plain(self.said):
                return self.said
            assert time.monotonic() < ends, f"no {part!r} in {plain(self.said)!r}"

    def press(self, keys):
        os.write(self.outer, keys.encode())

    def end(self):
        """Waits for the end; gives its code."""
        ends = time.monotonic() + PATIENCE
        while self.program.poll() is None:
            assert time.monotonic() < ends, "it does not end"
            self.read(0.1)
        while select.select([self.outer], [], [], 0)[0]:
            self.read(0)
        return self.program.returncode

    def is_restored(self):
        """Whether lines and echo are as before."""
        return termios.tcgetattr(self.inner) == self.before

    def close(self):
        if self.program.poll() is None:
            self.program.kill()
            self.program.wait()
        os.close(self.outer)
        os.close(self.inner)


def plain(said):
    """Without codes; what a cursor jumps over is a blank."""
    said = re.sub(r"\x1b\[\d+;\d+H", " ", said)
    return re.sub(r" +", " ", re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|\([A-Z])", "", said))
