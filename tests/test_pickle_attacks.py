"""Models that were crafted to do harm: each is refused by the name of what it reaches for, and none of it runs."""

import functools
import io
import json
import operator
import os
import pickle
import socket
import struct
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dovetail.joblib_model import NotAllowedError, UnreadableError, read
from dovetail.serving.engine import frames

X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)
FOREST = RandomForestClassifier(3, random_state=0).fit(X, Y)


class Call:
    """Pickled, it is a call of what has that name."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments

    def __reduce__(self):
        return Named(self.name), self.arguments


class Named:
    """Pickled, it is that name."""

    def __init__(self, name):
        self.name = name

    def __call__(self):
        raise AssertionError

    def __reduce__(self):
        return self.name


class _Pickler(pickle._Pickler):
    def save(self, thing, *args, **options):
        if isinstance(thing, Named):
            module, _, name = thing.name.rpartition(".")
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        elif isinstance(thing, Call):
            self.save(Named(thing.name))
            self.save(thing.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(thing, Made):
            self.save(Named(thing.name))
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            for state in thing.states:
                self.save(state)
                self.write(pickle.BUILD)
        else:
            super().save(thing, *args, **options)


class Made:
    """Pickled, it is an instance made by `__new__`, whose state is set, as often as there are states."""

    def __init__(self, name, *states):
        self.name, self.states = name, states


def crafted(thing):
    content = io.BytesIO()
    _Pickler(content, 3).dump(thing)
    return content.getvalue()


def raw(*operations):
    return b"".join(operations) + b"."


def name(full):
    module, _, last = full.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{last}\n".encode()


LOGISTIC = "sklearn.linear_model._logistic.LogisticRegression"
FUNCTION = "sklearn.preprocessing._function_transformer.FunctionTransformer"

ATTACKS = {
    # The four of the issue.
    "sklearn.utils.validation._check_response_method": Call(
        "sklearn.utils.validation._check_response_method", Call(LOGISTIC), "__globals__"
    ),
    "pandas.compat._optional.import_optional_dependency": Call("pandas.compat._optional.import_optional_dependency", "os"),
    "numpy._core.tests.test_multiarray.runstring": Call(
        "numpy._core.tests.test_multiarray.runstring", "import os; os.system('touch MARKER')", {}
    ),
    "numpy.savetxt": Call("numpy.savetxt", "MARKER", [1, 2]),
    # What runs, imports or gets anything.
    **{
        full: Call(full, "MARKER")
        for full in (
            "builtins.eval", "builtins.exec", "builtins.__import__", "builtins.open", "builtins.compile", "builtins.type",
            "builtins.vars", "builtins.setattr", "builtins.map", "builtins.input", "builtins.print", "builtins.super",
            "builtins.property", "builtins.classmethod", "builtins.memoryview", "os.system", "posix.system",
            "subprocess.Popen", "subprocess.check_output", "importlib.import_module", "runpy.run_path", "code.interact",
            "types.FunctionType", "types.CodeType", "marshal.loads", "pickle.loads", "_pickle.loads", "shelve.open",
            "joblib.load", "joblib.numpy_pickle.load", "joblib.numpy_pickle.NDArrayWrapper", "joblib.memory.Memory",
            "joblib.parallel.Parallel", "joblib.numpy_pickle_compat.load_compatibility", "socket.socket", "ctypes.CDLL",
            "operator.attrgetter", "operator.methodcaller", "operator.itemgetter", "functools.reduce",
            "functools.partialmethod", "_operator.call", "webbrowser.open", "timeit.timeit", "cProfile.run", "pdb.run",
            "multiprocessing.util.spawnv_passfds", "asyncio.unix_events._UnixSubprocessTransport", "logging.FileHandler",
            "shutil.rmtree", "pathlib.Path", "tempfile.mkdtemp", "zipfile.ZipFile", "urllib.request.urlopen",
            "site.addsitedir", "copyreg.add_extension", "copyreg.pickle", "weakref.finalize", "atexit.register",
            "threading.Thread", "cloudpickle.loads", "yaml.unsafe_load", "mlflow.pyfunc.load_model",
            "numpy.load", "numpy.matlib.load", "numpy.memmap.tofile", "numpy.fromfile", "numpy.save", "numpy.savez",
            "numpy.loadtxt", "numpy.genfromtxt", "numpy.vectorize", "numpy.frompyfunc", "numpy.apply_along_axis",
            "numpy.fromfunction", "numpy.piecewise", "numpy.lib.npyio.load", "numpy.lib.format.read_array",
            "numpy.lib.format.open_memmap", "numpy._core._ufunc_reconstruct", "numpy.core._ufunc_reconstruct",
            "numpy.ctypeslib.load_library", "numpy.f2py.compile", "numpy.testing.rundocs", "numpy.testing.measure",
            "numpy.distutils.exec_command.exec_command", "numpy.ma.core._fromnxfunction", "numpy.getbufsize",
            "numpy._core.records.fromfile", "numpy.rec.fromfile", "numpy._pytesttester.PytestTester",
            "scipy.io.loadmat", "scipy.io.savemat", "scipy.LowLevelCallable", "scipy.datasets.face", "scipy.optimize.minimize",
            "scipy.integrate.quad", "scipy._lib._ccallback.LowLevelCallable", "scipy.sparse.load_npz",
            "scipy.sparse.save_npz", "scipy.stats._distn_infrastructure.rv_continuous",
            "scipy.stats._distn_infrastructure.rv_continuous_frozen", "scipy._lib._util.getfullargspec_no_self",
            "pandas.read_pickle", "pandas.read_csv", "pandas.eval", "pandas.core.computation.eval.eval",
            "pandas.io.pickle.read_pickle", "pandas.io.common.get_handle", "pandas.io.clipboard.paste",
            "pandas.HDFStore", "pandas.ExcelWriter", "pandas.util._print_versions.show_versions",
            "pandas.core.computation.scope.Scope", "pandas.api.extensions.register_dataframe_accessor",
            "sklearn.datasets.load_svmlight_file", "sklearn.datasets._base._pkl_filepath", "sklearn.datasets.fetch_openml",
            "sklearn.datasets._base.urlretrieve", "sklearn.utils.fixes.parse_version", "sklearn.externals.conftest.pytest",
            "sklearn.utils._testing.assert_run_python_script_without_output", "sklearn.utils._joblib.Memory",
            "sklearn.utils.metaestimators.available_if", "sklearn.utils.parallel.delayed", "sklearn.utils.deprecation.deprecated",
            "sklearn.show_versions", "sklearn.conftest.raise_on_unraisable", "sklearn.metrics.pairwise_distances",
            "sklearn.utils._param_validation.validate_params", "sklearn.callback._scoring_monitor.ScoringMonitor",
            "skrub._data_ops._evaluation.evaluate", "skrub._data_ops._data_ops.CallMethod", "skrub._data_ops._estimator.SkrubLearner",
            "skrub._text_encoder.TextEncoder", "skrub._reporting._html.to_html", "skrub.datasets.fetch_employee_salaries",
            "skrub._utils.import_optional_dependency", "skrub._dispatch.dispatch", "skrub.deferred",
        )
    },
    # Names of the table, put to another use.
    f"{LOGISTIC}": Call(LOGISTIC, "l2"),
    "numpy.log1p": Call("numpy.log1p", 1.0),
    "sklearn.metrics._classification.f1_score": Call("sklearn.metrics._classification.f1_score", [1], [1]),
    "builtins.getattr": Call("builtins.getattr", Named("builtins.object"), "__subclasses__"),
    "pandas.DataFrame": Call("pandas.DataFrame", {"a": [1]}),
    "builtins.object": Call("copyreg.__newobj__", Named("builtins.object")),
    "builtins.int": Call("sklearn.neighbors._kd_tree.newObj", Named("builtins.int")),
    # Functions that a model would call when it predicts.
    "os.popen": Made(FUNCTION, {"func": Named("os.popen"), "kw_args": None}),
    "builtins.hasattr": Made(FUNCTION, {"func": Call("functools.partial", Named("builtins.hasattr"))}),
    "numpy.save ": make_pipeline(FunctionTransformer(np.save), FOREST),
    "numpy.save  ": FunctionTransformer(functools.partial(np.save, "MARKER")),
    "operator.attrgetter ": FunctionTransformer(operator.attrgetter("__class__")),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Importing from numpy.matlib is deprecated")
@pytest.mark.parametrize(("reached", "model"), ATTACKS.items(), ids=list(ATTACKS))
def test_what_a_crafted_model_reaches_for_is_refused_by_its_name(reached, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = crafted(model)
    nested = dumped(np.array([Bytes(plain)], dtype=object))
    for content in (plain, nested):
        with pytest.raises(NotAllowedError) as refused:
            read(content)
        assert refused.value.name.replace("numpy.lib._npyio_impl", "numpy") in (
            reached.strip(), reached.replace("numpy.core", "numpy._core")
        )  # fmt: skip
        assert f"pickle: {{allow: [{refused.value.name}]}}" in str(refused.value)
    assert not list(tmp_path.iterdir())


class Bytes:
    """An object whose pickle is these operations, to be found within another's."""

    def __init__(self, content):
        self.content = content


def dumped(value):
    """As joblib writes it; arrays of objects are pickles of their own within."""
    content = io.BytesIO()
    if not (isinstance(value, np.ndarray) and isinstance(value[0], Bytes)):
        joblib.dump(value, content)
        return content.getvalue()
    joblib.dump(np.array(["here"], dtype=object), content)
    inner = value[0].content.removeprefix(b"\x80\x03").removesuffix(b".")
    whole = content.getvalue()
    at = whole.rindex(b"\x8c\x04here")
    inside = whole[:at] + inner + whole[at + 6 :]
    frame = inside.rindex(b"\x95", 0, at)  # the frame's length no longer holds: without a frame it is not asked
    return inside[:frame] + inside[frame + 9 :]


STATES = {
    "the state of a class": raw(name(LOGISTIC), pickle.EMPTY_DICT, pickle.BUILD),
    "the state of a function": raw(name("numpy.log1p"), pickle.EMPTY_DICT, pickle.BUILD),
    "the state of what was only named": raw(name("pandas.NA"), pickle.EMPTY_DICT, pickle.BUILD),
    "__setstate__ of its own": crafted(Made(LOGISTIC, {"__setstate__": 1}, {"a": 1})),
    "an address to read from": crafted(Made(LOGISTIC, {"__array_interface__": {"data": (64, False)}})),
    "an address in a Bunch": raw(
        name("sklearn.utils._bunch.Bunch"), pickle.EMPTY_TUPLE, pickle.NEWOBJ,
        crafted("__array_struct__")[2:-1], pickle.NONE, pickle.SETITEM,
    ),
    "another class": crafted(Made(LOGISTIC, (None, {"__class__": Named(FUNCTION)}))),
    "a slot that is none": crafted(Made(LOGISTIC, (None, {"C": 1}))),
    "a method by its name": crafted(Made("sklearn.ensemble._stacking.StackingClassifier", {"stack_method_": ["to_pickle"]})),
    "arguments for __new__": raw(name(LOGISTIC), pickle.INT, b"1\n", pickle.TUPLE1, pickle.NEWOBJ),
    "keywords for __new__": raw(
        name(LOGISTIC), pickle.EMPTY_TUPLE, crafted({"a": 1})[2:-1], pickle.NEWOBJ_EX
    ),
    "INST": b"(ios\nsystem\n.",
    "OBJ": raw(pickle.MARK, name(LOGISTIC), pickle.OBJ),
    "EXT1": raw(pickle.EXT1, b"\x01"),
    "a persistent id": raw(pickle.PERSID, b"x\n"),
    "items of a table": raw(name("pandas.DataFrame"), pickle.EMPTY_TUPLE, pickle.NEWOBJ, pickle.NONE, pickle.NONE, pickle.SETITEM),
    "append to an array": raw(name("pandas.DataFrame"), pickle.EMPTY_TUPLE, pickle.NEWOBJ, pickle.NONE, pickle.APPEND),
    "base of another class": crafted(Call("copyreg._reconstructor", Named(LOGISTIC), Named("builtins.type"), None)),
    "getattr left lying": raw(name("builtins.getattr")),
    "a partial of an instance that is called": raw(
        name("functools.partial"), name("builtins.len"), pickle.TUPLE1, pickle.REDUCE, pickle.EMPTY_TUPLE, pickle.REDUCE
    ),
}  # fmt: skip


@pytest.mark.parametrize("content", STATES.values(), ids=list(STATES))
def test_names_of_the_table_are_bounded_in_what_is_done_with_them(content):
    with pytest.raises((NotAllowedError, UnreadableError)):
        read(content)


def with_dtype(code, flags, fields=None, names=None, size=-1):
    made = raw(name("numpy.dtype"), crafted((code, False, True))[2:-1], pickle.REDUCE)[:-1]
    return made + crafted((3, "|", None, names, fields, size, size, flags))[2:-1] + pickle.BUILD


@pytest.mark.parametrize(
    "content",
    [
        with_dtype("O8", 0) + b".",
        with_dtype("V8", 0, {"f": (np.dtype("O"), 0)}, ("f",), 8) + b".",
        with_dtype("V8", 0, {"f": (np.dtype("f8"), 800)}, ("f",), 8) + b".",
        with_dtype("f8", 0, None, None, 800) + b".",
    ],
    ids=["objects as bytes", "objects in fields as bytes", "a field beyond", "numbers that are longer"],
)
def test_a_dtype_by_which_bytes_would_be_taken_for_addresses_is_refused(content):
    with pytest.raises(UnreadableError):
        read(content)


def test_numpys_own_dtypes_keep_their_state():
    read(with_dtype("f8", 0) + b".")
    assert np.dtype("f8").itemsize == 8
    assert read(dumped(np.dtype("f8"))) is not None


def test_a_tree_that_points_beyond_itself_is_refused():
    tree = FOREST.estimators_[0].tree_
    for change in ({"left_child": 10**6}, {"feature": 10**6}, {"left_child": 0}):
        _, arguments, state = tree.__reduce__()
        nodes = state["nodes"].copy()
        for field, value in change.items():
            nodes[field][0] = value
        kind = "sklearn.tree._tree.Tree"
        content = raw(
            name(kind), crafted(arguments)[2:-1], pickle.REDUCE, crafted({**state, "nodes": nodes})[2:-1], pickle.BUILD
        )
        with pytest.raises(UnreadableError, match="points beyond itself"):
            read(content)


def test_a_package_allows_its_classes_and_never_its_functions(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import os\nfrom subprocess import Popen\nclass Model:\n    pass\ndef run(*a):\n    os.system('touch ran')\n"
    )
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another test has one of that name
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    model = crafted(Made("mine.Model", {"a": 1}))
    with pytest.raises(NotAllowedError, match=r"allow: \[mine\.Model\]"):
        read(model)
    assert read(model, ["mine"]).a == read(model, ["mine.Model"]).a == 1
    for content, refused in (
        (Call("mine.run"), "mine.run"), (Call("mine.Popen", "true"), "mine.Popen"), (Call("mine.Model"), "mine.Model"),
        (Named("mine.os"), "mine.os"), (Named("mine.run"), "mine.run"),
    ):  # fmt: skip
        with pytest.raises(NotAllowedError) as error:
            read(crafted(content), ["mine"])
        assert error.value.name == refused
    assert not (tmp_path / "ran").exists()


def test_while_a_model_is_read_no_thread_unpickles_freely_and_none_starts_a_program(tmp_path):
    code = f"""
import pickle, subprocess, threading, sys, os
sys.path.insert(0, {str(tmp_path)!r})
from dovetail.joblib_model import NotAllowedError, read
import mine
try:
    read(pickle.dumps(mine.Model()), ["mine"])
except NotAllowedError as error:
    print("read", error.name)
print(mine.heard)
assert not os.path.exists({str(tmp_path / "ran")!r})
subprocess.run(["true"], check=True)
"""
    (tmp_path / "mine.py").write_text(f"""
import pickle, subprocess, threading
heard = []
def evil():
    for work in (lambda: pickle.loads(b"cposix\\nsystem\\n."), lambda: subprocess.run(["touch", {str(tmp_path / "ran")!r}])):
        try:
            work()
        except Exception as error:
            heard.append(error.name)
class Model:
    def __getstate__(self):
        return {{"a": 1}}
    def __setstate__(self, state):
        thread = threading.Thread(target=evil)
        thread.start()
        thread.join()
        open({str(tmp_path / "ran")!r}, "w")
""")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.splitlines() == ["read open", "['posix.system', 'subprocess.Popen']"], done.stderr


def loaded_by_a_server(folder, content):
    """What the process that holds a server's model says when it is to load this."""
    import hashlib

    (folder / "data").mkdir(parents=True)
    (folder / "data/m.joblib").write_bytes(content)
    flavor = {"python_function": {"loader_module": "joblib_model", "data": "data/m.joblib"}}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavor}))
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "dovetail.serving.engine.model_process", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    theirs.close()
    with ours:
        md5 = hashlib.md5(content).hexdigest()
        ours.sendall(frames.request(("load", str(folder), md5, (), None)))
        (length,) = struct.unpack("!I", ours.recv(4, socket.MSG_WAITALL))
        ((well, said),) = frames.parts(ours.recv(length, socket.MSG_WAITALL))
    process.wait(60)
    return well, json.loads(said)


@pytest.mark.slow
def test_a_server_refuses_it_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reached = "pandas.compat._optional.import_optional_dependency"
    well, said = loaded_by_a_server(tmp_path / "evil", crafted(ATTACKS[reached]))
    assert (well, reached in said["message"]) == (False, True)
    assert loaded_by_a_server(tmp_path / "good", dumped(FOREST))[0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["evil", "good"]


@pytest.mark.slow
def test_a_gate_refuses_it_by_name(tmp_path):
    from dovetail.promotion.trial import PackageTrial, start

    for reached in ("numpy.savetxt", "sklearn.utils.validation._check_response_method"):
        file = tmp_path / "m.joblib"
        file.write_bytes(crafted(ATTACKS[reached]))
        found = start(PackageTrial(f"sqlite:///{tmp_path}/none.db", "models:/m/1", str(file), ())).result()
        assert found.refused == reached


@pytest.mark.slow
def test_of_all_that_the_packages_hold_nothing_outside_of_the_table_is_found():
    """Every public and private function, and every other value, of the allowed packages, asked for by its name."""
    code = """
import importlib, pkgutil, sys, types, warnings, io, contextlib
warnings.simplefilter("ignore")
from dovetail.joblib_model import Names, NotAllowedError, UnreadableError, table, _peek
from sklearn.base import BaseEstimator
known = {id(thing): name for name in table() if (thing := _peek(name)) is not None}
asked = found = 0
for package in ("numpy", "scipy", "pandas", "sklearn", "skrub"):
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, package + ".", onerror=lambda _: None):
        if info.name not in sys.modules and {"tests", "conftest", "testing", "f2py", "__main__"} & set(info.name.split(".")):
            continue
        try:
            module = importlib.import_module(info.name)
        except BaseException:
            continue
        for name, value in list(vars(module).items()):
            if not isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)) and not callable(value):
                continue
            asked += 1
            try:
                got = Names().find(info.name, name)
            except (NotAllowedError, UnreadableError):
                continue
            found += 1
            kind = isinstance(got, type) and issubclass(got, BaseEstimator) and got.__module__.startswith(("sklearn.", "skrub."))
            if not kind and id(got) not in known:
                print("outside:", info.name, name)
print(asked, found)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=280, check=True
    )
    *outside, counts = done.stdout.splitlines()
    assert not [line for line in outside if line.startswith("outside")]
    assert int(counts.split()[0]) > 10_000


FUZZ = """
import os, pickle, random, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from dovetail.joblib_model import NotAllowedError, UnreadableError, read
content, seed = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
words = [b"os", b"posix", b"system", b"builtins", b"eval", b"getattr", b"__globals__", b"numpy", b"load", b"R", b"b", b"\\x81", b"\\x93", b"c"]
bad = []
sys.addaudithook(lambda event, arguments: bad.append(event) if event.startswith(("socket.connect", "os.system", "subprocess", "os.fork", "os.remove", "os.exec")) else None)
before = set(os.listdir("."))
chance = random.Random(seed)
for _ in range(int(sys.argv[3])):
    changed = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(min(len(changed), 6000))
        how = chance.random()
        if how < 0.5:
            changed[at] = chance.randrange(256)
        elif how < 0.75:
            word = chance.choice(words)
            changed[at : at + chance.choice((0, len(word)))] = word
        else:
            end = min(len(changed), at + chance.randint(1, 40))
            changed[at:end] = changed[end : end + chance.randint(0, 40)]
    try:
        read(bytes(changed))
    except (NotAllowedError, UnreadableError, MemoryError):
        pass
assert not bad, bad
assert set(os.listdir(".")) == before
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_model_with_bytes_changed_is_read_or_refused_and_does_nothing_else(tmp_path, seed):
    models = [
        FOREST, make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()).fit(np.abs(X), Y),
        pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}),
        StackingClassifier([("a", LogisticRegression())]).fit(X, Y),
    ]  # fmt: skip
    file = tmp_path / "model"
    file.write_bytes(dumped(models[seed]) if seed % 2 else pickle.dumps(models[seed], 4))
    (here := tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(file), str(seed), "1500"], cwd=here, capture_output=True, text=True, timeout=200,
        check=False, preexec_fn=lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_AS, (4 << 30, 4 << 30)),
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr[-2000:]
