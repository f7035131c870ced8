// Charts as SVG: bars of gains and losses, histograms, statuses, and who moved.

// One path for all gains and one for all losses, so that thousands of queries stay fast.
function gainsChart(queries, width, open) {
  const height = 190, top = 8, bottom = 22, left = 44, right = 8;
  const changes = queries.map(changeOf);
  const most = Math.max(0.01, ...changes), least = Math.min(-0.01, ...changes);
  const step = (width - left - right) / queries.length;
  const y = (value) => top + ((most - value) / (most - least)) * (height - top - bottom);
  const bars = { gain: "", loss: "" };
  const gap = step > 6 ? 2 : step > 3 ? 1 : 0;
  changes.forEach((change, index) => {
    const kind = direction(change);
    if (kind === "tie") return;
    const x = left + index * step;
    bars[kind] += `M${x.toFixed(2)} ${y(0).toFixed(2)}h${Math.max(0.5, step - gap).toFixed(2)}V${y(change).toFixed(2)}h${(-Math.max(0.5, step - gap)).toFixed(2)}z`;
  });
  const marker = svg("rect", { class: "marker", y: top, width: Math.max(1, step), height: height - top - bottom, visibility: "hidden" });
  const label = svg("text", { class: "tip", y: height - 6, visibility: "hidden" });
  const count = (kind) => changes.filter((change) => direction(change) === kind).length;
  const chart = svg(
    "svg",
    {
      class: "chart gains", width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `Change of ${measures[state.measure]} per query: ${count("gain")} better, ${count("tie")} equal, ${count("loss")} worse`,
    },
    [most, 0, least].map((value) => [
      svg("line", { class: value ? "grid" : "zero", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { class: "axis", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, signed(value, 2)),
    ]),
    svg("path", { class: "gain", d: bars.gain || "M0 0" }),
    svg("path", { class: "loss", d: bars.loss || "M0 0" }),
    marker,
    label,
  );
  const at = (event) => {
    const x = event.clientX - chart.getBoundingClientRect().left - left;
    const index = Math.floor(x / step);
    return index >= 0 && index < queries.length ? index : null;
  };
  chart.addEventListener("pointermove", (event) => {
    const index = at(event);
    marker.setAttribute("visibility", index === null ? "hidden" : "visible");
    label.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index === null) return;
    const x = left + index * step;
    marker.setAttribute("x", x);
    const query = queries[index];
    label.textContent = shorten(`${signed(changes[index])}  ${query.text || query.qid}`, Math.floor(width / 8));
    label.setAttribute("text-anchor", x < width / 2 ? "start" : "end");
    label.setAttribute("x", x < width / 2 ? Math.max(left, x) : Math.min(width - right, x + step));
  });
  chart.addEventListener("pointerleave", () => {
    marker.setAttribute("visibility", "hidden");
    label.setAttribute("visibility", "hidden");
  });
  chart.addEventListener("click", (event) => {
    const index = at(event);
    if (index !== null) open(queries[index]);
  });
  return chart;
}

function histogram(title, found, digits, unit) {
  const width = 320, height = 96, base = height - 18;
  const most = Math.max(...found.bins), step = width / found.bins.length;
  const x = (value) => ((value - found.low) / (found.width * found.bins.length)) * width;
  const high = found.low + found.width * found.bins.length;
  return el(
    "figure",
    { class: "histogram" },
    el("figcaption", {}, el("b", {}, title), el("span", {}, `median ${number(found.p50, digits)}${unit}, 90% ≤ ${number(found.p90, digits)}${unit}, most ${number(found.max, digits)}${unit}`)),
    svg(
      "svg",
      { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: histogram of ${found.count} judgements` },
      found.bins.map((count, index) => {
        const tall = count ? Math.max(1, (count / most) * (base - 6)) : 0;
        const bar = svg("rect", { class: "bar", x: index * step + 0.5, y: base - tall, width: Math.max(0.5, step - 1), height: tall });
        bar.append(svg("title", {}, `${number(found.low + index * found.width, digits)} to ${number(found.low + (index + 1) * found.width, digits)}: ${number(count)}`));
        return bar;
      }),
      svg("line", { class: "zero", x1: 0, x2: width, y1: base, y2: base }),
      svg("line", { class: "median", x1: x(found.p50), x2: x(found.p50), y1: 2, y2: base }),
      svg("text", { class: "axis", x: 0, y: height - 4 }, number(found.low, digits)),
      svg("text", { class: "axis", x: width, y: height - 4, "text-anchor": "end" }, number(high, digits)),
    ),
  );
}

const STATUSES = ["ok", "repaired", "truncated", "empty", "refused", "error"];

function statusBar(statuses) {
  const total = STATUSES.reduce((sum, name) => sum + (statuses[name] || 0), 0);
  const there = STATUSES.filter((name) => statuses[name]);
  let x = 0;
  return el(
    "div",
    { class: "statuses" },
    svg(
      "svg",
      { class: "chart", viewBox: "0 0 320 14", preserveAspectRatio: "none", role: "img", "aria-label": there.map((name) => `${statuses[name]} ${name}`).join(", ") },
      there.map((name) => {
        const wide = (statuses[name] / total) * 320;
        const part = svg("rect", { class: `fill-${name}`, x, y: 0, width: wide, height: 14 });
        x += wide;
        return part;
      }),
    ),
    el("ul", {}, there.map((name) => el("li", {}, el("i", { class: `dot ${name}` }), `${name} ${number(statuses[name])}`, el("span", { class: "muted" }, ` ${percent(statuses[name], total)}`)))),
  );
}

const gradeClass = (document_) => (document_.grade === undefined ? "unjudged" : `grade${Math.max(0, Math.min(3, document_.grade))}`);

// Lines from column to column: a column is a list of document numbers, best first. ``windows`` has, for the gap before each
// column, the first and last place that a call showed.
function bumpChart(columns, labels, windows, documents, most, width, handlers) {
  const wide = width > 640;
  const side = width > 1000 ? 250 : wide ? 168 : 92, left = side, right = side, top = 26, row = most > 50 ? 9 : most > 20 ? 12 : 17;
  const rows = Math.min(most, Math.max(...columns.map((column) => column.length)));
  const height = top + (rows + 1.6) * row;
  const gap = (width - left - right) / (columns.length - 1);
  const x = (column) => left + column * gap;
  const y = (place) => top + (Math.min(place, rows + 0.6) + 0.5) * row;
  const places = columns.map((column) => new Map(column.map((document_, place) => [document_, place])));
  const place = (column, document_) => places[column].get(document_) ?? rows + 1;
  const last = columns.length - 1;
  const shown = new Set(columns.flatMap((column) => column.slice(0, rows)));
  const order = [...shown].sort((a, b) => (documents[a].grade ?? -1) - (documents[b].grade ?? -1));
  const clear = (document_) => place(0, document_) < rows || place(last, document_) < rows;
  const chart = svg("svg", { class: "chart bump", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Ranks of ${shown.size} documents, from ${labels[0]} to ${labels[last]}` });
  windows.forEach((window_, column) => {
    if (!window_ || window_[0] >= rows) return;
    const end = Math.min(window_[1], rows);
    chart.append(svg("rect", { class: "window", x: x(column - 1) + gap * 0.1, width: gap * 0.8, y: y(window_[0]) - row / 2, height: (end - window_[0] + 1) * row, rx: 3 }));
  });
  labels.forEach((text, column) => {
    const anchor = column === 0 ? "end" : column === last ? "start" : "middle";
    const shownText = column === 0 || column === last ? shorten(text, width > 1000 ? 36 : wide ? 26 : 18) : text;
    if (gap > 18 || column === 0 || column === last)
      chart.append(svg("text", wide || (column && column < last) ? { class: "column", x: x(column), y: 14, "text-anchor": anchor } : { class: "column", x: column ? width : 0, y: 14, "text-anchor": column ? "end" : "start" }, shownText));
  });
  for (const document_ of order.filter(clear)) {
    let path = "";
    columns.forEach((_, column) => {
      const here = y(place(column, document_));
      if (!column) path = `M${x(0)} ${here.toFixed(1)}`;
      else {
        const before = y(place(column - 1, document_));
        path += before === here ? `H${x(column).toFixed(1)}` : `C${(x(column) - gap / 2).toFixed(1)} ${before.toFixed(1)} ${(x(column) - gap / 2).toFixed(1)} ${here.toFixed(1)} ${x(column).toFixed(1)} ${here.toFixed(1)}`;
      }
    });
    const line = svg("path", { class: `line ${gradeClass(documents[document_])}`, d: path });
    const target = svg("path", { class: "target", d: path, "data-doc": document_ });
    target.append(svg("title", {}, documents[document_].id));
    handlers.register(document_, line);
    chart.append(line, target);
  }
  const letters = width > 1000 ? 31 : wide ? 19 : 8;
  for (const [column, side] of [[0, -1], [last, 1]]) {
    for (const [index, document_] of columns[column].slice(0, rows).entries()) {
      const anchor = side < 0 ? "end" : "start";
      const label = svg(
        "text",
        { class: `name ${gradeClass(documents[document_])}`, x: x(column) + side * 30, y: y(index) + 4, "text-anchor": anchor, "data-doc": document_ },
        shorten(documents[document_].id, letters),
      );
      handlers.register(document_, label);
      chart.append(
        svg("circle", { class: `point ${gradeClass(documents[document_])}`, cx: x(column), cy: y(index), r: row > 10 ? 3 : 2 }),
        svg("text", { class: "rank", x: x(column) + side * 24, y: y(index) + 4, "text-anchor": side < 0 ? "start" : "end" }, index + 1),
        label,
      );
    }
  }
  chart.addEventListener("pointerover", (event) => handlers.point(event.target.dataset.doc));
  chart.addEventListener("pointerleave", () => handlers.point(undefined));
  chart.addEventListener("click", (event) => event.target.dataset.doc !== undefined && handlers.open(Number(event.target.dataset.doc)));
  return chart;
}

// First-stage score against the LLM's score; a point per document.
function scatterChart(points, labels, documents, width, handlers) {
  const height = Math.min(320, Math.round(width * 0.7)), left = 56, bottom = 34, top = 8, right = 10;
  const span = (values) => {
    const low = Math.min(...values), high = Math.max(...values);
    return high > low ? [low, high] : [low - 1, high + 1];
  };
  const [x0, x1] = span(points.map((point) => point.x)), [y0, y1] = span(points.map((point) => point.y));
  const x = (value) => left + ((value - x0) / (x1 - x0)) * (width - left - right);
  const y = (value) => top + ((y1 - value) / (y1 - y0)) * (height - top - bottom);
  const chart = svg(
    "svg",
    { class: "chart scatter", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${labels[0]} against ${labels[1]} for ${points.length} documents` },
    svg("path", { class: "zero", d: `M${left} ${top}V${height - bottom}H${width - right}` }),
    [[x0, "start", left], [x1, "end", width - right]].map(([value, anchor, at]) => svg("text", { class: "axis", x: at, y: height - bottom + 14, "text-anchor": anchor }, compact(value))),
    [[y0, height - bottom], [y1, top + 8]].map(([value, at]) => svg("text", { class: "axis", x: left - 6, y: at, "text-anchor": "end" }, compact(value))),
    svg("text", { class: "axis", x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, labels[0]),
    svg("text", { class: "axis", "text-anchor": "middle", transform: `translate(12 ${(height - bottom) / 2}) rotate(-90)` }, labels[1]),
  );
  for (const point of points) {
    const dot = svg("circle", { class: `point ${gradeClass(documents[point.document])}`, cx: x(point.x), cy: y(point.y), r: 4, "data-doc": point.document });
    dot.append(svg("title", {}, documents[point.document].id));
    handlers.register(point.document, dot);
    chart.append(dot);
  }
  chart.addEventListener("pointerover", (event) => handlers.point(event.target.dataset.doc));
  chart.addEventListener("click", (event) => event.target.dataset.doc !== undefined && handlers.open(Number(event.target.dataset.doc)));
  return chart;
}
