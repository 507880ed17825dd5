"""Completes the tickets of solo mode that lack what the agent must know to solve the task.

Some of telecom's tasks expect the agent to refuel data, which the policy allows only if the
customer wants it. tau2's user simulator reads in its scenario that the customer does. Solo mode
shows no scenario, and the tickets of the tasks about MMS do not say it.
"""

from collections.abc import Iterable

from tau2.data_model.tasks import Task

from examples.tau2.episode.environment import expected_actions


def completed_ticket(task: Task) -> str | None:
    """Return the ticket with what it lacks; None if the task has no ticket."""
    amount = _unmentioned_refuel(task)
    if amount is None:
        return task.ticket
    return f"{task.ticket} They agree to refuel {amount} GB of data if this is needed."


def with_completed_ticket(task: Task) -> Task:
    """Return the task as solo mode plays it: the given one, or a copy with a completed ticket."""
    ticket = completed_ticket(task)
    return task if ticket == task.ticket else task.model_copy(update={"ticket": ticket})


def count_completed(tasks: Iterable[Task]) -> int:
    """Count the tasks whose tickets lack something."""
    return sum(completed_ticket(task) != task.ticket for task in tasks)


def _unmentioned_refuel(task: Task) -> float | None:
    """Return the gigabytes that the task expects to be refuelled, if its ticket is silent on it."""
    if task.ticket is None or "refuel" in task.ticket.lower():
        return None
    amounts = (a.arguments["gb_amount"] for a in expected_actions(task) if a.name == "refuel_data")
    return next(amounts, None)
