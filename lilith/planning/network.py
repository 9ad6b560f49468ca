"""The network of a project: order, cycles, and the critical path method.

Kelley and Walker, "Critical-path planning and scheduling", 1959. Times are slots of working time
since the start; a finish is the position after the last slot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import networkx as nx

from lilith.planning.project import PlanningError, Project
from lilith.planning.timeline import Timeline


class Link(NamedTuple):
    """``after`` starts at least ``lag`` slots behind the finish (FS) or start (SS) of ``before``.

    ``why``: dependency, must-follow, or the resource that both need.
    """

    before: str
    after: str
    kind: str
    lag: int
    why: str


@dataclass(frozen=True)
class Network:
    """Tasks in topological order, and the links between them.

    Attributes:
      not_before: the first slot of tasks that have a first day.
      incoming, outgoing: the links of each task.
    """

    order: tuple[str, ...]
    not_before: Mapping[str, int]
    incoming: Mapping[str, tuple[Link, ...]]
    outgoing: Mapping[str, tuple[Link, ...]]

    @property
    def links(self) -> list[Link]:
        """All links, those out of a task behind all those into it."""
        return [link for task in self.order for link in self.outgoing[task]]


class Times(NamedTuple):
    """Earliest and latest times of a task.

    ``total_slack`` may be lost without moving the end of the project, ``free_slack`` without moving
    any other task.
    """

    early_start: int
    early_finish: int
    late_start: int
    late_finish: int
    total_slack: int
    free_slack: int


@dataclass(frozen=True)
class CriticalPath:
    """What the method finds.

    Attributes:
      times: of every task; end: the finish of the project.
      path: one longest chain, first task first. Where its first task starts late, that is because
        of its first day.
    """

    times: Mapping[str, Times]
    end: int
    path: tuple[str, ...]

    @property
    def critical(self) -> list[str]:
        """The tasks without slack: those of all longest chains."""
        return [name for name, own in self.times.items() if own.total_slack == 0]


def project_links(project: Project, timeline: Timeline) -> list[Link]:
    """The links that the tasks declare."""
    links = []
    for task in project.tasks:
        for own in task.after:
            links.append(
                Link(own.task, task.id, own.kind, timeline.to_slots(own.lag), "dependency")
            )
        links += [Link(name, task.id, "FS", 0, "must-follow") for name in task.must_follow]
    return links


def build_network(project: Project, timeline: Timeline, links: Collection[Link]) -> Network:
    """Order the tasks: topologically, otherwise as given.

    Raises:
      PlanningError: tasks wait for each other in a circle; the message names them in order.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(task.id for task in project.tasks)
    graph.add_edges_from((link.before, link.after) for link in links)
    place = {task.id: i for i, task in enumerate(project.tasks)}
    if not nx.is_directed_acyclic_graph(graph):
        circle = [edge[0] for edge in nx.find_cycle(graph)]
        first = min(range(len(circle)), key=lambda i: place[circle[i]])
        circle = circle[first:] + circle[:first]
        raise PlanningError(
            "dependency_cycle", "tasks",
            f"tasks wait for each other in a circle: {' → '.join([*circle, circle[0]])}",
            "take one of these dependencies out",
        )  # fmt: skip
    order = tuple(nx.lexicographical_topological_sort(graph, key=place.__getitem__))
    incoming: dict[str, list[Link]] = {name: [] for name in order}
    outgoing: dict[str, list[Link]] = {name: [] for name in order}
    for link in links:
        incoming[link.after].append(link)
        outgoing[link.before].append(link)
    return Network(
        order,
        {
            task.id: timeline.first_day(task.not_before) * timeline.slots
            for task in project.tasks
            if task.not_before is not None
        },
        {name: tuple(own) for name, own in incoming.items()},
        {name: tuple(own) for name, own in outgoing.items()},
    )


def ready_at(link: Link, starts: Mapping[str, int], finishes: Mapping[str, int]) -> int:
    """The first slot in which ``link`` lets its task start."""
    return (finishes if link.kind == "FS" else starts)[link.before] + link.lag


def critical_path(network: Network, durations: Mapping[str, int]) -> CriticalPath:
    """Forward and backward pass for ``durations`` in slots, with people without limit."""
    starts: dict[str, int] = {}
    finishes: dict[str, int] = {}
    for name in network.order:
        ready = [ready_at(link, starts, finishes) for link in network.incoming[name]]
        starts[name] = max([network.not_before.get(name, 0), *ready])
        finishes[name] = starts[name] + durations[name]
    end = max(finishes.values())
    latest: dict[str, int] = {}
    times: dict[str, Times] = {}
    for name in reversed(network.order):
        late, free = end, end - finishes[name]
        for link in network.outgoing[name]:
            gap = starts[link.after] - ready_at(link, starts, finishes)
            ahead = latest[link.after] - link.lag
            late = min(late, ahead if link.kind == "FS" else ahead + durations[name])
            free = min(free, gap)
        latest[name] = late - durations[name]
        total = late - finishes[name]
        times[name] = Times(starts[name], finishes[name], latest[name], late, total, free)
    return CriticalPath(
        {name: times[name] for name in network.order},
        end,
        driving_chain(network, starts, finishes),
    )


def driving_chain(
    network: Network,
    starts: Mapping[str, int],
    finishes: Mapping[str, int],
    begin: Callable[[str, int], int] = lambda name, ready: ready,
) -> tuple[str, ...]:
    """Back from the task that ends last, each time to what it waited for until it could start.

    ``begin(name, ready)`` is the first slot from ``ready`` on in which the people of a task work.
    """
    name = max(reversed(network.order), key=lambda own: finishes[own])  # an end milestone, if any
    chain = [name]
    while True:
        waits = [
            link
            for link in network.incoming[name]
            if begin(name, ready_at(link, starts, finishes)) == starts[name]
        ]
        if not waits:
            return tuple(reversed(chain))
        name = waits[0].before
        chain.append(name)
