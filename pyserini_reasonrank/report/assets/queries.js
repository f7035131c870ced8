// The table of queries: sorted, searched, filtered, a page of rows at a time.

const ROWS = 50;

const COLUMNS = [
  { name: "qid", title: "qid", value: (query) => query.qid, text: true },
  { name: "text", title: "query", value: (query) => query.text, text: true },
  { name: "before", title: "before", middle: true, there: () => measures.length > 0, value: (query) => valueOf(query, state.left), show: (value) => number(value, 4) },
  { name: "after", title: "after", middle: true, there: () => measures.length > 0, value: (query) => valueOf(query, state.right), show: (value) => number(value, 4) },
  { name: "change", title: "change", there: () => measures.length > 0, value: changeOf, show: (value) => (value === null ? "–" : signed(value)), kind: (value) => (value === null ? "" : direction(value)) },
  { name: "new", title: `new in top ${data.top}`, there: () => data.queries.some(movedOf), value: (query) => movedOf(query)?.new ?? null, wide: true },
  { name: "rbo", title: "RBO", there: () => data.queries.some(movedOf), value: (query) => movedOf(query)?.rbo ?? null, show: (value) => number(value, 2), wide: true },
  { name: "judgements", title: "judgements", there: () => data.queries.some(callsOf), value: (query) => callsOf(query)?.judgements ?? null, wide: true },
  { name: "bad", title: "bad", there: () => data.queries.some(callsOf), value: (query) => callsOf(query)?.bad ?? null, kind: (value) => (value ? "loss" : ""), wide: true },
  { name: "copied", title: "copied", there: () => data.queries.some((query) => callsOf(query)?.comparable), value: (query) => callsOf(query)?.copied ?? null, wide: true },
  { name: "tokens", title: "tokens", there: () => data.queries.some((query) => callsOf(query)?.prompt), value: (query) => (callsOf(query) ? callsOf(query).prompt + callsOf(query).output : null), wide: true },
  { name: "seconds", title: "call seconds", there: () => data.queries.some((query) => callsOf(query)?.seconds), value: (query) => callsOf(query)?.seconds ?? null, show: (value) => number(value, 1), wide: true },
];

const FILTERS = {
  all: ["all queries", () => true],
  better: ["better", (query) => changeOf(query) > 1e-9],
  worse: ["worse", (query) => changeOf(query) < -1e-9],
  equal: ["equal", (query) => query.scores && Math.abs(changeOf(query)) <= 1e-9],
  unjudged: ["without judgments", (query) => !query.scores],
  bad: ["with bad calls", (query) => callsOf(query)?.bad > 0],
  copied: ["every order copied", (query) => callsOf(query)?.comparable > 0 && callsOf(query).copied === callsOf(query).comparable],
};

const NEEDS_JUDGMENTS = ["better", "worse", "equal", "unjudged"];

// the queries that the table lists, in its order
function listedQueries() {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  const column = COLUMNS.find((each) => each.name === state.sort.column && (!each.there || each.there()));
  const found = data.queries.filter((query) => {
    const text = `${query.qid} ${query.text}`.toLowerCase();
    return words.every((word) => text.includes(word)) && FILTERS[state.only][1](query);
  });
  if (!column) return found;
  const sign = state.sort.down ? -1 : 1;
  return found.sort((a, b) => {
    const one = column.value(a), other = column.value(b);
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * (column.text ? String(one).localeCompare(String(other), "en", { numeric: true }) : one - other);
  });
}

function queriesSection() {
  const holder = el("div", { id: "query-rows" });
  const search = el("input", {
    id: "search", type: "search", placeholder: "search qid or words  ( / )", "aria-label": "Search queries", value: state.search,
    input: () => {
      state.search = search.value;
      state.page = 0;
      holder.replaceChildren(...queryRows());
    },
  });
  const filters = Object.entries(FILTERS).filter(([name]) => measures.length || !NEEDS_JUDGMENTS.includes(name)).map(([name, [title]]) => [name, title]);
  const only = dropdown("show", filters, state.only, (value) => {
    state.only = value;
    state.page = 0;
    holder.replaceChildren(...queryRows());
  });
  holder.append(...queryRows());
  return section("queries", "Queries", el("div", { class: "tools" }, search, only), holder);
}

function queryRows() {
  const found = listedQueries();
  const pages = Math.max(1, Math.ceil(found.length / ROWS));
  state.page = Math.min(state.page, pages - 1);
  const columns = COLUMNS.filter((column) => !column.there || column.there());
  const redraw = () => document.getElementById("query-rows").replaceChildren(...queryRows());
  const head = columns.map((column) => {
    const sorted = state.sort.column === column.name;
    return el("th", { scope: "col", class: `${column.text ? "" : "number"} ${column.wide ? "wide" : ""} ${column.middle ? "middle" : ""}`, "aria-sort": sorted ? (state.sort.down ? "descending" : "ascending") : null },
      el("button", { type: "button", click: () => {
        state.sort = { column: column.name, down: sorted ? !state.sort.down : !column.text };
        state.page = 0;
        redraw();
      } }, column.title, sorted ? (state.sort.down ? " ↓" : " ↑") : ""));
  });
  const rows = found.slice(state.page * ROWS, (state.page + 1) * ROWS).map((query) =>
    el("tr", { click: () => (location.hash = addressOf(query)) }, columns.map((column) => {
      const value = column.value(query);
      if (column.name === "qid") return el("th", { scope: "row" }, el("a", { class: "row", href: addressOf(query) }, query.qid));
      if (column.text) return el("td", { class: "words" }, value);
      return el("td", { class: `number ${column.wide ? "wide" : ""} ${column.middle ? "middle" : ""} ${column.kind ? column.kind(value) : ""}` }, (column.show || number)(value));
    })));
  const turn = (step) => {
    state.page += step;
    redraw();
  };
  return [
    el("div", { class: "scroll" }, el("table", { class: "queries" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))),
    el("p", { class: "pages muted" },
      found.length === data.queries.length ? plural(found.length, "query", "queries") : `${number(found.length)} of ${plural(data.queries.length, "query", "queries")}`,
      pages > 1 ? [el("button", { type: "button", disabled: state.page === 0, click: () => turn(-1), "aria-label": "Previous page" }, "‹"), `page ${state.page + 1} of ${pages}`,
        el("button", { type: "button", disabled: state.page === pages - 1, click: () => turn(1), "aria-label": "Next page" }, "›")] : null),
  ];
}
