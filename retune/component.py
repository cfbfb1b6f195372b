"""Run one component of Airflow, and end all that came of it."""

import logging
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from retune.guardian import KEEP_MARKS, MARK, end_marked

log = logging.getLogger(__name__)


class Component:
    """One long-running command of Airflow: it can be started, asked, stopped and started again.

    Args:
        name: what people and the health endpoint call it.
        command: what follows `airflow` on the command line.
        preload: modules that are imported before the command starts, for the processes that it forks.
        environment: the environment it runs in.
        mark: what its processes are recognised by.
        output: the file its output is appended to.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        mark: str,
        output: Path,
        preload: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.mark = mark
        self.output = output
        self.starts = 0
        self.started_at = 0.0  # on the monotonic clock
        start = ["retune.preloaded", ",".join(preload)] if preload else ["airflow"]
        self._command = [sys.executable, "-m", *start, *command]
        self._environment = {**environment, **KEEP_MARKS, MARK: mark}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The first process, or None before the first start."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """How the first process ended (negative: by that signal), or None while it lives or before it was started."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the first process; its output goes on where an earlier start left off."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )
        self.starts += 1
        self.started_at = time.monotonic()
        log.info("started %s as process %d", self.name, self._process.pid)

    def run(self, *, within_s: float) -> int:
        """Start a command that ends by itself, and wait for it.

        Args:
            within_s: how long it may take.

        Returns:
            Its exit code.

        Raises:
            TimeoutError: it took longer; it was killed.
        """
        self.start()
        assert self._process is not None
        try:
            return self._process.wait(timeout=within_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise TimeoutError(
                f"airflow {self.name} must end in {within_s} s but did not; see {self.output}."
            ) from error

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the first process, which then ends in its own order."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def kill(self, *, after_s: float = 0.0) -> int:
        """End everything that came of this component.

        Args:
            after_s: how long the first process may take to end by itself.

        Returns:
            How many processes had to be killed.
        """
        if self._process is None:
            return 0
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=after_s)
        killed = end_marked(self.mark)
        self._process.wait()
        return killed

    def last_words(self, lines: int = 15) -> str:
        """Return the end of the output, for messages."""
        if not self.output.exists():
            return ""
        return "\n".join(self.output.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
