"""Start a command of Airflow in a process that has already imported what its tasks need.

LocalExecutor forks one process per task. What the scheduler has imported before, every task finds imported: it starts
seconds sooner, and the memory is shared. Only for modules that start no threads when they are imported.
"""

import importlib
import runpy
import sys

if __name__ == "__main__":
    for module in sys.argv.pop(1).split(","):
        importlib.import_module(module)
    runpy.run_module("airflow", run_name="__main__", alter_sys=True)
