"""Carry out a Dockerfile without a container engine: each stage in a root of its own that debootstrap has made.

    sudo python3 docker/replay.py docker/Dockerfile.control /var/tmp/replay -- airflow version

It knows the instructions that the Dockerfiles here use. What follows `--` runs at the end in the last stage, as the
user and in the environment that the image would give it. Debian's `debootstrap` must be installed. The roots stay.
"""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

CONTEXT = Path(__file__).resolve().parents[1]
SUITE = "bookworm"

# Package scripts expect the kernel's folders.
_ENTER = """
for folder in proc dev; do mount --rbind "/$folder" "$1/$folder"; done
root=$1 user=$2; shift 2
exec chroot --userspec="$user" "$root" "$@"
"""

# Where a proxy signs what passes it, this machine says whom to trust; the image itself is not changed by that.
_AUTHORITIES = "replay-authorities.crt"


@dataclass(slots=True)
class Stage:
    """One `FROM` and what has become of it so far."""

    root: Path
    workdir: str = "/"
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})

    def run(self, command: list[str], *, user: str = "0:0") -> None:
        """Run `command` inside the root, in a mount namespace that goes with it."""
        inside = ["env", "-i", *(f"{name}={value}" for name, value in self.environment.items()), "HOME=/tmp"]
        if (self.root / _AUTHORITIES).exists():
            inside += [f"SSL_CERT_FILE=/{_AUTHORITIES}", f"PIP_CERT=/{_AUTHORITIES}"]
        inside += ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", self.workdir, *command]
        outside = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _ENTER, "sh", str(self.root), user]
        subprocess.run([*outside, *inside], check=True)

    def path(self, inside: str) -> Path:
        """Return where a path of the stage lies outside."""
        absolute = inside if inside.startswith("/") else f"{self.workdir}/{inside}"
        return self.root / absolute.lstrip("/")


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, continued lines joined and comments left out."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        found.append((name, rest.strip()))
    return found


def replay(dockerfile: Path, folder: Path) -> Stage:
    """Carry out `dockerfile` in `folder`, and return its last stage."""
    stages: list[Stage] = []
    names: dict[str, Stage] = {}
    shell = ["/bin/sh", "-c"]
    for name, rest in instructions(dockerfile):
        print(f"{name} {rest}", flush=True)
        if name == "FROM":
            stages.append(Stage(_new_root(folder, len(stages))))
            names[rest.partition(" AS ")[2]] = stages[-1]
            continue
        stage = stages[-1]
        if name == "SHELL":
            shell = [word.strip(' "') for word in rest.strip("[]").split(",")]
        elif name == "RUN":
            stage.run([*shell, rest], user=stage.user)
        elif name == "WORKDIR":
            stage.workdir = rest
            stage.path(rest).mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            for word in shlex.split(rest):
                key, _, value = word.partition("=")
                stage.environment[key] = value
        elif name == "USER":
            stage.user = rest
        elif name == "COPY":
            _copy(shlex.split(rest), stage, names)
        elif name not in {"CMD", "ENTRYPOINT"}:
            raise ValueError(f"{dockerfile}: {name} is not known here; known are the instructions used so far.")
    return stages[-1]


def _new_root(folder: Path, number: int) -> Path:
    base = folder / "base"
    if not base.exists():
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(base)], check=True, stdout=subprocess.DEVNULL)
    root = folder / f"stage{number}"
    subprocess.run(["cp", "--archive", str(base), str(root)], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    if authorities := os.environ.get("SSL_CERT_FILE"):
        shutil.copy(authorities, root / _AUTHORITIES)
    return root


def _copy(words: list[str], stage: Stage, names: dict[str, Stage]) -> None:
    options = [word for word in words if word.startswith("--")]
    *sources, target = [word for word in words if not word.startswith("--")]
    origin = CONTEXT
    if options:
        origin = names[options[0].removeprefix("--from=")].root
    place = stage.path(target)
    for source in sources:
        found = origin / source.lstrip("/")
        into = place / found.name if target.endswith("/") else place
        into.parent.mkdir(parents=True, exist_ok=True)
        trail = "/." if found.is_dir() else ""
        if trail:
            into.mkdir(exist_ok=True)
        subprocess.run(["cp", "--archive", "--no-preserve=ownership", f"{found}{trail}", str(into)], check=True)


if __name__ == "__main__":
    if os.geteuid() != 0 or "--" not in sys.argv or not shutil.which("debootstrap"):
        sys.exit(__doc__)
    split = sys.argv.index("--")
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    last = replay(Path(sys.argv[1]), target)
    last.run(sys.argv[split + 1 :], user=last.user)
