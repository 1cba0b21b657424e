"""DVC's DAG on several processes or machines: what `dvc repro` makes, sooner."""
