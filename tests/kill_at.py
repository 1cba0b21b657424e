"""Run `dovetail …` and die by SIGKILL on entering a function, FUNCTION:N for the Nth time: `kill_at.py FUNCTION ARG…`.

With the environment variable VICTIM, a process id, it is that process that dies, once, and this one goes on.
"""

import itertools
import os
import signal
import sys

step, *arguments = sys.argv[1:]
step, _, nth = step.partition(":")
entered = itertools.count(1)


def die(frame, event, _):
    if event == "call" and frame.f_code.co_name == step and frame.f_code.co_filename.endswith(
        ("mlflow/tracking/client.py", "registration/register.py", "tracking/artifacts.py", "repo/git.py",
         "repo/tag_names.py", "objects/fs/utils.py", "batch/score_part.py",
         "batch/write_rows.py")
    ) and next(entered) == int(nth or 1):  # fmt: skip
        os.kill(int(os.environ.pop("VICTIM", os.getpid())), signal.SIGKILL)


from dovetail.cli import main  # noqa: E402

sys.setprofile(die)
main(arguments)
