"""Keep bundles, named by their content, and give them back only when every byte is what the manifest says."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from recsys.errors import BadBundle, Conflict, NoRelease, NotFound
from recsys.records import Bundle, FileRef, load, to_json
from recsys.store import Store

if TYPE_CHECKING:
    import onnx

FP32 = "model.onnx"
INT8 = "model.int8.onnx"
WEIGHTS = "weights.safetensors"
EARLY = "early.safetensors"  # weights that have not learned from the validation windows
VOCABULARY = "vocabulary.json"
MANIFEST = "manifest.json"
GOLDEN = "golden.json"  # what the graph that serves answered when the bundle was packaged

UNREADABLE = "A bundle's manifest must be a record that this version can read"


def key(release_id: str, name: str) -> str:
    """Say where in the line's part of the store a file of a bundle lies."""
    return f"releases/{release_id}/{name}"


def refer(body: bytes) -> FileRef:
    """Say which bytes a file of a bundle must have."""
    return FileRef(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))


def identify(
    *,
    family: str,
    configuration: Mapping[str, Any],
    dataset_id: str,
    history_length: int,
    files: Mapping[str, FileRef],
) -> str:
    """Name a bundle by what it is, so that the same model packaged again is the same release."""
    made_of = {
        "configuration": dict(configuration),
        "dataset_id": dataset_id,
        "history_length": history_length,
        "files": {name: file.sha256 for name, file in files.items()},
    }
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    return f"{family}-{digest[:16]}"


def keep_bundle(store: Store, bundle: Bundle, files: Mapping[str, bytes]) -> Bundle:
    """Write the files and then, once, the manifest; before that there is no bundle.

    Returns:
        The bundle that lies there, which is an earlier writer's where the same had been packaged before.
    """
    for name, body in files.items():
        store.put(key(bundle.release_id, name), body)
    manifest = to_json(bundle)
    try:
        store.create(key(bundle.release_id, MANIFEST), manifest)
    except Conflict:
        return find_bundle(store, bundle.release_id)
    return bundle


def find_bundle(store: Store, release_id: str) -> Bundle:
    """Read a bundle's manifest.

    Raises:
        NoRelease: There is no such bundle, or it is not complete.
        BadBundle: The manifest does not describe a bundle of this name.
    """
    try:
        body = store.get(key(release_id, MANIFEST)).body
    except NotFound as error:
        raise NoRelease(f"There must be a bundle {release_id!r} in {store.url}, but there is none.") from error
    try:
        found = load(Bundle, json.loads(body))
    except (ValueError, ValidationError) as error:
        raise BadBundle(f"{UNREADABLE}, but that of {release_id} is not: {error}", file=MANIFEST) from error
    own_id = identify(
        family=found.family,
        configuration=found.configuration,
        dataset_id=found.dataset_id,
        history_length=found.history_length,
        files=found.files,
    )
    if not found.release_id == release_id == own_id or found.serves not in found.files:
        raise BadBundle(
            f"{MANIFEST} of {release_id} must describe the bundle of that name, but describes {own_id}, calls itself "
            f"{found.release_id} and serves {found.serves!r}.",
            file=MANIFEST,
        )
    return found


def read_bundle(store: Store, release_id: str) -> tuple[Bundle, dict[str, bytes]]:
    """Read a bundle with all its files into memory, every one of them verified before any is used.

    Raises:
        NoRelease: There is no such bundle.
        BadBundle: A file is missing, its bytes are not those of the manifest, or a graph keeps data outside its file.
    """
    found = find_bundle(store, release_id)
    files = read_files(store, found)
    for name, body in files.items():
        if name.endswith(".onnx"):
            refuse_external_data(body, name=name)
    return found, files


def read_files(store: Store, bundle: Bundle) -> dict[str, bytes]:
    """Read the files of a bundle into memory, whatever is in them.

    Raises:
        BadBundle: One is missing, or its bytes are not those of the manifest.
    """
    return {name: _verified(store, bundle, name) for name in bundle.files}


def damaged(store: Store, bundle: Bundle) -> list[str]:
    """Name the files of a bundle that are missing, or whose bytes are not those of the manifest."""

    def wrong(name: str) -> bool:
        try:
            _verified(store, bundle, name)
        except BadBundle:
            return True
        return False

    return [name for name in bundle.files if wrong(name)]


def fetch_bundle(store: Store, release_id: str, folder: Path) -> Path:
    """Copy a verified bundle, its manifest included, into `folder`.

    Returns:
        `folder`.

    Raises:
        NoRelease: There is no such bundle.
        BadBundle: A file is missing, its bytes are not those of the manifest, or a graph keeps data outside its file.
    """
    found, files = read_bundle(store, release_id)
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)
    (folder / MANIFEST).write_bytes(to_json(found))
    return folder


def read_file(store: Store, release_id: str, name: str) -> bytes:
    """Read one file of a bundle, verified.

    Raises:
        NoRelease: There is no such bundle.
        BadBundle: It has no such file, or the bytes are not those of the manifest.
    """
    found = find_bundle(store, release_id)
    if name not in found.files:
        raise BadBundle(f"{release_id} must have {name}, but has {sorted(found.files)}.", file=name)
    return _verified(store, found, name)


def refuse_external_data(graph: bytes, *, name: str) -> None:
    """Refuse an ONNX graph that would make its reader open other files.

    Raises:
        BadBundle: It would, or it is no ONNX graph.
    """
    import onnx  # a third of a second, and who only looks at a manifest needs none of it
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(graph)
    except DecodeError as error:
        raise BadBundle(f"{name} must be an ONNX graph, but cannot be read as one: {error}", file=name) from error
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise BadBundle(
                f"{name} must hold all of its data, but its tensor {tensor.name!r} lies in another file.", file=name
            )


def _verified(store: Store, bundle: Bundle, name: str) -> bytes:
    expected = bundle.files[name]
    try:
        body = store.get(key(bundle.release_id, name)).body
    except NotFound as error:
        raise BadBundle(f"{name} of {bundle.release_id} must be there, but is gone.", file=name) from error
    found = refer(body)
    if found != expected:
        raise BadBundle(
            f"{name} of {bundle.release_id} must have the SHA-256 {expected.sha256} and {expected.size_bytes} bytes, "
            f"but has {found.sha256} and {found.size_bytes}.",
            file=name,
        )
    return body


def _tensors(model: "onnx.ModelProto") -> Iterator["onnx.TensorProto"]:
    """Go through all tensors of a model, those in attributes, subgraphs and functions included."""
    yield from _tensors_of(model.graph)
    for function in model.functions:
        yield from _tensors_in(function.node)


def _tensors_of(graph: "onnx.GraphProto") -> Iterator["onnx.TensorProto"]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_in(graph.node)


def _tensors_in(nodes: Any) -> Iterator["onnx.TensorProto"]:  # noqa: ANN401 - protobuf's repeated field has no public type
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_of(graph)
