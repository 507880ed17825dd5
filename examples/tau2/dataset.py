"""Data sets of tau2 tasks: rows of plain data that name a task, which the workers look up by themselves."""

from datasets import Dataset

from examples.tau2 import environment


def split_name(path: str) -> str:
    """The split of a data set path `tau2/<split>`.

    Raises:
        ValueError: the path has another form.
    """
    prefix, _, split = path.partition("/")
    if prefix != "tau2" or not split or "/" in split:
        raise ValueError(f"{path!r} is not of the form tau2/<split>, e.g. tau2/train")
    return split


def task_ids(domain: str, path: str, solo_mode: bool = False) -> list[str]:
    """Ids of the tasks of a split; in solo mode those that tau2's solo agent takes (the others have no ticket).

    Raises:
        ValueError: the path has another form than `tau2/<split>`, the domain has no such split, or no task is left.
    """
    splits = environment.task_splits(domain)
    split = split_name(path)
    if split not in splits:
        raise ValueError(f"domain {domain} has no split {split!r}; it has: {', '.join(splits)}")
    tasks = environment.load_tasks(domain)
    # the file's order, as in tau2's own loaders
    members = set(splits[split])
    ids = [id for id in tasks if id in members and (not solo_mode or environment.playable_solo(tasks[id]))]
    if not ids:
        raise ValueError(f"split {split!r} of domain {domain} has no task{' for solo mode' if solo_mode else ''}")
    return ids


def tau2_dataset(domain: str, path: str, solo_mode: bool = False, full_batches_of: int = 1) -> Dataset:
    """Rows `{"task_id": str}` of the split `path`, e.g. `tau2/train`.

    AReaL's loader drops an incomplete batch, and needs a first one: for training, tasks are repeated in turn up to a
    multiple of `full_batches_of`. With 1, as for validation, no task is ever repeated.
    """
    ids = task_ids(domain, path, solo_mode)
    missing = -len(ids) % full_batches_of
    return Dataset.from_list([{"task_id": ids[i % len(ids)]} for i in range(len(ids) + missing)])
