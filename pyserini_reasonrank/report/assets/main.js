// Drawing: what the address and the choices say, and again when they change.

let widthWatchers = []; // [holder, function that draws a chart in it]
let afterDrawing = []; // what the reader does not see at first is added when the rest is on the screen
let turn = 0;

const observer = new ResizeObserver((entries) => {
  for (const entry of entries) {
    const watcher = widthWatchers.find(([holder]) => holder === entry.target);
    if (watcher && watcher[2] !== Math.round(entry.contentRect.width)) {
      watcher[2] = Math.round(entry.contentRect.width);
      watcher[1]();
    }
  }
});

async function draw() {
  const mine = ++turn;
  const main = document.getElementById("main");
  const query = openedQuery();
  observer.disconnect();
  closeCard();
  widthWatchers = [];
  afterDrawing = [];
  drawChoices();
  const content = query ? await queryView(query) : overview();
  if (mine !== turn) return; // the reader went elsewhere meanwhile
  main.replaceChildren(...content.filter(Boolean));
  document.title = query ? `${query.text || query.qid} – report` : `Report: ${data.lists.map((list) => list.label).join(", ")}`;
  drawCharts();
  main.dataset.drawn = query ? query.qid : "";
  const later = afterDrawing;
  const addLater = () => {
    if (mine !== turn) return;
    later.forEach((add) => add());
    drawCharts();
  };
  requestAnimationFrame(() => requestIdleCallback(addLater, { timeout: 300 }));
}

// draws the charts whose holders came since the last time
function drawCharts() {
  for (const watcher of widthWatchers.filter((each) => each[2] === undefined)) {
    watcher[2] = Math.round(watcher[0].clientWidth);
    watcher[1]();
    observer.observe(watcher[0]);
  }
}

// a place for the sections of ``make``, which come when the rest is on the screen
function afterwards(make) {
  const place = el("div", {});
  afterDrawing.push(() => place.replaceWith(...make().filter(Boolean)));
  return place;
}

function drawChoices() {
  const lists = data.lists.map((list, index) => [index, list.label]);
  const after = lists.filter(([index]) => runOf(index));
  const parts = [];
  if (lists.length > 1) {
    parts.push(dropdown("before", lists, state.left, (value) => choose({ left: Number(value) })));
    parts.push(dropdown("after", lists, state.right, (value) => choose({ right: Number(value), left: Number(value) === state.left ? baseOf(Number(value)) : state.left })));
  }
  if (measures.length > 1) parts.push(dropdown("measure", measures.map((name, index) => [index, name]), state.measure, (value) => choose({ measure: Number(value) })));
  document.getElementById("choices").replaceChildren(...parts);
}

function start() {
  document.getElementById("home").textContent = "Reranking report";
  document.getElementById("theme").addEventListener("click", nextTheme);
  document.getElementById("help").addEventListener("click", showKeys);
  setTheme(storedTheme());
  const reranked = data.runs.find((run) => run.first !== null && run.first !== run.list);
  state.right = (reranked || data.runs.at(-1)).list;
  state.left = baseOf(state.right);
  if (!measures.length) state.sort = { column: "qid", down: false };
  let before = null;
  window.addEventListener("hashchange", async () => {
    const from = before;
    before = openedQuery();
    await draw();
    if (before) scrollTo(0, 0);
    else if (from) {
      const row = [...document.querySelectorAll("a.row")].find((link) => link.getAttribute("href") === addressOf(from));
      row?.focus();
      row?.scrollIntoView({ block: "center" });
    }
  });
  before = openedQuery();
  draw();
}

start();
