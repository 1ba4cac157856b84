"""What a run takes, from its config alone: jobs, hours, bytes and memory."""

from pipeline_lib.plan.rates import RATES, Rates
from pipeline_lib.plan.summary import Job, Machine, Plan, as_markdown, summarise
from pipeline_lib.plan.work import Work, work_of, write_plan
