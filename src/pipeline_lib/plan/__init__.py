"""What a run takes, told from its config before anything of it exists."""

from pipeline_lib.plan.rates import Rates
from pipeline_lib.plan.summary import Plan, as_markdown, summarise
from pipeline_lib.plan.work import Work, work_of
from pipeline_lib.plan.write import write_plan

__all__ = ["Plan", "Rates", "Work", "as_markdown", "summarise", "work_of", "write_plan"]
