// Elements and numbers. All text becomes text nodes: nothing here or elsewhere parses markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

function el(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

const formats = new Map(); // by digits: making one takes longer than using it

function formatOf(digits) {
  if (!formats.has(digits)) formats.set(digits, new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  return formats.get(digits);
}

const number = (value, digits = 0) => (value === null || value === undefined ? "–" : formatOf(digits).format(value).replace("-", "−"));

const signed = (value, digits = 4) =>
  (Math.abs(value) < 10 ** -digits / 2 ? "" : value > 0 ? "+" : "") + number(Math.abs(value) < 10 ** -digits / 2 ? 0 : value, digits);

// a number with about four significant digits, for scores of any size
const compact = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return number(value, size >= 100 ? 1 : size >= 10 ? 2 : size >= 0.001 || !size ? 3 : 5);
};

const percent = (part, whole) => (whole ? `${number((100 * part) / whole, part && part < whole ? 1 : 0)}%` : "–");

const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

const direction = (value) => (value > 1e-9 ? "gain" : value < -1e-9 ? "loss" : "tie");

function shorten(text, length) {
  const points = [...text];
  return points.length <= length ? text : `${points.slice(0, Math.max(1, length - 1)).join("")}…`;
}

function section(id, title, ...children) {
  return el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), ...children);
}

// buttons of which one is pressed
function segments(label, choices, chosen, choose) {
  return el(
    "div",
    { class: "segments", role: "group", "aria-label": label },
    choices.map(([value, text]) =>
      el("button", { type: "button", "aria-pressed": String(value === chosen), click: () => choose(value) }, text),
    ),
  );
}

function dropdown(label, choices, chosen, choose) {
  const box = el(
    "select",
    { "aria-label": label, change: () => choose(box.value) },
    choices.map(([value, text]) => el("option", { value, selected: String(value) === String(chosen) }, text)),
  );
  return el("label", { class: "field" }, el("span", {}, label), box);
}
