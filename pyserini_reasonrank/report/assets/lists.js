// Two lists of documents, side by side, and the card of one document.

const LISTED = 100; // documents that a list shows before the reader asks for more
const AT_ONCE = 20; // of these, documents that are there when the query appears; the others follow it

function gradeBadge(document_) {
  if (!data.evaluation) return null;
  const judged = document_.grade !== undefined;
  return el("span", { class: `badge ${gradeClass(document_)}`, title: judged ? `judged ${document_.grade}` : "not judged" }, judged ? document_.grade : "–");
}

function movement(document_, left, right) {
  const before = document_.ranks[left], after = document_.ranks[right];
  if (!before || !after) return el("span", { class: "move muted" }, before ? "out" : "new");
  const up = before - after;
  return el("span", { class: `move ${direction(up)}`, title: `rank ${before} before, ${after} after` }, up ? `${up > 0 ? "▲" : "▼"}${Math.abs(up)}` : "=");
}

// the scores of a document: its list's own, and those of the LLM and the fusion
function scoresOf(number_, score, details, list) {
  const parts = [];
  const run = runOf(list);
  const found = run ? details.runs[data.lists[list].run] : null;
  if (data.lists[list].kind === "first") parts.push(`score ${compact(score)}`);
  if (found && found.llm && found.llm[number_] !== undefined) parts.push(`LLM ${compact(found.llm[number_])} (rank ${llmRank(found, number_)})`);
  if (found && found.fused && found.fused[number_] !== undefined) parts.push(`fused ${compact(found.fused[number_])}`);
  if (found && found.segments && found.segments[number_]) parts.push(`segment ${found.segments[number_]}`);
  return parts.join(" · ");
}

function llmRank(found, number_) {
  if (!found.llmRanks) {
    const order = Object.entries(found.llm).filter(([, value]) => value !== null).sort((a, b) => b[1] - a[1]);
    found.llmRanks = new Map(order.map(([key], index) => [Number(key), index + 1]));
  }
  return found.llmRanks.get(Number(number_)) ?? "–";
}

function documentList(details, list, left, right, side, handlers) {
  const found = details.lists[list];
  const title = el("h3", {}, data.lists[list].label, data.lists[list].kind === "first" ? el("span", { class: "tag" }, "first stage") : null);
  if (!found) return el("div", { class: `list ${side}` }, title, el("p", { class: "muted" }, "This run has no documents for the query."));
  const rows = el("ol", { class: "documents" });
  const more = el("button", { type: "button", class: "more", click: () => add() });
  let shown = 0;
  const add = (count = LISTED) => {
    const next = found.docs.slice(shown, shown + count);
    rows.append(...next.map((document_, index) => documentRow(details, document_, shown + index, found, list, left, right, handlers)));
    shown += next.length;
    more.hidden = shown >= found.docs.length;
    more.textContent = `Show ${Math.min(LISTED, found.docs.length - shown)} more`;
  };
  add(AT_ONCE);
  more.hidden = true;
  afterDrawing.push(() => add(LISTED - AT_ONCE));
  const cutNote = found.total > found.docs.length ? el("p", { class: "muted" }, `The page has the first ${number(found.docs.length)} of ${number(found.total)} documents (--depth).`) : null;
  return el("div", { class: `list ${side}` }, title, rows, more, cutNote);
}

function documentRow(details, document_, place, found, list, left, right, handlers) {
  const each = details.docs[document_];
  const row = el(
    "li", { class: "document", tabindex: -1, "data-doc": document_ },
    el("div", { class: "top" },
      el("span", { class: "rank" }, place + 1),
      list === right && left !== right ? movement(each, left, right) : null,
      gradeBadge(each),
      el("span", { class: "docid", title: each.id }, each.id),
      el("span", { class: "muted scores-of" }, scoresOf(document_, found.scores[place], details, list))),
    each.text !== undefined ? el("p", { class: "passage" }, each.text) : null,
  );
  handlers.register(document_, row);
  return row;
}

function closeCard() {
  document.getElementById("card").hidden = true;
}

function openCard(details, document_, label) {
  const each = details.docs[document_];
  const card = document.getElementById("card");
  const ranks = data.lists.map((list, index) => `${list.label}: ${each.ranks[index] ? `rank ${number(each.ranks[index])}` : "not in the list"}`);
  card.replaceChildren(
    el("div", { class: "top" }, label ? el("b", {}, label) : null, gradeBadge(each), el("span", { class: "docid" }, each.id),
      el("button", { type: "button", class: "close", click: closeCard, "aria-label": "Close" }, "×")),
    el("p", { class: "muted" }, ranks.join(" · ")),
    el("p", { class: "passage open" }, each.text ?? "The page has no passages."),
  );
  card.hidden = false;
}
