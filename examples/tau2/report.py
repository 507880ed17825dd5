"""Look at a run: its curves, and every conversation beside what its task expects.

    python3 examples/tau2/report.py <run folder>

The page is one HTML file that needs no network. The folder is that of a training run, finished or
running (`<fileroot>/logs/<user>/<experiment>/<trial>`), that of an evaluation (`evaluations/...`),
or any `output_dir` of `Tau2AgentWorkflow`.
"""

import argparse
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from examples.tau2 import quiet_tau2

    quiet_tau2()
    # without a network, each episode would wait for the hub that has its task
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

from examples.tau2.data.files import expanded_path
from examples.tau2.episode.failures import missing_package
from examples.tau2.episode.tau2_data import require_data


def main(argv: list[str]) -> int:
    """Run the command, and return its exit status.

    0: the page is written, 2: the folder has no records, a file cannot be read or written, or a
    package is missing.
    """
    try:
        from examples.tau2.viewer.report_page import MAX_EPISODES, write_report
    except ModuleNotFoundError as error:
        print(missing_package(error), file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=expanded_path, metavar="run folder")
    output_help = "file or folder for the page (default: report.html in the run folder)"
    parser.add_argument("--output", type=expanded_path, help=output_help)
    episodes_help = f"episodes at most, in groups from all over the run (default: {MAX_EPISODES})"
    parser.add_argument("--episodes", type=int, default=MAX_EPISODES, help=episodes_help)
    options = parser.parse_args(argv)
    if options.episodes < 1:
        parser.error("--episodes must be at least 1")
    try:
        require_data()
        print(write_report(options.folder, options.output, options.episodes))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
