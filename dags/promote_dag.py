"""May the candidate replace the incumbent?

Packages the candidate for serving, measures it beside the incumbent on the locked holdout, and asks the gate. A pass
moves production and puts an event on the asset *release*; a candidate that the gate holds skips the task `release`,
whose log says why. On a line with people to ask, `approve` asks them first, and what they reject, or do not answer in
time, is held. After a release, `attribute` says which changed knobs it owes its gain to; that trains nothing.
"""

from retune_airflow import approvals, assets, loops, params, tasks
from retune_airflow.lines import good_lines

for line in good_lines():
    schedule = loops.after(assets.candidate(line.name))
    with loops.loop(line, "promote", schedule=schedule, params=params.PROMOTE, doc=__doc__):
        bundle = tasks.package(line.name)
        comparison = tasks.measure(line.name, bundle)
        verdict = tasks.gate(line.name, comparison)
        answer = approvals.ask(line, verdict)
        released = tasks.release.override(outlets=[assets.release(line.name)])(line.name, verdict, answer)
        tasks.attribute(line.name, released)
