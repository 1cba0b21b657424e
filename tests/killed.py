"""Run `dovetail …` and die by SIGKILL on entering the named function: `python killed.py FUNCTION ARGUMENT…`.

With the environment variable VICTIM, a process id, it is that process that dies, once, and this one goes on.
"""

import os
import signal
import sys

step, *arguments = sys.argv[1:]


def die(frame, event, _):
    if event == "call" and frame.f_code.co_name == step and frame.f_code.co_filename.endswith(
        ("tracking/client.py", "dovetail/register.py", "dovetail/git.py", "dovetail/ledger.py")
    ):  # fmt: skip
        os.kill(int(os.environ.pop("VICTIM", os.getpid())), signal.SIGKILL)


from dovetail.cli import main  # noqa: E402

sys.setprofile(die)
main(arguments)
