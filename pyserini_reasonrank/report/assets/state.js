// The data of the page, what the reader has chosen, and the address (#/ and #/q/QID).

const data = JSON.parse(document.getElementById("overview-data").textContent);
const queryByQid = new Map(data.queries.map((query) => [query.qid, query]));
const measures = data.evaluation ? data.evaluation.measures : [];

const state = {
  left: 0, // the list before
  right: 0, // the list after
  measure: 0,
  search: "",
  only: "all",
  sort: { column: "change", down: true },
  page: 0,
  lists: null, // which lists a narrow screen shows
  bump: 20,
  steps: true,
};

function runOf(list) {
  const number = data.lists[list].run;
  return number === null || number === undefined ? null : data.runs[number];
}

// the list that another is compared with at first: its first stage, or else the first list
function baseOf(list) {
  const run = runOf(list);
  return run && run.first !== null ? run.first : 0;
}

function choose(changes) {
  Object.assign(state, changes);
  draw();
}

const runNumber = () => data.lists[state.right].run ?? null;
const chosenRun = () => runOf(state.right);

// the value of the chosen measure for a query in a list; null without judgments
const valueOf = (query, list) => (query.scores ? query.scores[state.measure][list] : null);
const changeOf = (query) => (query.scores ? valueOf(query, state.right) - valueOf(query, state.left) : null);
const callsOf = (query) => (runNumber() === null ? null : query.calls[runNumber()]);

// how far the reranker moved a query's list: only known against the run's own first stage
const movedOf = (query) => {
  const run = chosenRun();
  return run && run.first === state.left ? query.moved[runNumber()] : null;
};

const unpacked = new Map();

// the details of a query: gzipped JSON in base64, in an element of its own
async function detailsOf(query) {
  if (query.details === null) return null;
  if (!unpacked.has(query.details)) {
    if (document.readyState === "loading")
      await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
    const packed = atob(document.getElementById(`details-${query.details}`).textContent);
    const bytes = new Uint8Array(packed.length);
    for (let place = 0; place < packed.length; place++) bytes[place] = packed.charCodeAt(place);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const found = JSON.parse(await new Response(stream).text());
    if (unpacked.size > 20) unpacked.delete(unpacked.keys().next().value);
    unpacked.set(query.details, found);
  }
  return unpacked.get(query.details);
}

const addressOf = (query) => `#/q/${encodeURIComponent(query.qid)}`;

function openedQuery() {
  if (!location.hash.startsWith("#/q/")) return null;
  try {
    return queryByQid.get(decodeURIComponent(location.hash.slice(4))) || null;
  } catch {
    return null; // not an address of this page
  }
}

// the light or dark colours: those of the system until a reader chooses
const THEMES = { auto: "◐ auto", light: "○ light", dark: "● dark" };

function storedTheme() {
  try {
    return localStorage.getItem("reasonrank-theme") || "auto";
  } catch {
    return "auto"; // a page opened from a file may have no storage
  }
}

function setTheme(name) {
  document.documentElement.dataset.theme = name in THEMES ? name : "auto";
  document.getElementById("theme").textContent = THEMES[name] || THEMES.auto;
  try {
    localStorage.setItem("reasonrank-theme", name);
  } catch {
    // it then lasts as long as the page is open
  }
}

function nextTheme() {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
}
