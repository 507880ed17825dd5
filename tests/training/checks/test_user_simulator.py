"""Options with which the user LLM cannot be called."""

from examples.tau2.training.checks.user_simulator import check_user_simulator

NO_SERVER = "econfig.user_llm_base_url=null"


def test_neither_a_model_nor_a_server(airline):
    (problem,) = check_user_simulator(airline("econfig.user_llm=null", NO_SERVER))
    assert problem.startswith("econfig.user_llm is not set")


def test_a_server_of_ones_own_need_not_be_told_its_model(airline):
    assert list(check_user_simulator(airline("econfig.user_llm=null"))) == []


def test_solo_mode_needs_no_model(airline):
    config = airline("econfig.user_llm=null", NO_SERVER, "econfig.solo_mode=true")
    assert list(check_user_simulator(config)) == []


def test_arguments_that_the_simulation_sets(airline):
    (problem,) = check_user_simulator(airline("econfig.user_llm_args.stream=true"))
    assert problem == "econfig.user_llm_args: it must not set stream"
