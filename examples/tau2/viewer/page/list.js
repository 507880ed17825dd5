// The list of episodes: filters, order, and the entry that has the focus.

const COLUMNS = [
  ["step", (episode) => episode.step],
  ["task", (episode) => episode.task],
  ["reward", (episode) => episode.reward],
  ["termination", (episode) => episode.termination],
  ["steps", (episode) => episode.steps],
];

function listEntry(episode, index) {
  const marks = [];
  if (episode.trial !== null) marks.push(`trial ${episode.trial}`);
  else if (episode.purpose === "eval") marks.push("eval");
  if (episode.malformed) marks.push(`${episode.malformed} malformed`);
  return el(
    "a",
    { href: `#${index}`, tabIndex: -1 },
    el("span", {}, String(episode.step)),
    el(
      "span",
      {},
      ...breakable(episode.task),
      el("span", { className: "quiet" }, ...marks.map((mark) => ` · ${mark}`)),
    ),
    el("span", { className: rewardClass(episode.reward) }, number(episode.reward)),
    el("span", {}, ...breakable(episode.termination)),
    el("span", {}, String(episode.steps)),
  );
}

const links = episodes.map(listEntry);
const order = links.map((_, index) => index);
// entries that are laid out together, when they come into view
const PAGE = 50;
let visible = order;
let sorted = ["", 1];

for (const [name, value] of COLUMNS) {
  const button = el("button", { type: "button", title: `sort by ${name}` }, name);
  button.addEventListener("click", () => {
    sorted = [name, sorted[0] === name ? -sorted[1] : 1];
    const key = order.map((_, index) => value(episodes[index]));
    order.sort((a, b) => ((key[a] > key[b]) - (key[a] < key[b])) * sorted[1] || a - b);
    show();
  });
  byId("columns").append(button);
}

for (const reason of [...new Set(episodes.map((episode) => episode.termination))].sort())
  filters.termination.append(el("option", {}, reason));

function show() {
  const [, from, to] = /^\s*(\d+)\s*(?:[-–]\s*(\d+))?\s*$/.exec(filters.step.value) || [];
  const task = filters.task.value.toLowerCase();
  const rewards = {
    "": () => true,
    solved: (r) => r >= 1,
    between: (r) => r > 0 && r < 1,
    none: (r) => r <= 0,
  }[filters.reward.value];
  const mistaken = filters.step.value.trim() && !from;
  filters.step.setCustomValidity(mistaken ? "a step, e.g. 3, or a range, e.g. 2-8" : "");
  visible = order.filter((index) => {
    const episode = episodes[index];
    return (
      (!from || (episode.step >= +from && episode.step <= +(to || from))) &&
      episode.task.toLowerCase().includes(task) &&
      rewards(episode.reward) &&
      (!filters.termination.value || episode.termination === filters.termination.value) &&
      (!filters.purpose.value || episode.purpose === filters.purpose.value) &&
      (!filters.malformed.checked || episode.malformed > 0)
    );
  });
  const pages = Array.from({ length: Math.ceil(visible.length / PAGE) }, (_, at) =>
    visible.slice(at * PAGE, (at + 1) * PAGE),
  );
  list.replaceChildren(...pages.map((page) => el("div", {}, ...page.map((index) => links[index]))));
  const all = `${episodes.length} episodes`;
  if (mistaken) filters.count.value = filters.step.validationMessage;
  else
    filters.count.value = visible.length === episodes.length ? all : `${visible.length} of ${all}`;
  mark();
}

// The Tab key enters the list at the open episode, or else at the first one.
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

filters.addEventListener("input", show);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(show));
