"""Two examples for each command, as its help shows them."""

_EXAMPLES = {
    "": (("dovetail status", "where do git, DVC and MLflow stand?"), ("dovetail promote iris", "is it good enough?")),
    "list": (("dovetail list", "all models"), ("dovetail list iris", "its versions, with their metrics")),
    "show": (("dovetail show iris", "what is in production, else in staging"), ("dovetail show iris/3", "a version")),
    "status": (("dovetail status", "all models"), ("dovetail status iris --json", "one, for a script")),
    "lineage": (
        ("dovetail lineage iris@production", "what made it"),
        ("dovetail lineage data/raw/iris.csv --scored scored", "what was made of it, and which rows that scored"),
    ),
    "diff": (
        ("dovetail diff iris", "production and the workspace"),
        ("dovetail diff main HEAD --markdown", "each model, for a pull request"),
    ),
    "history": (
        ("dovetail history iris", "all promotions"),
        ("dovetail history iris --alias production --at 2026-05-31", "what was in production on that day"),
    ),
    "report": (
        ("dovetail report iris", "production on one page, build/report.html"),
        ("dovetail report --html models.html", "each model"),
    ),
    "ui": (("dovetail ui iris", "MLflow's page of the model"), ("dovetail ui --no-browser --port 5001", "all models")),
    "init": (("dovetail init", "what is missing here?"), ("dovetail init iris --path out/m.joblib --yes", "write it")),
    "new": (
        ("dovetail new shop --data orders.csv --target price", "a project of its own"),
        ("dovetail new shop --data orders.parquet --target price --name orders", "with another name for the model"),
    ),
    "register": (("dovetail register", "all models of dvc.yaml"), ("dovetail register iris", "one of them")),
    "promote": (
        ("dovetail promote iris --dry-run", "what would its gates say?"),
        ("dovetail promote iris --version 3 --reason 'asked for by sales'", "let production name it"),
    ),
    "rollback": (
        ("dovetail rollback iris", "what production named before"),
        ("dovetail rollback iris --to staging --reason 'too slow'", "likewise"),
    ),
    "write-off": (
        ("dovetail write-off iris --reason 'the disk died'", "production's bytes are lost"),
        ("dovetail write-off iris v1.2 --reason 'never pushed'", "those of a tag"),
    ),
    "sync": (("dovetail sync", "what HEAD's history says"), ("dovetail sync --all --repair", "all of it")),
    "doctor": (("dovetail doctor", "what is broken or risky?"), ("dovetail doctor --trace train", "what does it use?")),
    "gc": (("dovetail gc", "what is needed by nothing?"), ("dovetail gc --cloud --force", "delete it")),
    "add-data": (
        ("dovetail add-data pets --data pets.csv", "what would be written?"),
        ("dovetail add-data pets --data pets.csv --target legs --yes", "write it; rows need a number of legs"),
    ),
    "add-model": (
        ("dovetail add-model forest --data pets --target legs", "what would be written?"),
        ("dovetail add-model forest --data pets --target legs --yes", "write it"),
    ),
    "demo": (
        ("dovetail demo", "the tour in two minutes, with commentary"),
        ("dovetail demo --into ../wine", "keep its project there"),
    ),
    "repro": (
        ("dovetail repro", "as dvc repro does, stages side by side"),
        ("dovetail repro train --workers 4 --dry", "what would run?"),
        ("dovetail repro --experiments", "what dvc exp run --queue has queued"),
    ),
    "reproduce": (
        ("dovetail reproduce iris@production", "the same bytes once more?"),
        ("dovetail reproduce v1.2:iris --fresh-env --workers 2", "with the packages of then, two stages at a time"),
    ),
    "serve": (
        ("dovetail serve iris", "follow production"),
        ("dovetail serve iris penguins --workers 2", "two models on one port, each with two processes"),
        ("dovetail serve iris@staging --port 8081", "follow staging on another port"),
        ("dovetail serve iris --workers 2 --takeover", "replace the server that runs, without a gap"),
    ),
    "predict": (
        ("dovetail predict iris --data incoming --out scored", "tonight's rows, by production"),
        ("dovetail predict iris/3 --data rows.csv --out scored --columns id --proba", "a version, a file, one key"),
    ),
    "monitor": (
        ("dovetail monitor iris", "the last seven days"),
        ("dovetail monitor iris --since 12h --html drift.html", "with a page"),
    ),
    "retrain": (
        ("dovetail retrain iris --with feedback", "what was served and labelled"),
        ("dovetail retrain iris --with new.csv --dry-run", "would the rows fit?"),
    ),
}  # fmt: skip


def examples(command: str) -> str:
    """The examples of a command as click's epilog; click is told not to wrap them."""
    lines = [line for typed, meaning in _EXAMPLES[command] for line in (f"  {typed}", f"      {meaning}")]
    return "\n".join(["\b", "Examples:", *lines])
