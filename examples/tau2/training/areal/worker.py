"""Runs AReaL's worker, or its proxy, on a machine without a network: see `hosts`."""

import runpy
import sys

from examples.tau2.training.areal.hosts import RPC_SERVER, use_loopback_without_network

PROXY = "areal.experimental.openai.proxy.proxy_rollout_server"

if __name__ == "__main__":
    use_loopback_without_network()
    role = sys.argv[sys.argv.index("--role") + 1]
    module = PROXY if role.startswith("proxy") else RPC_SERVER
    runpy.run_module(module, run_name="__main__", alter_sys=True)
