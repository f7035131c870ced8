// The page without an opened query: scores, gains and losses, the queries, the calls, the metadata.

function overview() {
  const run = chosenRun();
  return [
    el("h1", {}, headline()),
    data.notes.length ? el("ul", { class: "notes" }, data.notes.map((note) => el("li", {}, note))) : null,
    data.evaluation ? scoresSection() : null,
    data.evaluation ? gainsSection() : null,
    queriesSection(),
    run && run.calls && run.calls.judgements ? callsSection(run) : null,
    metadataSection(),
  ];
}

function headline() {
  const run = chosenRun();
  const facts = new Map(run ? run.facts : []);
  const model = facts.get("model"), reranker = facts.get("reranker");
  if (!reranker) return data.lists[state.right].label;
  return model ? `${reranker} with ${model}` : reranker;
}

function costCells(list) {
  const run = runOf(list);
  const cost = run && run.cost;
  if (!cost) return [el("td", {}), el("td", {}), el("td", {})];
  const seconds = cost.seconds === null ? "" : number(cost.seconds, cost.seconds < 100 ? 1 : 0);
  return [
    el("td", { class: "number" }, number(cost.calls + cost.journal)),
    el("td", { class: "number" }, number(cost.prompt + cost.output)),
    el("td", { class: "number", title: cost.gpu || "" }, seconds),
  ];
}

function scoreCells(score, several) {
  const interval = score.interval ? `95% interval ${number(score.interval[0], 4)} to ${number(score.interval[1], 4)}` : null;
  const partly = Math.abs(score.value - score.answered) > 1e-9;
  const value = el("td", { class: "number", title: interval }, el("b", {}, number(score.value, 4)), partly ? el("span", { class: "below" }, `${number(score.answered, 4)} on answered`) : null);
  if (!several) return value;
  if (score.change === undefined) return [value, el("td", { class: "end" })];
  const p = score.p === null ? "p n/a" : score.p < 0.0001 ? "p <0.0001" : `p ${number(score.p, 4)}`;
  return [value, el("td", { class: "end" },
    el("span", { class: direction(score.change) }, signed(score.change)),
    el("span", { class: "below", title: "won, tied, lost" }, `${p}; ${score.won}/${score.tied}/${score.lost}`))];
}

function scoresSection() {
  const rows = data.evaluation.rows;
  const several = rows.length > 1;
  const costs = data.runs.some((run) => run.cost) ? ["calls", "tokens", "seconds"] : [];
  const heads = ["run", ...measures.flatMap((name) => (several ? [name, ""] : [name])), "answered", ...costs];
  const body = rows.map((row, list) =>
    el(
      "tr",
      { class: list === state.right ? "chosen" : "" },
      el("th", { scope: "row", title: data.lists[list].path }, data.lists[list].label, data.lists[list].kind === "first" ? el("span", { class: "tag" }, "first stage") : null),
      row.scores.map((score) => scoreCells(score, several)),
      el("td", { class: "number" }, `${number(row.answered)} of ${number(data.evaluation.queries)}`),
      costs.length ? costCells(list) : null,
    ),
  );
  return section(
    "scores", "Scores",
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Scores" }, el(
      "table", { class: "scores" },
      el("thead", {}, el("tr", {}, heads.map((name, index) => el("th", { scope: "col", class: index ? "number" : "" }, name)))),
      el("tbody", {}, body),
    )),
    el("p", { class: "muted" }, several ? "Below each change: p of the test, then the queries won/tied/lost. " : "", data.evaluation.notes.join(" ")),
  );
}

function gainsSection() {
  const judged = data.queries.filter((query) => query.scores);
  if (state.left === state.right || !judged.length) return null;
  const sorted = [...judged].sort((a, b) => changeOf(b) - changeOf(a));
  const count = (kind) => judged.filter((query) => direction(changeOf(query)) === kind).length;
  const holder = el("div", { class: "holder" });
  const drawn = () => holder.replaceChildren(gainsChart(sorted, Math.max(300, holder.clientWidth), (query) => (location.hash = addressOf(query))));
  widthWatchers.push([holder, drawn]);
  const extremes = (title, queries) => queries.length ? el("div", {}, el("h3", {}, title), el("ol", { class: "extremes" }, queries.map((query) =>
    el("li", {}, el("span", { class: `number ${direction(changeOf(query))}` }, signed(changeOf(query), 3)), el("a", { href: addressOf(query) }, query.text || query.qid))))) : null;
  const best = sorted.filter((query) => changeOf(query) > 0).slice(0, 5);
  const worst = sorted.filter((query) => changeOf(query) < 0).slice(-5).reverse();
  return section(
    "gains", `${measures[state.measure]} per query, gains and losses`,
    el("p", { class: "legend" }, el("span", { class: "gain" }, `${number(count("gain"))} better`), el("span", { class: "tie" }, `${number(count("tie"))} equal`), el("span", { class: "loss" }, `${number(count("loss"))} worse`),
      el("span", { class: "muted" }, `${data.lists[state.right].label} against ${data.lists[state.left].label}; each bar opens its query`)),
    holder,
    el("div", { class: "pair" }, extremes("Largest gains", best), extremes("Largest losses", worst)),
  );
}

function callsSection(run) {
  const calls = run.calls;
  const found = calls.distributions;
  const facts = [
    ["judgements", number(calls.judgements)],
    ["LLM calls", number(calls.calls)],
    ["tokens read", number(calls.prompt)],
    ["tokens written", number(calls.output)],
    ["order copied", calls.comparable ? percent(calls.copied, calls.comparable) : "–", calls.comparable ? `${number(calls.copied)} of ${number(calls.comparable)} judgements left the documents in the order in which they were shown` : "each judgement reads one document, so there is no order to copy"],
    ["bad", percent(calls.bad, calls.judgements), `${number(calls.bad)} judgements were not decided by the model's answer`],
  ];
  const charts = [["Tokens read", found.prompt, 0, ""], ["Tokens written", found.output, 0, ""], ["Seconds", found.seconds, 2, " s"]].filter(([, each]) => each.count && each.max > 0);
  return section(
    "calls", "Calls",
    el("dl", { class: "figures" }, facts.map(([name, value, title]) => el("div", { title }, el("dt", {}, name), el("dd", {}, value)))),
    statusBar(calls.statuses),
    charts.length ? el("div", { class: "charts" }, charts.map((each) => histogram(...each))) : null,
    charts.length ? el("p", { class: "muted" }, "Tokens and seconds are per judgement, with all of its calls; seconds include the wait in the engine's queue, so calls that wait together add up to more than the time of the run. The dashed line is the median.") : null,
  );
}

function metadataSection() {
  const runs = data.runs.filter((run) => run.facts.length);
  if (!runs.length) return null;
  return section(
    "metadata", "Settings",
    el("div", { class: "pair" }, runs.map((run) => el("div", {},
      el("h3", {}, data.lists[run.list].label),
      el("dl", { class: "facts" }, run.facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
      lazyDetails("All metadata", () => el("pre", {}, run.metadata)),
    ))),
  );
}

// an element that makes its content when it is opened
function lazyDetails(title, content, open = false) {
  const box = el("details", { open }, el("summary", {}, title));
  const show = () => box.childElementCount === 1 && box.append(content());
  if (open) show();
  box.addEventListener("toggle", () => box.open && show());
  return box;
}
