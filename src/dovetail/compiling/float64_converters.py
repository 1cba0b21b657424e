"""What skl2onnx converts to float32 alone, in float64 as scikit-learn computes: trees, forests, imputers.

Of a forest it makes float32 sums, of rows that were not rounded to float32 as scikit-learn rounds them: another branch
here and there. https://github.com/onnx/sklearn-onnx/issues/1074
The operator TreeEnsemble of ai.onnx.ml 5 computes in float64: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

import math
from copy import copy
from typing import Any

TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
_ML = "ai.onnx.ml"
_TREE_ENSEMBLE = 5  # the release of the domain that has it; skl2onnx writes three at most


def teach() -> None:
    """Let skl2onnx, in this process, convert them so."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.data_types import DoubleTensorType
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )
    from sklearn import ensemble, impute, tree

    classifiers = (ensemble.RandomForestClassifier, ensemble.ExtraTreesClassifier, tree.DecisionTreeClassifier)
    regressors = (ensemble.RandomForestRegressor, ensemble.ExtraTreesRegressor, tree.DecisionTreeRegressor)
    options = {"zipmap": [True, False], "nocl": [True, False], "output_class_labels": [False, True]}

    def scores_in_doubles(operator: Any) -> None:
        calculate_linear_classifier_output_shapes(operator)
        operator.outputs[1].type = DoubleTensorType(operator.outputs[1].type.shape)

    for kind in classifiers:
        update_registered_converter(kind, f"Dovetail{kind.__name__}", scores_in_doubles, _classifier, options=options)
    for kind in regressors:
        update_registered_converter(
            kind, f"Dovetail{kind.__name__}", calculate_linear_regressor_output_shapes, _regressor
        )
    update_registered_converter(impute.SimpleImputer, "DovetailSimpleImputer", _as_it_comes, _imputer)


def finish(made: Any) -> None:
    """Let the converted model name the release of the operators that it has."""
    if any(node.op_type == "TreeEnsemble" for node in made.graph.node):
        for domain in made.opset_import:
            if domain.domain == _ML:
                domain.version = _TREE_ENSEMBLE


def _as_it_comes(operator: Any) -> None:
    operator.outputs[0].type = copy(operator.inputs[0].type)


def _imputer(scope: Any, operator: Any, container: Any) -> None:
    """Nothing to do: rows that lack a value are scikit-learn's to answer."""
    del scope
    model = operator.raw_operator
    of_nan = isinstance(model.missing_values, float) and math.isnan(model.missing_values)
    if not of_nan or model.add_indicator or len(operator.inputs) != 1:
        raise NotImplementedError("an imputer of other values than NaN, or with an indicator")
    container.add_node("Identity", [operator.inputs[0].full_name], [operator.outputs[0].full_name], op_version=13)


def _classifier(scope: Any, operator: Any, container: Any) -> None:
    import numpy as np
    from onnx import TensorProto

    model = operator.raw_operator
    if model.n_outputs_ != 1:
        raise NotImplementedError("a forest of several targets")
    scores = operator.outputs[1].full_name
    _ensemble(scope, operator, container, scores, len(model.classes_))
    classes, best, picked = (scope.get_unique_variable_name(name) for name in ("classes", "best", "picked"))
    is_number = np.issubdtype(model.classes_.dtype, np.integer)
    kind = TensorProto.INT64 if is_number else TensorProto.STRING
    values = model.classes_ if is_number else [str(label).encode() for label in model.classes_]
    container.add_initializer(classes, kind, [len(model.classes_)], values)
    container.add_node("ArgMax", [scores], [best], op_version=13, axis=1, keepdims=0)
    container.add_node("ArrayFeatureExtractor", [classes, best], [picked], op_domain=_ML)
    shape = scope.get_unique_variable_name("shape")
    container.add_initializer(shape, TensorProto.INT64, [1], [-1])
    container.add_node("Reshape", [picked, shape], [operator.outputs[0].full_name], op_version=13)


def _regressor(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    if model.n_outputs_ != 1:
        raise NotImplementedError("a forest of several targets")
    _ensemble(scope, operator, container, operator.outputs[0].full_name, 1)


def _ensemble(scope: Any, operator: Any, container: Any, output: str, targets: int) -> None:
    """The node whose output is the mean of the trees' values: shape (rows, targets)."""
    from onnx import TensorProto

    if len(operator.inputs) != 1:
        raise NotImplementedError("a forest that takes several inputs")
    rounded, rows = (scope.get_unique_variable_name(name) for name in ("rounded", "rows"))
    container.add_node("Cast", [operator.inputs[0].full_name], [rounded], op_version=13, to=TensorProto.FLOAT)
    container.add_node("Cast", [rounded], [rows], op_version=13, to=TensorProto.DOUBLE)
    model = operator.raw_operator
    trees = [part.tree_ for part in getattr(model, "estimators_", [model])]
    total, number = (scope.get_unique_variable_name(name) for name in ("total", "number"))
    container.add_node("TreeEnsemble", [rows], [total], op_domain=_ML, op_version=3, **_attributes(trees, targets))
    container.add_initializer(number, TensorProto.DOUBLE, [1], [float(len(trees))])
    container.add_node("Div", [total, number], [output], op_version=14)  # last, as in scikit-learn: the same bits


def _attributes(trees: list[Any], targets: int) -> dict[str, Any]:
    """A leaf gives one number, so a tree of several classes stands there once for each."""
    import numpy as np
    from onnx import numpy_helper

    names = ("nodes_featureids", "nodes_truenodeids", "nodes_trueleafs", "nodes_falsenodeids", "nodes_falseleafs",
             "tree_roots", "leaf_targetids")  # fmt: skip
    lists: dict[str, list[int]] = {name: [] for name in names}
    splits: list[float] = []
    weights: list[float] = []
    for tree, target in ((tree, target) for tree in trees for target in range(targets)):
        lists["tree_roots"].append(len(splits))
        left, right = tree.children_left.tolist(), tree.children_right.tolist()
        leaves = [node for node, child in enumerate(left) if child < 0]
        inner = [node for node, child in enumerate(left) if child >= 0]
        place = {node: len(splits) + number for number, node in enumerate(inner)}
        place |= {node: len(weights) + number for number, node in enumerate(leaves)}
        for node in inner or [0]:  # a tree that is one leaf: a node both of whose branches lead there
            lists["nodes_featureids"].append(max(int(tree.feature[node]), 0))
            splits.append(float(tree.threshold[node]))
            for child, side in ((left[node], "true"), (right[node], "false")):
                then = max(child, 0)
                lists[f"nodes_{side}nodeids"].append(place[then])
                lists[f"nodes_{side}leafs"].append(int(left[then] < 0))
        weights += [float(tree.value[leaf, 0, target]) for leaf in leaves]
        lists["leaf_targetids"] += [target] * len(leaves)
    return {
        **lists,
        "nodes_splits": numpy_helper.from_array(np.array(splits)),
        "nodes_modes": numpy_helper.from_array(np.zeros(len(splits), dtype="uint8")),  # value <= threshold: true
        "leaf_weights": numpy_helper.from_array(np.array(weights)),
        "n_targets": targets,
        "aggregate_function": 1,  # the sum
        "post_transform": 0,
    }
