from types import SimpleNamespace

from areal.infra.staleness_manager import StalenessManager

from examples.tau2.trainer import PATIENCE, Tau2PPOTrainer

BATCH = 3


def test_a_run_whose_groups_are_all_rejected_is_a_complaint():
    """AReaL counts the groups; the controller and the scheduler, which need a run, are left out."""
    manager = StalenessManager(
        SimpleNamespace(get_version=lambda: 0), max_concurrent_rollouts=8, consumer_batch_size=8, max_staleness=0
    )
    trainer = Tau2PPOTrainer.__new__(Tau2PPOTrainer)
    trainer.config = SimpleNamespace(train_dataset=SimpleNamespace(batch_size=BATCH))
    trainer.rollout = SimpleNamespace(staleness_manager=manager)
    trainer.scheduler = SimpleNamespace(_workers={})
    trainer._accepted = trainer._rejected = 0

    def play(verdict) -> str | None:
        manager.on_rollout_enqueued()
        manager.on_rollout_submitted()
        verdict()
        return trainer._complaint()

    complaints = [play(manager.on_rollout_rejected) for _ in range(PATIENCE * BATCH - 1)]
    complaints.append(play(manager.on_rollout_accepted))
    complaints += [play(manager.on_rollout_rejected) for _ in range(PATIENCE * BATCH)]
    assert complaints[:-1] == [None] * (len(complaints) - 1)
    assert complaints[-1].startswith(f"the last {PATIENCE * BATCH} groups were all rejected: ")
