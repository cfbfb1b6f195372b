"""What is each component of a release worth?

Trains the configuration of a release, or of the newest candidate, without one component at a time, within a budget in
seconds, on workers in the pool and queue `gpu`, and says with paired intervals which components it needs, which do
harm, and of which nothing can be told. What was trained before is not trained again, and a run that asks what is known
already trains nothing. It runs only by hand, and only with a reason; nothing in production changes, and no other DAG
waits for it.
"""

from retune_airflow import loops, params, tasks
from retune_airflow.lines import good_lines

for line in good_lines():
    asked = params.ablate(longest_search_s=line.longest_search_s)
    with loops.loop(line, "ablate", schedule=None, params=asked, doc=__doc__):
        plan = tasks.plan_ablation(line.name)
        jobs = tasks.ablation_jobs(line.name, plan)
        worked = tasks.work_ablation.partial(line=line.name, plan=plan).expand(job=jobs)
        closed = tasks.close_ablation(line.name, plan)
        # What became of a worker fails no run, what became of the record does.
        worked >> closed.as_teardown(setups=jobs, on_failure_fail_dagrun=True)  # type: ignore[arg-type]  # it takes it
