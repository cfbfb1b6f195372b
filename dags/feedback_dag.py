"""Bring in what has landed.

Reads the new objects under `landing/`, checks them against the line's contract, adds what passes to the feedback
table, and freezes the table as a dataset. Its event on the asset *dataset* wakes the DAG *drift*.

A run that finds nothing new is skipped. A batch that breaks the contract as a whole fails the task `check`; the
reasons lie in the store under `quarantine/`.
"""

from retune_airflow import assets, loops, params, tasks
from retune_airflow.lines import good_lines

for line in good_lines():
    schedule = loops.at(line.schedule.feedback)
    with loops.loop(line, "feedback", schedule=schedule, params=params.FEEDBACK, doc=__doc__):
        batch = tasks.pull(line.name)
        checked = tasks.check(line.name, batch)
        version = tasks.commit(line.name, checked)
        dataset = tasks.freeze(line.name, version)
        tasks.baseline.override(outlets=[assets.dataset(line.name)])(line.name, dataset)
