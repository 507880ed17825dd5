"""The data gateway passes a request to its instance, or says why it cannot."""

import httpx

from aenv.examples.tau2_rl.service import INSTANCE_ID
from tests.aenv.control_api import call_instance, create_instance, end_instance


def test_the_gateway_answers_the_health_check_of_an_instance(aenv_service):
    instance = create_instance(aenv_service)
    headers = {INSTANCE_ID: instance["id"]}
    health = httpx.get(f"{aenv_service}:8081/health", headers=headers)
    assert health.json() == {"success": True, "data": {"status": "healthy"}}
    end_instance(aenv_service, instance)


def test_a_request_to_an_unknown_instance_is_refused(aenv_service):
    answer = call_instance(aenv_service, "tau2-env-0")
    assert answer.status_code == 404
    assert answer.json() == {"success": False, "error": "no instance 'tau2-env-0'"}
