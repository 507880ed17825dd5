// Shows the list of episodes: filters and sorts it, and marks the opened episode.

const COLUMNS = [
  ["step", (episode) => episode.step],
  ["task", (episode) => episode.task],
  ["reward", (episode) => episode.reward],
  ["termination", (episode) => episode.termination],
  ["steps", (episode) => episode.steps],
];

function listEntry(episode, index) {
  const notes = [];
  if (episode.trial !== null) notes.push(`trial ${episode.trial}`);
  else if (episode.purpose === "eval") notes.push("eval");
  if (episode.malformed) notes.push(`${episode.malformed} malformed`);
  return el(
    "a",
    { href: `#${index}`, tabIndex: -1 },
    el("span", {}, String(episode.step)),
    el(
      "span",
      {},
      ...breakable(episode.task),
      el("span", { className: "quiet" }, ...notes.map((note) => ` · ${note}`)),
    ),
    el("span", { className: rewardClass(episode.reward) }, number(episode.reward)),
    el("span", {}, ...breakable(episode.termination)),
    el("span", {}, String(episode.steps)),
  );
}

const links = episodes.map(listEntry);
const order = links.map((_, index) => index);
// this number of entries is laid out together, when one of them comes into view
const PAGE = 50;
let visible = order;
let sorted = ["", 1];

for (const [name, value] of COLUMNS) {
  const button = el("button", { type: "button", title: `sort by ${name}` }, name);
  button.addEventListener("click", () => {
    sorted = [name, sorted[0] === name ? -sorted[1] : 1];
    const key = order.map((_, index) => value(episodes[index]));
    order.sort((a, b) => ((key[a] > key[b]) - (key[a] < key[b])) * sorted[1] || a - b);
    showList();
  });
  byId("columns").append(button);
}

for (const kind of failureKinds.filter((kind) =>
  episodes.some((episode) => episode.failure_kinds.includes(kind)),
))
  filters.failure.append(el("option", {}, kind));

for (const reason of [...new Set(episodes.map((episode) => episode.termination))].sort())
  filters.termination.append(el("option", {}, reason));

// Shows the episodes that pass the filters, in the chosen order.
function showList() {
  const [, from, to] = /^\s*(\d+)\s*(?:[-–]\s*(\d+))?\s*$/.exec(filters.step.value) || [];
  const task = filters.task.value.toLowerCase();
  const acceptsReward = {
    "": () => true,
    solved: (reward) => reward >= 1,
    between: (reward) => reward > 0 && reward < 1,
    none: (reward) => reward <= 0,
  }[filters.reward.value];
  const isBadStep = filters.step.value.trim() && !from;
  filters.step.setCustomValidity(isBadStep ? "a step, e.g. 3, or a range, e.g. 2-8" : "");
  visible = order.filter((index) => {
    const episode = episodes[index];
    return (
      (!from || (episode.step >= +from && episode.step <= +(to || from))) &&
      episode.task.toLowerCase().includes(task) &&
      acceptsReward(episode.reward) &&
      (!filters.termination.value || episode.termination === filters.termination.value) &&
      (!filters.failure.value || episode.failure_kinds.includes(filters.failure.value)) &&
      (!filters.purpose.value || episode.purpose === filters.purpose.value) &&
      (!filters.malformed.checked || episode.malformed > 0)
    );
  });
  const pages = Array.from({ length: Math.ceil(visible.length / PAGE) }, (_, at) =>
    visible.slice(at * PAGE, (at + 1) * PAGE),
  );
  list.replaceChildren(...pages.map((page) => el("div", {}, ...page.map((index) => links[index]))));
  const all = `${episodes.length} episodes`;
  if (isBadStep) filters.count.value = filters.step.validationMessage;
  else
    filters.count.value = visible.length === episodes.length ? all : `${visible.length} of ${all}`;
  showFailures(visible);
  mark();
}

// Marks the opened episode. The Tab key enters the list there, or else at the first episode.
let marked = null;
function mark() {
  const [current] = opened();
  if (marked) marked.tabIndex = -1;
  marked?.removeAttribute("aria-current");
  marked = links[visible.includes(current) ? current : visible[0]];
  if (!marked) return;
  marked.tabIndex = 0;
  if (visible.includes(current)) marked.setAttribute("aria-current", "true");
}

filters.addEventListener("input", showList);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(showList));
