"""Does the release in production do worse than the one before?

Compares what became of what each of them served, window by window, by feedback that names its release. A release that
is shown to do worse is taken back where the line allows it (`watch.rollback`), and otherwise said to do worse; the
event on the asset *watch* comes whatever the verdict is.

A line without `watch.values` is watched only by hand, and then has nothing to say.
"""

from retune_airflow import assets, loops, params, tasks
from retune_airflow.lines import good_lines

for line in good_lines():
    schedule = loops.after_or_at(assets.dataset(line.name), line.schedule.watch) if line.watch.values else None
    with loops.loop(line, "watch", schedule=schedule, params=params.WATCH, doc=__doc__):
        verdict = tasks.watch.override(outlets=[assets.watch(line.name)])(line.name)
        tasks.take_back.override(outlets=[assets.release(line.name)])(line.name, verdict)
