"""Keep weights and the state of a training in safetensors files that are replaced whole or not at all."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from recsys.errors import BadObject
from recsys.store import Store

FILE = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training has come, and which training it is."""

    epoch: int  # finished epochs
    losses: tuple[float, ...]
    fingerprint: str  # of everything that decides the result: data, configuration, seed


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the parameters and buffers of `network`, so that a reader finds the old file or the new one whole."""
    replace(path, pack_weights(network))


def pack_weights(network: nn.Module, metadata: Mapping[str, str] | None = None) -> bytes:
    """Give the parameters and buffers of `network` as a safetensors file, whose header may say more of them."""
    return save(_tensors(network.state_dict()), metadata=dict(metadata) if metadata else None)


def read_metadata(body: bytes) -> dict[str, str]:
    """Give what the header of a safetensors file says beside its tensors; nothing where it says nothing.

    The header is JSON, its length stands in the first eight bytes (the format's own description).

    Raises:
        BadObject: There is no such header.
    """
    try:
        length = int.from_bytes(body[:8], "little")
        found: dict[str, str] = json.loads(body[8 : 8 + length]).get("__metadata__", {})
    except ValueError as error:
        reason = f"its header is not JSON: {error}"
        raise BadObject(f"A safetensors file cannot be read: {reason}", key="", reason=reason) from error
    return found


def load_weights(network: nn.Module, path: Path) -> None:
    """Read what `save_weights` wrote into a network built from the same configuration.

    Raises:
        BadObject: The file is not whole, or belongs to a network of other shapes.
        FileNotFoundError: There is no such file.
    """
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise BadObject(
            f"{path} does not hold the weights of this network: {error}", key=str(path), reason=str(error)
        ) from error


def keep_weights(store: Store, folder: str, network: nn.Module) -> tuple[str, str]:
    """Write the weights of `network` into the store under a name made of their content, so that none replace others.

    Args:
        store: The line's part of the store.
        folder: The beginning of the key, without '/' at its end.
        network: Its parameters and buffers are written.

    Returns:
        The key and the SHA-256 of what lies there.
    """
    with tempfile.TemporaryDirectory() as local:
        path = Path(local) / "weights.safetensors"
        save_weights(network, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        key = f"{folder}/weights-{digest[:16]}.safetensors"
        store.upload(path, key)
    return key, digest


def save_checkpoint(folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
    """Write everything that the next epoch depends on into one file, its JSON in the file's own header.

    One file, because two could be from different epochs after a crash between them.
    """
    state = {f"weights/{name}": tensor for name, tensor in network.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        state |= {f"optimiser/{number}/{name}": tensor for name, tensor in moments.items()}
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / FILE, save(_tensors(state), metadata={"progress": json.dumps(asdict(progress))}))


def load_checkpoint(
    folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, fingerprint: str
) -> Progress | None:
    """Put `network` and `optimiser` back where the checkpoint left them.

    Returns:
        How far it had come; nothing where there is no checkpoint.

    Raises:
        BadObject: The file is not whole.
        ValueError: The checkpoint belongs to a training with another fingerprint.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            known = json.loads(file.metadata()["progress"])
            progress = Progress(**{**known, "losses": tuple(known["losses"])})
            if progress.fingerprint != fingerprint:
                raise ValueError(
                    f"{path} belongs to another training: "
                    f"its fingerprint must be {fingerprint} but is {progress.fingerprint}."
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, TypeError) as error:
        raise BadObject(f"{path} is not a whole checkpoint: {error}", key=str(path), reason=str(error)) from error
    network.load_state_dict(
        {name.removeprefix("weights/"): tensors[name] for name in tensors if name.startswith("weights/")}
    )
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser/"):
            _, number, moment = name.split("/")
            moments.setdefault(int(number), {})[moment] = tensor
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return progress


def replace(path: Path, content: bytes) -> None:
    """Make `path` hold `content`, durably and in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is durable too
    finally:
        os.close(folder)


def _tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
