"""The page's file: what goes into it, and what is said about records that cannot be read."""

import json
import shutil

from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.viewer.report_page import key_figures, write_report
from examples.tau2.viewer.sources import EvaluationSummary


def test_odd_records_are_named_and_the_rest_is_shown(training_run, evaluation, tmp_path):
    odd = tmp_path / "odd"
    shutil.copytree(training_run, odd)
    good = (training_run / "statistics.jsonl").read_text().splitlines()[:2]
    record = '{"step": 3, "rollout/episode/reward": NaN, "timeperf/x": null}'
    lines = [*good, "", "{}", "[]", "junk", record, ""]
    (odd / "statistics.jsonl").write_text("\n".join(lines))
    (odd / "generated/train/0/x-1.json").symlink_to("nowhere")
    page = write_report(odd).read_text()
    assert "4 records cannot be read" in page
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["charts"][0]["data"][0]["y"] == [0.5, 0.5, None] and len(data["episodes"]) == 13
    odd = tmp_path / "evaluation"
    shutil.copytree(evaluation, odd)
    trials = (odd / "episodes.jsonl").read_bytes().splitlines(keepends=True)[:2]
    (odd / "episodes.jsonl").write_bytes(b"".join([b"junk\n", *trials, b"\n"]))
    # the output is a folder, so the page goes into it
    page = write_report(odd, tmp_path).read_text()
    assert "1 records cannot be read" in page
    # the summary is of other episodes
    assert "[0.400, 0.700]" not in page
    assert (tmp_path / "report.html").exists()
    assert f"<dt>tau2</dt><dd>{tau2_source(['mock'])}</dd>" in page


def test_files_that_cannot_be_read_are_named_on_the_page(training_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(training_run, folder)
    next(folder.glob("generated/train/0/*.json")).write_text("{")
    page = write_report(folder).read_text()
    assert "1 records cannot be read" in page and list(folder.glob("*.partial")) == []


def test_the_loss_of_a_supervised_run_is_a_key_figure():
    records = [{"step": 1, "seconds": 1.0, "sft/loss/avg": 0.5}]
    assert "loss, first → last" in key_figures(records, [], EvaluationSummary())


def test_an_evaluation_shows_what_its_llms_used():
    usage = {"judge": {"prompt_tokens": 1000.0, "completion_tokens": 50.0, "usd": 0.25}}
    figures = key_figures([], [], EvaluationSummary(usage=usage))
    assert figures == {"used by the judge": "1,050 tokens, 0.2500 USD"}
