"""Run one stage: `python src/stages STAGE KEY --NAME PATH …`, as dvc.yaml does.

The folder is run by path so that a stage always runs the code of the tree it stands in: in a temporary experiment or
a worktree that is not the tree that an installed package would name.
"""

import argparse
import gc
import importlib
import inspect
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # `import stages` finds the folder that this file is in

from stages.common import reproducible  # noqa: E402  (only importable after the line above)
from stages.common.errors import StageError  # noqa: E402
from stages.common.params import PARAMS_FILE, load_params  # noqa: E402

STAGES = ("ingest", "fetch", "clean", "deliver", "split", "train", "evaluate")


def main(argv: list[str] | None = None) -> int:
    """Run the stage named first; the options are the keyword parameters of its `run`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python src/stages", description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("key", help="the block in params.yaml")
    asked = parser.parse_args((argv or sys.argv[1:])[:2])
    try:
        params = load_params(Path(PARAMS_FILE))
        if params.reproducible:
            reproducible.fix()
        run = importlib.import_module(f"stages.{asked.stage}").run
        options = [p for p in inspect.signature(run).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for option in options:
            parser.add_argument(f"--{option.name}", type=Path, required=option.default is option.empty)
        args = parser.parse_args(argv)
        run(args.key, params, **{option.name: getattr(args, option.name) for option in options})
    except StageError as error:
        print(f"{asked.stage}@{asked.key}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main()
    gc.freeze()  # the process ends: to search for garbage once more would take a quarter of its time
    sys.exit(code)
