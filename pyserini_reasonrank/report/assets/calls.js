// Every call about a query: its window, its answer, and the reasoning with [n] linked to the passages.

const CALLS = 40; // judgements that are listed before the reader asks for more

function callsOfQuery(details, number_, handlers) {
  const calls = details.runs[number_].calls;
  if (!calls) return null;
  if (!calls.length) return section("query-calls", "Calls", el("p", { class: "muted" }, "The journal has no calls about this query."));
  const rows = el("div", { class: "calls" });
  const more = el("button", { type: "button", class: "more", click: () => add() });
  let shown = 0;
  const add = () => {
    const next = calls.slice(shown, shown + CALLS);
    for (const call of next) rows.append(callRow(details, call, number_, handlers));
    shown += next.length;
    more.hidden = shown >= calls.length;
    more.textContent = `Show ${Math.min(CALLS, calls.length - shown)} more of ${plural(calls.length, "judgement")}`;
  };
  add();
  return section("query-calls", `Calls (${number(calls.length)})`, rows, more);
}

function totalOf(call, name) {
  return call.answers.reduce((sum, answer) => sum + (answer[name] || 0), 0);
}

function callRow(details, call, number_, handlers) {
  const single = call.docs.length === 1;
  const copied = !single && call.order.every((position, place) => position === place);
  const tokens = [totalOf(call, "prompt"), totalOf(call, "output")];
  const title = [
    el("span", { class: "call-number" }, [call.part, `#${call.n + 1}`].filter(Boolean).join(" ")),
    call.label ? el("span", { class: "muted" }, call.label) : null,
    windowStrip(details, call, number_),
    single ? el("span", { class: "docid" }, details.docs[call.docs[0]].id) : el("span", {}, plural(call.docs.length, "passage")),
    el("span", { class: `status ${call.status}` }, call.status),
    copied ? el("span", { class: "tag" }, "order copied") : null,
    call.score !== null ? el("span", {}, `score ${compact(call.score)}`) : null,
    el("span", { class: "muted cost" }, `${number(tokens[0])} read, ${number(tokens[1])} written, ${number(totalOf(call, "seconds"), 2)} s`),
  ];
  const box = lazyDetails(title, () => callContent(details, call, handlers));
  box.classList.add("call");
  return box;
}

// where the documents of a call are in the first-stage order
function windowStrip(details, call, number_) {
  const first = data.runs[number_].first;
  const list = first === null ? null : details.lists[first];
  if (!list || call.docs.length < 2) return null;
  const total = list.docs.length, wide = 120;
  const strip = svg("svg", { class: "strip", width: wide, height: 10, viewBox: `0 0 ${wide} 10`, role: "img", "aria-label": "first-stage ranks of the passages" }, svg("rect", { class: "all", width: wide, height: 10 }));
  for (const document_ of call.docs) {
    const rank = details.docs[document_].ranks[first];
    if (rank && rank <= total) strip.append(svg("rect", { class: gradeClass(details.docs[document_]), x: ((rank - 1) / total) * wide, y: 0, width: Math.max(1, wide / total - 0.3), height: 10 }));
  }
  return strip;
}

function callContent(details, call, handlers) {
  const open = (position) => () => handlers.reference(call.docs[position], `[${position + 1}]`);
  const chip = (position) => el("button", { type: "button", class: `chip ${gradeClass(details.docs[call.docs[position]])}`, click: open(position), title: details.docs[call.docs[position]].id }, `[${position + 1}]`);
  const answers = call.answers.map((answer, index) => el(
    "div", { class: "answer" },
    el("p", { class: "muted" }, `answer ${index + 1} of ${call.answers.length}: ${answer.end || "no finish reason"}, ${number(answer.prompt)} tokens read, ${number(answer.output)} written, ${number(answer.seconds, 2)} s`),
    answer.error ? el("p", { class: "loss" }, answer.error) : null,
    Object.keys(answer.choices).length ? el("p", {}, Object.entries(answer.choices).map(([name, value]) => [el("code", {}, shorten(name, 60)), ` ${compact(value)}  `])) : null,
    answer.text ? el("pre", { class: "text" }, linked(answer.text, call, details, handlers)) : null,
  ));
  const long = call.answers.some((answer) => answer.text.length > 400);
  const title = call.answers.length === 1 ? "Answer" : `${call.answers.length} answers`;
  return el(
    "div", { class: "content" },
    call.docs.length > 1 ? el("p", { class: "orders" }, el("span", { class: "muted" }, "order read from the answer "), call.order.map((position, place) => [place ? " > " : "", chip(position)])) : null,
    call.detail ? el("p", { class: "muted" }, call.detail, call.filled ? ` (${plural(call.filled, "document")} added)` : "") : null,
    call.reasoning ? el("div", { class: "reasoning" }, linked(call.reasoning, call, details, handlers)) : null,
    lazyDetails(title, () => el("div", {}, answers), !call.reasoning && !long),
  );
}

// text with [3], and [C] where letters are identifiers, as buttons that show the passage
function linked(text, call, details, handlers) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(/\[(\d{1,4}|[A-Z])\]/g)) {
    const position = /\d/.test(found[1]) ? Number(found[1]) - 1 : found[1].charCodeAt(0) - 65;
    if (position < 0 || position >= call.docs.length) continue;
    const document_ = call.docs[position];
    parts.push(text.slice(end, found.index), el("button", { type: "button", class: `ref ${gradeClass(details.docs[document_])}`, title: `${details.docs[document_].id}: ${shorten(details.docs[document_].text || "", 160)}`, click: () => handlers.reference(document_, found[0]) }, found[0]));
    end = found.index + found[0].length;
  }
  parts.push(text.slice(end));
  return parts;
}
