"""Processes that tests start."""

import signal
import subprocess


def popen(command, **options):
    """
    Start a process that hears Ctrl-C.

    A shell starts background jobs with SIGINT ignored; what they start inherits that, and Python
    then leaves it so: a suite that runs in the background could interrupt none of its processes.
    """
    return subprocess.Popen(
        command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)
