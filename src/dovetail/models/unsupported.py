"""Files that are models, or look like it, and that cannot be registered as they are: what they are, and what to do."""

import bz2
import codecs
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from dovetail import native_model

# What the files below are usually called; a file is told by its content.
SUFFIXES = (".keras", ".h5", ".hdf5", ".pt", ".pth", ".pt2", ".safetensors", ".tflite", ".gguf", ".pmml")
_HEAD = 4096  # bytes
_SHOWN = 40  # characters of a text


@dataclass(frozen=True, slots=True)
class Unsupported:
    """What a file is, and how its owner gets to a file that can be registered."""

    what: str
    next_command: str


_BY_MLFLOW = "or, for machines that trust its loader, a folder: mlflow.{}.save_model(model, PATH)"
_TORCH = (
    "let the stage write ONNX: torch.onnx.export, or, for machines that trust mlflow.pytorch, the whole: "
    "torch.export.save(torch.export.export(model, example), PATH)"
)
_KERAS = (
    "let the stage write ONNX: model.export('m.onnx', format='onnx'), or, for machines that trust mlflow.keras, "
    "the whole: model.save('m.keras')"
)
_TRANSFORMERS = "let the stage write ONNX: optimum-cli export onnx, " + _BY_MLFLOW.format("transformers")
_H2O = "let the stage write an estimator that Dovetail reads, " + _BY_MLFLOW.format("h2o")
_ONE_FILE = "put the model's own file there, not an archive of it"
ESTIMATOR = "write an estimator that has predict there, by joblib.dump, pickle.dump or skops.io.dump"

_ARCHIVE, _TAR = Unsupported("it is an archive", _ONE_FILE), 257  # where a tar file says so

# By how the file begins: offset, bytes.
_BEGINNINGS: tuple[tuple[int, bytes, Unsupported], ...] = (
    (0, b"\x89HDF\r\n", Unsupported("it is an HDF5 file without a Keras model: weights, or data", _KERAS)),
    (0, b"GGUF", Unsupported("it is a GGUF file", "serve it by llama.cpp; MLflow has no flavor for it")),
    (4, b"TFL3", Unsupported("it is a TensorFlow Lite model", "register the model that it was converted from")),
    (
        0,
        b"binf",
        Unsupported("it is XGBoost's old binary format", "save it by this version: model.save_model('m.ubj')"),
    ),
    (0, b"PAR1", Unsupported("it is a Parquet table", ESTIMATOR)),
    (0, b"ARROW1", Unsupported("it is an Arrow table", ESTIMATOR)),
    (0, b"\x93NUMPY", Unsupported("it is a NumPy array", ESTIMATOR)),
    (0, b"SQLite format 3", Unsupported("it is an SQLite database", ESTIMATOR)),
    (0, b"7z\xbc\xaf", _ARCHIVE),
    (_TAR, b"ustar", _ARCHIVE),
    (0, b"\x28\xb5\x2f\xfd", Unsupported("it is packed by zstd", "unpack it")),
    (0, b"version https://git-lfs", Unsupported("it is the pointer of Git LFS, not the file", "git lfs pull")),
    (0, b"#!", Unsupported("it is a script", ESTIMATOR)),
    *((0, begins, Unsupported("it is an image", ESTIMATOR)) for begins in (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")),
    (0, b"%PDF", Unsupported("it is a PDF", ESTIMATOR)),
)
_WINDOWS = Unsupported(
    "it is a model of lightgbm with the line ends of Windows, which LightGBM cannot read",
    "write it anew by booster.save_model, and let git and editors leave it as it is",
)
_LIGHTGBM_JSON = Unsupported("it is LightGBM's dump_model, which cannot be read back", "booster.save_model('m.txt')")
_CATBOOST_JSON = Unsupported("it is a CatBoost model in JSON", "save it as model.save_model('m.cbm')")


# Of a folder, by the end of the name of one of its files; the first that fits.
_FOLDERS: tuple[tuple[str, Unsupported], ...] = (
    ("saved_model.pb", Unsupported("a SavedModel of TensorFlow", _KERAS)),
    (".safetensors", Unsupported("a Hugging Face model: weights and their configuration", _TRANSFORMERS)),
    ("pytorch_model.bin", Unsupported("a Hugging Face model: weights and their configuration", _TRANSFORMERS)),
    ("model_index.json", Unsupported("a Hugging Face model: weights and their configuration", _TRANSFORMERS)),
)


def unsupported_folder(names: Iterable[str]) -> Unsupported | None:
    """What a folder with files of these names is, if it is of a kind that is known and cannot be registered."""
    known = list(names)
    return next((what for end, what in _FOLDERS if any(name.endswith(end) for name in known)), None)


def unsupported(content: bytes) -> Unsupported | None:
    """What the file is, if it is of a kind that is known and cannot be registered."""
    if what := _by_beginning(content):
        return what
    if content.startswith(b"PK\x03\x04"):
        return _zip(content)
    if content.startswith(b"\x08\x01\x12"):
        return Unsupported("it is TensorFlow's saved_model.pb, or a model of Core ML", _KERAS)
    if content.startswith(b"tree\r\n"):
        return _WINDOWS
    if re.match(rb".{6}\0\0\{\s*\"", content[:64], re.DOTALL):
        return Unsupported("it is a safetensors file: weights without their model", _TRANSFORMERS)
    return _text(content[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n"))


# Of a zip file by one of its names, below its first folder or not; the first that fits.
_MEMBERS: tuple[tuple[str, Unsupported], ...] = (
    ("data.pkl", Unsupported("it is a PyTorch file of weights, without the class of their model", _TORCH)),
    ("model.ini", Unsupported("it is a MOJO of H2O", _H2O)),
)


def broken(content: bytes, error: BaseException | None) -> Unsupported | None:
    """What the file is in which pickle met `error`; None where pickle's own word says it best."""
    if error is None or isinstance(error, ModuleNotFoundError):
        return None
    if begins := _first_line(content[:_HEAD]):
        return Unsupported(f"it is a text file, which begins {begins!r}", ESTIMATOR)
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], int):  # an operation that is none
        return Unsupported("it is neither a pickle nor a file of another kind that is known here", ESTIMATOR)
    return None


def _first_line(head: bytes) -> str:
    """The first line of a text, cut; empty where it is none."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head).removeprefix("\ufeff")
    except UnicodeDecodeError:
        return ""
    printable = all(sign.isprintable() or sign in "\t\r\n\f" for sign in text)
    return next((line.strip()[:_SHOWN] for line in text.splitlines() if line.strip()), "") if printable else ""


def _by_beginning(content: bytes) -> Unsupported | None:
    if not content:
        return Unsupported("it is empty", ESTIMATOR)
    begins = (what for at, beginning, what in _BEGINNINGS if content[at : at + len(beginning)] == beginning)
    return next(begins, None) or _packed(_unpacked(content))


def _packed(head: bytes) -> Unsupported | None:
    """What the file is of which this is how it begins once unpacked, if it is no pickle."""
    if head[_TAR : _TAR + 5] == b"ustar":
        return _ARCHIVE
    if kind := native_model.format_of(head):
        return Unsupported(f"it is a model of {kind}, packed", "write it as it is, not packed: DVC keeps it once")
    return None


def _unpacked(content: bytes) -> bytes:
    """How the content of a packed file begins; empty where it is not packed. joblib and pickles may be."""
    try:
        if content.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(content, _HEAD)
        if content.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(content, _HEAD)
        if content.startswith(b"\xfd7zXZ"):
            return lzma.LZMADecompressor().decompress(content, _HEAD)
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        pass  # who reads it says so
    return b""


def _zip(content: bytes) -> Unsupported | None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return Unsupported("it begins like a zip file and is none", "dvc repro")
    if "schema.json" in names:
        return None  # skops
    members = {*names, *(name.partition("/")[2] for name in names)}
    other = Unsupported(f"it is a zip archive of {len(names)} files", _ONE_FILE)
    return next((what for member, what in _MEMBERS if member in members), other)


def _text(head: bytes) -> Unsupported | None:
    if head.startswith(b"{") and b"learner" not in head:
        if b'"tree_info"' in head or head.startswith(b'{"name":"tree"'):
            return _LIGHTGBM_JSON
        if b'"model_info"' in head or b'"oblivious_trees"' in head:
            return _CATBOOST_JSON
        return Unsupported("it is JSON of no model that is known here", ESTIMATOR)
    if head.startswith(b"<"):
        kind = "PMML, which MLflow has no flavor for" if b"<PMML" in head else "a page of HTML or XML"
        return Unsupported(f"it is {kind}", ESTIMATOR)
    return None
