"""Serve an earlier release again.

Moves production back to the release before the present one, or to the one named, and puts an event on the asset
*release*. It runs only by hand, and only with a reason.
"""

from retune_airflow import assets, loops, params, tasks
from retune_airflow.lines import good_lines

for line in good_lines():
    with loops.loop(line, "rollback", schedule=None, params=params.ROLLBACK, doc=__doc__):
        tasks.rollback.override(outlets=[assets.release(line.name)])(line.name)
