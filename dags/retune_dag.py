"""Decide, search, choose.

Decides between nothing, a refit of one configuration, that one beside a few sentinels, and a search for a better one,
by what each is expected to gain and to take. A search runs in three stages, each on as many workers as the line says,
in the pool and queue `gpu`. One that would run into the line's next feature refresh is put off: `open_search` is then
skipped, and its log names both instants. Its event on the asset *candidate* wakes the
DAG *promote*. Beside that, the review says which parameters matter over all searches, and proposes what to search.

To search although nothing drifted, start a run with `{"action": "retune", "reason": "..."}`; to train one
configuration, with `{"action": "refit", "family": "...", "configuration": {...}, "reason": "..."}`.
"""

from airflow.sdk import chain

from retune_airflow import assets, loops, params, tasks
from retune_airflow.lines import good_lines

for line in good_lines():
    schedule = loops.after_or_at(assets.drift(line.name), line.schedule.retune)
    asked = params.retune(longest_search_s=line.longest_search_s)
    with loops.loop(line, "retune", schedule=schedule, params=asked, doc=__doc__):
        plan = tasks.decide(line.name)
        opened = tasks.open_search(line.name, plan).as_setup()
        searched = tasks.search(line.name, plan)
        closed = tasks.close_search(line.name, plan).as_teardown(setups=opened)  # type: ignore[arg-type]  # it takes it
        chosen = tasks.choose.override(outlets=[assets.candidate(line.name)])(line.name, plan)
        chain(opened, *searched, closed, chosen)
        closed >> tasks.review(line.name, plan)  # beside the candidate: what becomes of it holds nothing up
