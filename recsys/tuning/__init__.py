"""Decide whether to tune, search for a better configuration, and choose one."""

from recsys.tuning.ablation import ablation, ablation_jobs, close_ablation, plan_ablation, work_ablation
from recsys.tuning.choice import candidate, choose
from recsys.tuning.decision import decide, plan
from recsys.tuning.evidence import PastStudy, PastTrial
from recsys.tuning.outcomes import Progress
from recsys.tuning.promotion import STAGES
from recsys.tuning.readings import check_past
from recsys.tuning.review import kept as kept_review
from recsys.tuning.review import newest_search, review
from recsys.tuning.space import search_space
from recsys.tuning.stages import check_left, close, jobs, leave, open_study, progress, study
from recsys.tuning.storage import check_studies
from recsys.tuning.trials import Attempt
from recsys.tuning.warm import WarmSampler
from recsys.tuning.worker import work

__all__ = [
    "STAGES",
    "Attempt",
    "PastStudy",
    "PastTrial",
    "Progress",
    "WarmSampler",
    "ablation",
    "ablation_jobs",
    "candidate",
    "check_left",
    "check_past",
    "check_studies",
    "choose",
    "close",
    "close_ablation",
    "decide",
    "jobs",
    "kept_review",
    "leave",
    "newest_search",
    "open_study",
    "plan",
    "plan_ablation",
    "progress",
    "review",
    "search_space",
    "study",
    "work",
    "work_ablation",
]
