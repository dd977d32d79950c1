#!/usr/bin/env python3
"""Runs a command for as long as somebody holds our standard input.

    python hold.py LOG COMMAND ARGUMENT...

A line `kill` ends the command and all it started at once (SIGKILL), as a machine that is lost would. The end of the
input, which is what comes of whoever held it in whatever way he ended, lets it end by itself first (SIGTERM). The
command's output goes to LOG. Ends as the command does.
"""

import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 15


def main() -> int:
    # Ctrl-C is the business of whoever holds us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(sys.argv[1], "ab") as log:
        child = subprocess.Popen(
            sys.argv[2:], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def tell(signal_number: int) -> None:
        # The group lives as long as any of its processes; engines leave some behind when their server dies.
        try:
            os.killpg(child.pid, signal_number)
        except ProcessLookupError:
            pass

    def hold() -> None:
        line = sys.stdin.readline()
        if line.strip() != "kill":
            tell(signal.SIGTERM)
            try:
                child.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        tell(signal.SIGKILL)

    threading.Thread(target=hold, daemon=True).start()
    code = child.wait()
    tell(signal.SIGKILL)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
