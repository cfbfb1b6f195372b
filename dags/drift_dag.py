"""Has the world moved?

Compares the newest window of a dataset with what the release in production was made from. The event on the asset
*drift* comes whatever the verdict is, so that silence is visible; it wakes the DAG *retune*.

The report lies in the store under `drift/<dataset>/<release>/<settings>/report.html`.
"""

from retune_airflow import assets, loops, params, tasks
from retune_airflow.lines import good_lines

for line in good_lines():
    schedule = loops.after(assets.dataset(line.name))
    with loops.loop(line, "drift", schedule=schedule, params=params.DRIFT, doc=__doc__):
        tasks.judge.override(outlets=[assets.drift(line.name)])(line.name)
