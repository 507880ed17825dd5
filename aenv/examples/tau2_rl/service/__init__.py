"""A local AEnvironment service: instances of `tau2-env` behind the API of the real service."""

from pathlib import Path

# the repository's root
ROOT = Path(__file__).resolve().parents[4]
# the folder of the environment that instances serve
ENVIRONMENT_FOLDER = ROOT / "aenv/examples/tau2_rl/tau2-env"
# the SDK knows no other ports
CONTROL_PORT = 8080
DATA_PORT = 8081
# the header that names the instance of a request to the gateway
INSTANCE_ID = "AEnvCore-EnvInstance-ID"
