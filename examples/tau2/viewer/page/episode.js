// Shows an opened episode: its conversation, and how it differs from what the task expects. Two
// episodes of a group can stand side by side.

// Reads the conversation of an episode from its chunk.
async function load(index) {
  if (document.readyState === "loading")
    await new Promise((done) => addEventListener("DOMContentLoaded", done));
  const { chunk, position } = episodes[index];
  const bytes = Uint8Array.from(atob(byId(`chunk-${chunk}`).textContent), (character) =>
    character.charCodeAt(0),
  );
  const chunkReader = new Response(
    new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")),
  );
  const conversations = await chunkReader.json();
  return conversations[position];
}

// Makes a part that opens with a click on its summary.
function folded(className, summary, ...content) {
  return el("details", { className }, el("summary", {}, ...[summary].flat()), ...content);
}

const brief = (text, length = 90) => (text.length > length ? `${text.slice(0, length)} …` : text);
const args = (values) =>
  Object.entries(values)
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .join(", ");

// Makes the elements of a message's text; thoughts are folded.
function text(content) {
  const parts = content.split(/(<think>[\s\S]*?(?:<\/think>|$))/);
  return parts
    .filter((part) => part.trim())
    .map((part) =>
      part.startsWith("<think>")
        ? folded("think", "thinking", el("pre", {}, part.replace(/<\/?think>/g, "").trim()))
        : el("div", { className: "text" }, part.trim()),
    );
}

// Makes the element of a message. The names of the tools that it calls go into `names`, by call id.
function message(said, names) {
  if (said.role === "tool") {
    const summary = [
      `${said.error ? "error of" : "result of"} ${names.get(said.id) || "a tool"}: `,
      el("span", { className: "quiet" }, brief(said.text)),
    ];
    return el(
      "div",
      { className: "message tool" },
      folded(said.error ? "bad" : "", summary, el("pre", {}, said.text)),
    );
  }
  const who = said.role === "assistant" ? "agent" : said.role;
  const calls = said.calls.map((call) => {
    names.set(call.id, call.name);
    return folded(
      "",
      ["→ ", el("b", {}, call.name), ` ${brief(call.brief)}`],
      el("pre", {}, call.arguments),
    );
  });
  const head = [el("b", {}, who)];
  if (said.tokens) {
    if (typeof said.reward === "number")
      head.push(
        el("span", { className: rewardClass(said.reward) }, `reward ${number(said.reward)}`),
      );
    if (said.malformed)
      head.push(
        el("span", { className: "bad" }, `format error: ${said.malformed.replaceAll("_", " ")}`),
      );
    if (said.finish === "length") head.push(el("span", { className: "bad" }, "cut off"));
    head.push(
      el("span", {}, `${said.tokens[0]} + ${said.tokens[1]} tokens`),
      el("span", {}, `${said.seconds} s`),
    );
  }
  return el(
    "div",
    { className: `message ${said.role}`, tabIndex: -1 },
    el("div", { className: "head" }, ...head),
    ...text(said.text),
    ...calls,
  );
}

function table(names, lines) {
  const head = el("tr", {}, ...names.map((name) => el("th", { scope: "col" }, name)));
  return el(
    "table",
    {},
    el("thead", {}, head),
    el(
      "tbody",
      {},
      ...lines.map((cells) =>
        el("tr", {}, ...cells.map((cell, at) => el("td", { title: names[at] }, ...[cell].flat()))),
      ),
    ),
  );
}

function actions(compared, messages) {
  const counts = ["matched", "differs", "missing", "extra"].map((status) => [
    status,
    compared.filter((action) => action.status === status).length,
  ]);
  const called = (call) =>
    call
      ? [
          el("b", {}, ...breakable(call.name)),
          `(${brief(call.brief, 300)})`,
          call.requestor === "user" ? " by the user" : "",
        ]
      : "—";
  const lines = compared.map((action) => {
    const status = el(
      "span",
      { className: "status " + ({ matched: "good", extra: "quiet" }[action.status] || "bad") },
      action.status,
    );
    if (!action.done) return [status, called(action.expected), "—"];
    const button = el(
      "button",
      { type: "button", title: "show it in the conversation" },
      `${action.message + 1}`,
    );
    button.addEventListener("click", () => {
      reading.querySelectorAll(".here").forEach((node) => node.classList.remove("here"));
      messages[action.message].classList.add("here");
      messages[action.message].scrollIntoView({ block: "center" });
      messages[action.message].focus();
    });
    return [status, called(action.expected), [...called(action.done), " ", button]];
  });
  const summary = `Actions: ${
    counts
      .filter(([, count]) => count)
      .map(([status, count]) => `${count} ${status}`)
      .join(", ") || "none"
  }`;
  const details = folded("block", summary, table(["", "expected", "done (message)"], lines));
  details.open = true;
  return details;
}

function database(differences) {
  const value = (difference, side) =>
    side in difference ? el("pre", {}, difference[side]) : "—";
  const lines = differences.map((difference) => [
    breakable(difference.path),
    value(difference, "expected"),
    value(difference, "left"),
  ]);
  if (!lines.length) return el("p", { className: "block good" }, "Database: as expected");
  const details = folded(
    "block",
    `Database: ${lines.length} difference${lines.length > 1 ? "s" : ""}`,
    table(["path", "expected", "left"], lines),
  );
  details.open = lines.length <= 12;
  return details;
}

function checks(reward) {
  const lines = [
    ...Object.entries(reward.reward_breakdown || {}),
    ...(reward.env_assertions || []).map((check) => [
      `${check.env_assertion.func_name}(${args(check.env_assertion.arguments)})`,
      check.met ? "met" : "not met",
    ]),
    ...(reward.communicate_checks || []).map((check) => [
      `says "${check.info}"`,
      check.met ? "met" : "not met",
    ]),
    ...(reward.nl_assertions || []).map((check) => [
      check.nl_outcome || check.nl_assertion,
      check.met ? "met" : "not met",
    ]),
  ];
  const basis = reward.reward_breakdown ? `, by ${reward.reward_basis.join(" × ")}` : "";
  if (reward.info?.note) lines.push([reward.info.note, ""]);
  return folded(
    "block",
    `Reward ${number(reward.reward)}${basis}`,
    table(
      ["", ""],
      lines.map(([name, met]) => [name, String(met)]),
    ),
  );
}

// Two messages are equal if their keys are equal.
const messageKey = (said) =>
  JSON.stringify([
    said.role,
    said.text,
    (said.calls || []).map((call) => [call.name, call.arguments]),
  ]);

function episodeSection(index, shown, other) {
  const episode = episodes[index];
  const names = new Map();
  const messages = shown.messages.map((said) => message(said, names));
  const firstDifference = other
    ? shown.messages.findIndex(
        (said, at) => !other.messages[at] || messageKey(said) !== messageKey(other.messages[at]),
      )
    : -1;
  const spoken = messages.flatMap((node, at) =>
    at === firstDifference
      ? [el("div", { className: "parting" }, "from here on, the two differ"), node]
      : [node],
  );
  return el(
    "section",
    {},
    el("h3", {}, ...breakable(episode.task)),
    el(
      "div",
      { className: "tags" },
      el("span", { className: rewardClass(episode.reward) }, `reward ${number(episode.reward)}`),
      el(
        "span",
        {},
        episode.termination +
          (episode.failure && episode.failure !== episode.termination
            ? ` (${episode.failure})`
            : ""),
      ),
      el("span", {}, episode.domain),
      el(
        "span",
        {},
        (episode.trial === null ? `${episode.purpose}, step ${episode.step}, ` : "") + label(index),
      ),
      el(
        "span",
        {},
        `${episode.steps} steps, ${episode.turns} turns, ` +
          `${episode.tokens} tokens, ${episode.seconds} s`,
      ),
      episode.malformed ? el("span", { className: "bad" }, `${episode.malformed} malformed`) : "",
      ...episode.failure_kinds.map((kind) =>
        el("span", { className: "bad" }, kind.replaceAll("_", " ")),
      ),
    ),
    shown.problem ? el("p", { className: "warn" }, shown.problem) : "",
    shown.task ? folded("block", "Task", el("pre", {}, shown.task)) : "",
    shown.reward ? checks(shown.reward) : "",
    shown.actions ? actions(shown.actions, messages) : "",
    shown.database ? database(shown.database) : "",
    ...spoken,
  );
}

// Episodes are of one group, and can be compared, if their keys are equal.
const groupKey = (episode) =>
  JSON.stringify([episode.purpose, episode.step, episode.domain, episode.task]);
const groups = new Map(episodes.map((episode) => [groupKey(episode), []]));
episodes.forEach((episode, index) => groups.get(groupKey(episode)).push(index));
const groupOf = (index) => groups.get(groupKey(episodes[index]));

// Names an episode within its group.
function label(index) {
  const { trial } = episodes[index];
  return trial === null ? `episode ${groupOf(index).indexOf(index) + 1}` : `trial ${trial}`;
}

// Makes the bar above an opened episode; `compared` is the episode beside it, if there is one.
function bar(index, compared) {
  const others = groupOf(index).filter((other) => other !== index);
  const close = el("a", { href: "#browser" }, "← all episodes");
  if (!others.length) return el("div", { className: "tags" }, close);
  const select = el(
    "select",
    { id: "compare" },
    el("option", { value: "" }, "nothing"),
    ...others.map((other) =>
      el(
        "option",
        { value: other, selected: other === compared },
        `${label(other)}: reward ${number(episodes[other].reward)}, ${episodes[other].steps} steps`,
      ),
    ),
  );
  select.addEventListener(
    "change",
    () => (location.hash = select.value ? `${index}+${select.value}` : `${index}`),
  );
  return el(
    "div",
    { className: "tags" },
    close,
    el("label", {}, `compare with (${others.length} more of the group) `, select),
  );
}

// Reads the indices of the opened episodes from the address: none, one, or two side by side.
const opened = () =>
  (/^#(\d+)(?:\+(\d+))?$/.exec(location.hash) || [])
    .slice(1)
    .filter(Boolean)
    .map(Number)
    .filter((index) => index < episodes.length);

// Shows the opened episodes.
async function showOpened() {
  const indices = opened();
  mark();
  document.body.classList.toggle("reading", indices.length > 0);
  document.body.classList.toggle("comparing", indices.length > 1);
  if (!indices.length) return reading.replaceChildren(...placeholder);
  const loaded = await Promise.all(indices.map(load));
  // the user has opened another episode meanwhile
  if (String(indices) !== String(opened())) return;
  const columns = indices.map((index, at) => episodeSection(index, loaded[at], loaded[1 - at]));
  const comparing = document.activeElement.id === "compare";
  reading.replaceChildren(bar(...indices), el("div", { className: "columns" }, ...columns));
  reading.scrollTop = 0;
  if (comparing) byId("compare").focus();
  if (matchMedia("(max-width: 60rem)").matches) byId("browser").scrollIntoView();
}

addEventListener("hashchange", showOpened);

addEventListener("keydown", (event) => {
  const typing = document.activeElement.matches("input:not([type=checkbox]), select");
  if (event.ctrlKey || event.altKey || event.metaKey || (typing && event.key !== "Escape")) return;
  const step = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && (event.key.length === 1 || list.contains(document.activeElement))) {
    const at = visible.indexOf(opened()[0] ?? -1);
    const next = visible[at < 0 ? 0 : Math.min(Math.max(at + step, 0), visible.length - 1)];
    if (next === undefined) return;
    location.hash = `${next}`;
    links[next].focus();
    links[next].scrollIntoView({ block: "nearest" });
  } else if (event.key === "/") byId("filters").task.focus();
  else if (event.key === "Escape")
    typing ? document.activeElement.blur() : (location.hash = "browser");
  else if (event.key === "c" && byId("compare")) byId("compare").focus();
  else if (event.key === "f") {
    const all = [...reading.querySelectorAll(".message details")];
    const open = all.some((details) => !details.open);
    all.forEach((details) => (details.open = open));
  } else return;
  event.preventDefault();
});
