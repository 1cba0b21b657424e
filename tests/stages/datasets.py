"""Params with one dataset, its cleaning script, and its stages as functions and as processes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import commands
import polars as pl
import yaml

from stages import clean
from stages.common.params import Params

ROOT = Path(__file__).resolve().parents[2]
KEEP = "return frame"
INT, TEXT, FLOAT = {"dtype": "int64"}, {"dtype": "str"}, {"dtype": "float64"}
AGE = {"age": {"dtype": "int64", "checks": {"in_range": {"min_value": 0, "max_value": 130}}}}


def config(columns=None, deliver=(), outside=None, raw="raw.csv", schema=(), **cleaning):
    """Content of params.yaml: one dataset `d`, and the source `s` if one is given."""
    dataset = {
        "raw": raw,
        "schema": {"columns": columns or {"x": {"dtype": "int64"}}, **dict(schema)},
        "clean": {"max_rejected": 1.0, **cleaning},
        "deliver": list(deliver),
    }
    sources = {"files": {}, "outside": {"s": outside} if outside else {}}
    return {"sources": sources, "datasets": {"d": dataset}, "models": {}}


def params(*args, **kwargs):
    return Params.model_validate(config(*args, **kwargs))


@dataclass
class Cleaned:
    """What one cleaning wrote."""

    folder: Path
    script: str = KEEP
    paths: dict = field(init=False)

    def __post_init__(self):
        names = {"clean": "clean.parquet", "rejected": "rejected.parquet", "metrics": "metrics.json"}
        self.paths = {option: self.folder / "out" / name for option, name in names.items()}

    def run(self, raw, content, columns, **kwargs):
        """Write `content` to the file `raw` and clean it in this process."""
        raw = self.folder / raw
        if isinstance(content, pl.DataFrame):
            content.write_parquet(raw)
        else:
            raw.write_text(content)
        clean.run("d", params(columns, **kwargs), raw=raw, **self.paths)
        return self

    @property
    def rows(self):
        return pl.read_parquet(self.paths["clean"])

    @property
    def rejected(self):
        return pl.read_parquet(self.paths["rejected"])

    @property
    def metrics(self):
        return json.loads(self.paths["metrics"].read_text())

    @property
    def written(self):
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file() and path.parent.name == "out")


def tree(folder, content, script=KEEP):
    """A project in `folder`: a copy of the stages, params.yaml and a cleaning script."""
    shutil.copytree(ROOT / "src" / "stages", folder / "src" / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "src" / "stages" / "cleaning" / "d.py").write_text(cleaning_script(script))
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    return folder


def cleaning_script(body):
    return f"import narwhals as nw\n\n\ndef clean(frame):\n    {body}\n"


def stage(folder, *args, **env):
    """`python src/stages …` in `folder`."""
    env = {**os.environ, "PATH": commands.path(), **env}
    command = ["python", "src/stages", *map(str, args)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)


def started(folder, *args, **env):
    """The same, while it runs."""
    return subprocess.Popen([sys.executable, "src/stages", *map(str, args)], cwd=folder, env={**os.environ, **env})


def left_behind(folder):
    """Temporary files that somebody forgot."""
    return [path for path in folder.rglob(".*") if path.name.endswith(".tmp")]
