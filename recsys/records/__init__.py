"""List what stages hand to each other: frozen records that are JSON in the store and between tasks.

Each record says what a stage decided or made and where in the line's part of the store the heavy things lie.
`dump` and `load`, and for what lies in the store `to_json` and `parse`, are the only ways in and out. In the order of
the loop they are those of `feedback`, `datasets`, `drift`, `plans`, `trials`, `studies`, `evidence`, `reviews`,
`ablations`, `bundles`, `golden`, `paired`, `balance`, `scorecards`, `attributions`, `releases`,
`decisions` and `watched`.
"""

from recsys.records.ablations import Ablated, Ablation, AblationPlan, Component
from recsys.records.attributions import Attribution, KnobShare
from recsys.records.balance import CalibrationResult, ExposureResult, Reliability, ReliabilityBin
from recsys.records.bundles import Bundle, FileRef, GraphTrial
from recsys.records.codec import Record, dump, load, parse, to_json
from recsys.records.datasets import Dataset, Span
from recsys.records.decisions import Answer, GateRecord, Override, Said
from recsys.records.drift import ColumnDrift, DriftVerdict
from recsys.records.evidence import Evidence, Known, Reading, TrialEvidence
from recsys.records.feedback import Batch, CheckedBatch, Finding, ObjectRef, Refusal, TableVersion
from recsys.records.golden import Golden, GoldenRequest
from recsys.records.paired import CohortResult, Look, Paired
from recsys.records.plans import Action, Option, Plan, Rung, Sentinel
from recsys.records.releases import Check, Outcome, Release, Verdict
from recsys.records.reviews import Block, Edge, Edit, Findings, Importance, Interaction, PairEffect, Proposal, Review
from recsys.records.scorecards import Arrived, Comparison, LatencyResult, Ratios, Scorecard
from recsys.records.studies import Agreement, Candidate, Spending, StageGain, Study, Transfer
from recsys.records.trials import TrialResult, Use
from recsys.records.values import MIB, Configuration, Estimate, Limits
from recsys.records.watched import Health, WatchedValue, WatchVerdict
from recsys.records.weights import Begun, Covered, Weights

__all__ = [
    "MIB",
    "Ablated",
    "Ablation",
    "AblationPlan",
    "Action",
    "Agreement",
    "Answer",
    "Arrived",
    "Attribution",
    "Batch",
    "Begun",
    "Block",
    "Bundle",
    "CalibrationResult",
    "Candidate",
    "Check",
    "CheckedBatch",
    "CohortResult",
    "ColumnDrift",
    "Comparison",
    "Component",
    "Configuration",
    "Covered",
    "Dataset",
    "DriftVerdict",
    "Edge",
    "Edit",
    "Estimate",
    "Evidence",
    "ExposureResult",
    "FileRef",
    "Finding",
    "Findings",
    "GateRecord",
    "Golden",
    "GoldenRequest",
    "GraphTrial",
    "Health",
    "Importance",
    "Interaction",
    "KnobShare",
    "Known",
    "LatencyResult",
    "Limits",
    "Look",
    "ObjectRef",
    "Option",
    "Outcome",
    "Override",
    "PairEffect",
    "Paired",
    "Plan",
    "Proposal",
    "Ratios",
    "Reading",
    "Record",
    "Refusal",
    "Release",
    "Reliability",
    "ReliabilityBin",
    "Review",
    "Rung",
    "Said",
    "Scorecard",
    "Sentinel",
    "Span",
    "Spending",
    "StageGain",
    "Study",
    "TableVersion",
    "Transfer",
    "TrialEvidence",
    "TrialResult",
    "Use",
    "Verdict",
    "WatchVerdict",
    "WatchedValue",
    "Weights",
    "dump",
    "load",
    "parse",
    "to_json",
]
