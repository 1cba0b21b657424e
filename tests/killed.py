"""Run `dovetail …` and die by SIGKILL on entering the named function: `python killed.py FUNCTION ARGUMENT…`."""

import os
import signal
import sys

step, *arguments = sys.argv[1:]


def die(frame, event, _):
    if event == "call" and frame.f_code.co_name == step and frame.f_code.co_filename.endswith(
        ("tracking/client.py", "register.py")
    ):  # fmt: skip
        os.kill(os.getpid(), signal.SIGKILL)


from dovetail.cli import main  # noqa: E402

sys.setprofile(die)
main(arguments)
