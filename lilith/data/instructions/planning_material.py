"""Projects of a quant technology team: their tasks, risks and stories, and drawn plans of them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from lilith.data.instructions.drawing import Draw
from lilith.data.instructions.planning_math import Task


@dataclass(frozen=True)
class Project:
    """What is to be delivered; ``tasks`` are (name, indices of the tasks before it)."""

    title: str
    tasks: tuple[tuple[str, tuple[int, ...]], ...]


def _project(title: str, text: str) -> Project:
    lines = [line.strip().split(" < ") for line in text.strip().splitlines()]
    tasks = [(n, tuple(map(int, after[0].split())) if after else ()) for n, *after in lines]
    return Project(title, tuple(tasks))


# One task a line; behind "<" the numbers, from 0, of the tasks that must be finished before.
PROJECTS = (
    _project(
        "the migration of the pricing library from spreadsheets to a Python service",
        """
        Inventory of spreadsheet models
        API design < 0
        Golden price set < 0
        Port of vanilla models < 1
        Port of exotic models < 1
        Price comparison < 2 3 4
        Load test < 3
        Desk training < 5
        Cut-over < 5 6 7""",
    ),
    _project(
        "the move of the risk data warehouse to the cloud",
        """
        Data classification
        Network and access setup < 0
        Target schema < 0
        Historical load < 1 2
        Rewrite of the feeds < 2
        Dual-run reconciliation < 3 4
        Security review < 1
        Report repointing < 4
        Decommissioning < 5 6 7""",
    ),
    _project(
        "the rollout of the new option pricing engine to the equity desk",
        """
        Requirements with traders
        Volatility surface service < 0
        Engine integration < 0
        Greeks validation < 1 2
        Limit checks < 2
        Model risk approval < 3
        Pilot with two traders < 3 4
        Documentation < 2
        Full rollout < 5 6 7""",
    ),
    _project(
        "the new capital report for the regulator",
        """
        Interpretation of the rule text
        Data gap analysis < 0
        Sourcing of missing fields < 1
        Calculation engine < 0
        Report layout < 0
        Control framework < 3
        Parallel submission < 2 3 4
        Internal audit review < 5
        Sign-off and filing < 6 7""",
    ),
    _project(
        "the market data pipeline for intraday prices",
        """
        Vendor contract
        Feed handler < 0
        Schema registry
        Stream processing < 1 2
        Quality checks < 3
        Tick storage < 2
        Replay tool < 5
        Latency test < 3 5
        Go-live < 4 6 7""",
    ),
    _project(
        "the replacement of the end-of-day VaR batch",
        """
        Profile of the current batch
        Scenario store < 0
        Parallel revaluation < 0
        Aggregation layer < 1 2
        Backtest of the VaR < 3
        Scheduler integration < 2
        Two-week parallel run < 3 5
        Risk committee approval < 4 6
        Switch-over < 7""",
    ),
    _project(
        "the client reporting portal",
        """
        User research
        Wireframes < 0
        Single sign-on
        Performance figures service < 0
        Portal front end < 1 3
        PDF export < 3
        Penetration test < 2 4
        Pilot with five clients < 4 5
        Launch < 6 7""",
    ),
    _project(
        "the backtesting platform for the systematic desk",
        """
        Data contract
        Point-in-time price store < 0
        Cost model
        Simulation core < 0 2
        Strategy interface < 3
        Results dashboard < 3
        Replication of two known strategies < 1 4
        User guide < 4
        Release < 5 6 7""",
    ),
    _project(
        "the automation of trade reconciliation",
        """
        Break analysis
        Matching rules < 0
        Broker file adapters
        Matching engine < 1 2
        Exception workflow < 1
        Historical replay < 3
        Operations training < 4
        Compliance sign-off < 5
        Production start < 6 7""",
    ),
    _project(
        "the split of the order management monolith",
        """
        Domain map
        Event bus
        Order service < 0 1
        Allocation service < 0 1
        Position service < 2
        Data migration < 3 4
        Failover drill < 4
        Performance test < 2 3
        Traffic switch < 5 6 7""",
    ),
    _project(
        "the margin and collateral calculator",
        """
        Agreement digitisation
        Sensitivity feed
        Margin formula < 0 1
        Eligibility rules < 0
        Dispute workflow < 2
        Optimiser for collateral < 2 3
        Counterparty test < 4
        Independent validation < 2
        Production release < 5 6 7""",
    ),
    _project(
        "the feature store for the alpha research team",
        """
        Catalogue of features
        Storage benchmark
        Ingestion framework < 0 1
        Backfill of ten years < 2
        Online serving < 1
        Drift monitor < 2
        Access control < 0
        Onboarding of three teams < 3 5 6
        General availability < 4 7""",
    ),
)

RISKS = (
    ("the market data vendor delays the new feed", "agree a fallback feed in the contract"),
    ("a key quant developer leaves", "pair on every model and write a runbook"),
    ("new prices differ from the legacy library", "run both side by side against a golden set"),
    ("the regulator changes the reporting template", "keep the layout in configuration"),
    ("historical data has gaps", "profile the data in week one and buy the missing years"),
    ("the overnight batch misses its window", "load test at twice today's volume"),
    ("traders do not adopt the new screen", "pilot with two traders from the first sprint"),
    ("the security review finds open ports", "book an early review of the design"),
    ("cloud costs exceed the estimate", "set budgets with alerts and tag every resource"),
    ("model validation rejects the calibration", "share the test plan with validators early"),
    ("a dependency reaches its end of life", "upgrade it before the feature freeze"),
    ("the reconciliation team is understaffed", "automate the ten most frequent breaks first"),
    ("the cut-over weekend overruns", "rehearse twice and keep a tested rollback"),
    ("requirements grow after sign-off", "put changes through a weekly change board"),
)

STORIES = (
    "Load yesterday's closing prices", "Validate option quotes", "Price vanilla options",
    "Show Greeks on the blotter", "Alert on limit breaches", "Export positions to CSV",
    "Log every price request", "Cache volatility surfaces", "Add an FX conversion",
    "Retry failed feeds", "Report stale prices", "Compute portfolio VaR", "Draw the P&L chart",
    "Sign in with company accounts", "Archive daily reports", "Reconcile cash balances",
    "Stress the rate curve", "Document the API", "Tag trades by strategy", "Audit user actions",
)  # fmt: skip

OUTCOMES = (
    "Intraday risk view", "Automated stress tests", "Self-service reports", "Faster calibration",
    "Mobile approvals", "Trade cost analysis", "Data lineage", "What-if pricing",
    "Alert routing", "Archive search", "Client onboarding flow", "Hedge suggestions",
)  # fmt: skip
MANDATES = (
    "Regulatory audit trail", "Four-eyes approval", "Retention of records", "Encryption at rest",
)  # fmt: skip


def sizes(difficulty: str, easy: int, medium: int, hard: int) -> int:
    """The count of things for a level."""
    return {"easy": easy, "medium": medium, "hard": hard}[difficulty]


def drawn_tasks(draw: Draw, project: Project, count: int) -> list[Task]:
    """``count`` tasks of a project with drawn durations; what is left out passes its links on."""
    kept = sorted(draw.random.sample(range(len(project.tasks)), count))

    def before(index: int) -> set[int]:
        found: set[int] = set()
        for other in project.tasks[index][1]:
            found |= {other} if other in kept else before(other)
        return found

    return [
        Task(
            project.tasks[index][0],
            int(draw.number("2", "31")),
            tuple(project.tasks[other][0] for other in sorted(before(index))),
        )
        for index in kept
    ]


def duration_text(draw: Draw) -> Any:
    """A way to write working days, the same for one conversation: ``days -> text``."""
    return draw.choice(
        (
            lambda days: f"{days} days" if days != 1 else "1 day",
            lambda days: f"{days}d",
            lambda days: f"{days} working days" if days != 1 else "1 working day",
            lambda days: f"{days // 5} weeks" if days % 5 == 0 and days > 5 else f"{days} days",
        )
    )


def task_lines(draw: Draw, tasks: list[Task]) -> str:
    """The tasks as a user would list them."""
    days = duration_text(draw)
    style = draw.choice(("bullets", "rows", "inline"))
    lines = []
    for task in tasks:
        wait = ", ".join(task.after)
        if style == "bullets":
            lines.append(f"- {task.name}: {days(task.days)}" + (f", after {wait}" if wait else ""))
        elif style == "rows":
            lines.append(f"{task.name} | {days(task.days)} | {wait or '-'}")
        else:
            lines.append(f"{task.name} ({days(task.days)}" + (f"; needs {wait})" if wait else ")"))
    return "\n".join(lines)


def start_date(draw: Draw) -> datetime.date:
    """A day from 2025 to 2028, weekends included."""
    return datetime.date(2025, 1, 6) + datetime.timedelta(days=int(draw.number("0", "1399")))


def date_format(draw: Draw) -> str:
    """A strftime pattern."""
    return draw.choice(("%Y-%m-%d", "%d %B %Y", "%B %d, %Y", "%a %d %b %Y"))
