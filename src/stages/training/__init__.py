"""How a model of a block is made and scored: estimators, what is put before them, labels, folds, metrics, search."""
