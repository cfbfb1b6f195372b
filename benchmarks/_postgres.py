"""Run a PostgreSQL server of one's own, which listens on a socket in its own folder and nowhere else."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ACCOUNT = "postgres"  # whom it runs as where we are root, as whom it refuses to run


@contextmanager
def postgres() -> Iterator[str]:
    """Run an empty server for as long as the block lasts.

    Yields:
        URL of its database, as `RETUNE_STUDIES` takes it.

    Raises:
        SystemExit: PostgreSQL is not installed; the benchmark ends with one line that says so.
    """
    programs = _programs()
    account = ACCOUNT if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="retune-postgres-") as folder:
        if account:
            shutil.chown(folder, account)
        data = Path(folder) / "data"
        run = partial(subprocess.run, cwd=folder, user=account, check=True, stdout=subprocess.DEVNULL)
        run([programs / "initdb", "-D", data, "-U", ACCOUNT, "-A", "trust", "--locale=C", "--encoding=UTF8", "-N"])
        control = [programs / "pg_ctl", "-D", data, "--wait"]
        flags = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        run([*control, "start", "--log", Path(folder) / "log", "--options", flags])
        try:
            yield f"postgresql+psycopg://{ACCOUNT}@/{ACCOUNT}?host={folder}"
        finally:
            run([*control, "stop", "--mode", "fast"])


def _programs() -> Path:
    """Find the folder of the newest server; Debian puts none of them on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve())
    if not found:
        raise SystemExit("PostgreSQL must be installed, but there is no initdb (Debian: postgresql).")
    return found[-1].parent
