// The keyboard. Letters are shortcuts unless the reader writes in a field.

const KEYS = [
  ["j, k or ↓, ↑", "next or previous query; in an opened query: next or previous document"],
  ["Enter", "open the query; in an opened query: mark the document and show it whole"],
  ["n, p", "next or previous query, in the order of the table"],
  ["u or Esc", "back to the overview"],
  ["/", "search"],
  ["t", "light or dark"],
  ["?", "these keys"],
];

function showKeys() {
  const dialog = document.getElementById("keys");
  dialog.replaceChildren(
    el("h2", { id: "keys-title" }, "Keyboard"),
    el("dl", {}, KEYS.map(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)])),
    el("form", { method: "dialog" }, el("button", {}, "Close")),
  );
  if (!dialog.open) dialog.showModal();
}

function stepRow(step) {
  const query = openedQuery();
  const rows = [...document.querySelectorAll(query ? ".list.right .document:not([hidden])" : "a.row")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  if (!query && at + step >= rows.length && (state.page + 1) * ROWS < listedQueries().length) return turnPage(1, 0);
  if (!query && at === 0 && step < 0 && state.page > 0) return turnPage(-1, -1);
  const next = rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + step))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
  if (query) opened.handlers.point(next.dataset.doc);
}

function turnPage(step, row) {
  state.page += step;
  document.getElementById("query-rows").replaceChildren(...queryRows());
  [...document.querySelectorAll("a.row")].at(row).focus();
}

function stepQuery(step) {
  const found = listedQueries();
  const next = found[found.indexOf(openedQuery()) + step];
  if (next) location.hash = addressOf(next);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select, textarea");
  if (event.key === "Escape") {
    if (field) field.blur();
    else if (!document.getElementById("card").hidden) closeCard();
    else if (!document.getElementById("keys").open && openedQuery()) location.hash = "#/";
    return;
  }
  if (field || document.getElementById("keys").open) return;
  const inRows = event.target.closest("a.row, .document") !== null;
  const actions = {
    j: () => stepRow(1),
    k: () => stepRow(-1),
    n: () => openedQuery() && stepQuery(1),
    p: () => openedQuery() && stepQuery(-1),
    u: () => (location.hash = "#/"),
    t: nextTheme,
    "?": showKeys,
    "/": () => document.querySelector("main input[type=search]")?.focus(),
  };
  if (inRows) Object.assign(actions, { ArrowDown: actions.j, ArrowUp: actions.k });
  if (event.key === "Enter" && event.target.matches(".document")) actions.Enter = () => opened.handlers.choose(Number(event.target.dataset.doc));
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
});
