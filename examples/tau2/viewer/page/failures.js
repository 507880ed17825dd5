// Shows how many of the listed episodes failed in which way, by domain and by task.

const failures = byId("failures");
// the table has the tasks with the most unsolved episodes, up to this number
const MAX_TASKS = 100;

// Counts the episodes of each domain, or task: in all, unsolved, and by kind of failure.
function countFailures(indices, nameOf) {
  const rows = new Map();
  for (const index of indices) {
    const episode = episodes[index];
    const name = nameOf(episode);
    if (!rows.has(name)) rows.set(name, { name, episodes: 0, unsolved: 0, kinds: {} });
    const row = rows.get(name);
    row.episodes += 1;
    row.unsolved += episode.reward < 1;
    for (const kind of episode.failure_kinds) row.kinds[kind] = (row.kinds[kind] || 0) + 1;
  }
  return [...rows.values()]
    .filter((row) => row.unsolved)
    .sort((a, b) => b.unsolved - a.unsolved);
}

function showFailures(indices) {
  if (!failures.open) return;
  const domains = countFailures(indices, (episode) => episode.domain);
  const tasks = countFailures(indices, (episode) => episode.task);
  const kinds = failureKinds.filter((kind) => domains.some((row) => row.kinds[kind]));
  const line = (row) => [
    breakable(row.name),
    `${row.unsolved} of ${row.episodes}`,
    ...kinds.map((kind) => String(row.kinds[kind] || 0)),
  ];
  const parts = [
    ["domain", domains],
    ["task", tasks.slice(0, MAX_TASKS)],
  ].map(([name, rows]) => table([name, "unsolved", ...kinds], rows.map(line)));
  const more = tasks.length - MAX_TASKS;
  failures.lastElementChild.replaceChildren(
    ...(domains.length ? parts : ["none"]),
    more > 0 ? el("p", {}, `${more} more tasks`) : "",
  );
}

failures.addEventListener("toggle", () => showFailures(visible));
