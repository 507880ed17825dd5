"""tau2's own way: episodes load and build what ours share, until the block ends."""

from tau2.domains.airline.data_model import FlightDB

from benchmarks.stock_tau2 import stock_tau2
from examples.tau2.episode import environment


def test_everything_is_built_anew_until_the_block_ends():
    names = ("find_task", "make_environment", "agent_tools", "register_environment")
    ours = {name: getattr(environment, name) for name in names}
    shared = environment.find_task("airline", "0")
    with stock_tau2():
        task = environment.find_task("airline", "0")
        assert task == shared and task is not shared
        assert environment.find_task("airline", "0") is not task
        built = environment.make_environment("airline", False)
        assert type(built.tools.db) is FlightDB
        tools = environment.agent_tools("airline")
        assert environment.agent_tools("airline")[0] is not tools[0]
        assert environment.register_environment("airline") == "airline"
    assert {name: getattr(environment, name) for name in names} == ours
