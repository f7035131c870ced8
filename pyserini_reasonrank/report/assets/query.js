// An opened query: scores, who moved, both lists, the scores of the LLM and the first stage, every call.

let opened = null; // {query, details, handlers} of the query on the page

async function queryView(query) {
  const details = await detailsOf(query);
  const handlers = highlighter(details);
  opened = { query, details, handlers };
  const found = listedQueries();
  const place = found.indexOf(query);
  const near = (step) => found[place + step];
  const link = (other, text, title) => el("a", { class: `step${other ? "" : " off"}`, href: other ? addressOf(other) : null, title }, text);
  const head = el(
    "div", { class: "query-head" },
    el("p", { class: "crumbs" }, el("a", { href: "#/" }, "Overview"), el("span", { class: "muted" }, ` / ${query.qid}`),
      el("span", { class: "steps" }, link(near(-1), "‹ previous", "Previous query (p)"), link(near(1), "next ›", "Next query (n)"))),
    el("h1", {}, query.text || query.qid),
    query.scores ? el("dl", { class: "figures" }, measures.map((name, index) => {
      const before = query.scores[index][state.left], after = query.scores[index][state.right];
      return el("div", {}, el("dt", {}, name), el("dd", {}, state.left === state.right ? number(after, 4) : [number(before, 4), " → ", number(after, 4), " ", el("small", { class: direction(after - before) }, signed(after - before))]));
    })) : data.evaluation ? el("p", { class: "muted" }, "The qrels do not judge this query, so it is not in the scores.") : null,
  );
  if (!details) return [head, el("p", { class: "notice" }, "The page has figures only for this query: its lists and calls were left out, to keep the page small (--megabytes).")];
  const number_ = runNumber();
  return [
    head,
    movesSection(details, handlers),
    listsSection(details, handlers),
    afterwards(() => [
      scatterSection(details, handlers),
      number_ === null ? null : remarksSection(details.runs[number_]),
      number_ === null ? null : callsOfQuery(details, number_, handlers),
    ]),
  ];
}

// keeps all elements of a document, and marks those of the document that is pointed at or chosen
function highlighter(details) {
  const elements = new Map();
  let pointed = null, chosen = null;
  const mark = (document_, name, on) => (elements.get(document_) || []).forEach((node) => node.classList.toggle(name, on));
  return {
    register: (document_, node) => (elements.has(document_) ? elements.get(document_).push(node) : elements.set(document_, [node])),
    forget: () => elements.forEach((nodes, document_) => elements.set(document_, nodes.filter((node) => node.isConnected))),
    point: (value) => {
      const document_ = value === undefined ? null : Number(value);
      if (document_ === pointed) return;
      if (pointed !== null) mark(pointed, "pointed", false);
      pointed = document_;
      if (pointed !== null) mark(pointed, "pointed", true);
    },
    choose: (document_) => {
      if (chosen !== null) mark(chosen, "on", false);
      chosen = document_ === chosen ? null : document_;
      if (chosen !== null) mark(chosen, "on", true);
      return chosen;
    },
    open(document_) {
      if (chosen !== document_) this.choose(document_);
      openCard(details, document_, "");
    },
    reference(document_, label) {
      if (chosen !== document_) this.choose(document_);
      openCard(details, document_, label);
    },
    chosen: () => chosen,
  };
}

const WIDE = 620; // pixels; a narrower screen has no room for a column per call

function movesSection(details, handlers) {
  const left = details.lists[state.left], right = details.lists[state.right];
  if (!left || !right || state.left === state.right) return null;
  const run = chosenRun();
  const found = run ? details.runs[runNumber()] : null;
  const steps = found && found.steps && run.first === state.left ? found.steps : null;
  const holder = el("div", { class: "holder" });
  const legend = data.evaluation ? el("p", { class: "legend grades" }, ["judged relevant: 3", "2", "1"].map((text, index) => el("span", {}, el("i", { class: `line-key grade${3 - index}` }), text)), el("span", {}, el("i", { class: "line-key grade0" }), "judged 0"), el("span", {}, el("i", { class: "line-key unjudged" }), "not judged")) : null;
  const draw_ = () => {
    const width = Math.max(300, holder.clientWidth);
    const all = steps && state.steps && width > WIDE;
    const columns = all ? steps : [left.docs, right.docs];
    const labels = all ? ["first stage", ...steps.slice(1, -1).map((_, index) => String(index + 1)), `final (call ${steps.length - 1})`] : [data.lists[state.left].label, data.lists[state.right].label];
    const windows = all ? [null, ...found.calls.map((call, index) => windowOf(steps[index], call))] : [];
    handlers.forget();
    holder.replaceChildren(bumpChart(columns, labels, windows, details.docs, state.bump, all ? width : Math.min(width, 1010), handlers));
  };
  widthWatchers.push([holder, draw_]);
  const depth = Math.max(left.docs.length, right.docs.length);
  const sizes = [10, 20, 50, 100].filter((size, index, every) => !index || every[index - 1] < depth);
  const tools = el("div", { class: "tools" });
  const tool = () => tools.replaceChildren(
    segments("Ranks", sizes.map((size) => [size, `top ${size}`]), sizes.includes(state.bump) ? state.bump : sizes.at(-1), (size) => { state.bump = size; tool(); draw_(); }),
    ...(steps && innerWidth > WIDE ? [segments("Columns", [[true, "every call"], [false, "before and after"]], state.steps, (value) => { state.steps = value; tool(); draw_(); })] : []),
  );
  if (!sizes.includes(state.bump)) state.bump = sizes.at(-1);
  tool();
  return section("moves", "Who moved", el("div", { class: "bar" }, legend, tools), holder);
}

function windowOf(order, call) {
  const places = call.docs.map((document_) => order.indexOf(document_)).filter((place) => place >= 0);
  return places.length ? [Math.min(...places), Math.max(...places)] : null;
}

function listsSection(details, handlers) {
  const pair = el("div", { class: `lists show-${state.lists || "right"}` },
    state.left === state.right ? null : documentList(details, state.left, state.left, state.right, "left", handlers),
    documentList(details, state.right, state.left, state.right, "right", handlers));
  pair.addEventListener("pointerover", (event) => handlers.point(event.target.closest("[data-doc]")?.dataset.doc));
  pair.addEventListener("pointerleave", () => handlers.point(undefined));
  pair.addEventListener("click", (event) => {
    const row = event.target.closest("[data-doc]");
    if (row && !getSelection().toString()) handlers.choose(Number(row.dataset.doc));
  });
  const filter = el("input", { type: "search", placeholder: "filter documents", "aria-label": "Filter documents", input: () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of pair.querySelectorAll(".document")) {
      const each = details.docs[Number(row.dataset.doc)];
      const text = `${each.id} ${each.text || ""}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  } });
  const narrow = el("div", { class: "narrow-only" });
  const tool = () => narrow.replaceChildren(segments("List", [["left", "before"], ["right", "after"]], state.lists || "right", (value) => {
    state.lists = value;
    pair.className = `lists show-${value}`;
    tool();
  }));
  tool();
  return section("lists", "Before and after", el("div", { class: "tools" }, filter, state.left === state.right ? null : narrow), pair);
}

function scatterSection(details, handlers) {
  const run = chosenRun();
  const found = run ? details.runs[runNumber()] : null;
  if (!found || !found.llm || run.first === null || !details.lists[run.first]) return null;
  const first = details.lists[run.first];
  const points = first.docs.map((document_, place) => ({ document: document_, x: first.scores[place], y: found.llm[document_] ?? null })).filter((point) => point.x !== null && point.y !== null);
  if (points.length < 2) return null;
  const holder = el("div", { class: "holder" });
  widthWatchers.push([holder, () => {
    handlers.forget();
    holder.replaceChildren(scatterChart(points, ["first-stage score", "LLM score"], details.docs, Math.min(560, Math.max(300, holder.clientWidth)), handlers));
  }]);
  const fusion = new Map(run.facts).get("fusion");
  return section("llm-scores", "Scores of the LLM and the first stage",
    el("p", { class: "muted" }, found.fused ? `The order of the run is that of the fused scores (${fusion}).` : `Fusion: ${fusion || "none"}.`), holder);
}

function remarksSection(found) {
  if (!found.notes && !found.confidence) return null;
  return section("remarks", "Notes of the reranker",
    found.confidence ? el("p", {}, `confidence by rank: ${found.confidence.slice(0, 20).map((value) => number(value, 2)).join(", ")}`) : null,
    found.notes ? el("pre", {}, JSON.stringify(found.notes, null, 1)) : null);
}
