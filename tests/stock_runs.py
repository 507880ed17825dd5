"""Runs of tau2's own: its orchestrator, whose LLMs are scripted servers on loopback."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path

import pytest
from tau2.data_model.simulation import Results
from tau2.data_model.tasks import Task
from tau2.run import run_tasks
from tau2.user.user_simulator import DummyUser

from tests.scripted import LLMServer, in_turn


def run_stock_tau2(
    path: Path, domain: str, task: Task, agent: Sequence[dict], user: Sequence[dict] = ()
) -> Results:
    """Play a task as `tau2 run` does, in solo mode without a user, and write its results."""
    if not user and "tools" not in signature(DummyUser.__init__).parameters:
        pytest.skip("this tau2 gives its DummyUser tools, which that class does not take")
    with LLMServer(in_turn(*agent)) as agent_server, LLMServer(in_turn(*user, None)) as user_server:
        return run_tasks(
            domain,
            [task],
            agent="llm_agent" if user else "llm_agent_solo",
            user="user_simulator" if user else "dummy_user",
            llm_agent="openai/scripted",
            llm_args_agent={"base_url": agent_server.base_url, "api_key": "EMPTY"},
            llm_user="openai/scripted",
            llm_args_user={"base_url": user_server.base_url, "api_key": "EMPTY"},
            save_to=path,
            console_display=False,
            log_level="CRITICAL",
        )
