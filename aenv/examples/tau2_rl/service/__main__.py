"""Run a local AEnvironment service, for machines that have none.

    python -m aenv.examples.tau2_rl.service

The scheduler listens on port 8080 and starts instances. The gateway listens on port 8081 and passes
requests on to instances. The SDK knows no other ports: for a second service on the same machine use
another `--host`, e.g. 127.0.0.2. When the service ends, in any way, its instances end with it.
"""

import argparse
import os
import sys

from aenv.examples.tau2_rl.service.scheduler import MAX_INSTANCES
from aenv.examples.tau2_rl.service.server import run_service
from examples.tau2.episode.tau2_data import data_problem
from examples.tau2.episode.variables import variable_problems


def main(argv: list[str]) -> int:
    """Run the service until SIGINT or SIGTERM; print the line that tells the SDK its address."""
    parser = argparse.ArgumentParser(
        prog="python -m aenv.examples.tau2_rl.service",
        description="A local AEnvironment service with tau2-env.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="any of 127.x.y.z is this machine (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--max_instances",
        type=int,
        default=MAX_INSTANCES,
        help=f"instances at a time; more wait (default: {MAX_INSTANCES})",
    )
    options = parser.parse_args(argv)
    if options.max_instances < 1:
        parser.error("--max_instances must be at least 1")
    problems = list(variable_problems())
    if os.environ.get("TAU2_DATA_DIR"):
        problems += filter(None, [data_problem()])
    if problems:
        parser.error("\n".join(problems))
    return run_service(options.host, options.max_instances, print_address)


def print_address(url: str) -> None:
    """Print the shell command that points the SDK at the service."""
    print(f"export AENV_SYSTEM_URL={url}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
