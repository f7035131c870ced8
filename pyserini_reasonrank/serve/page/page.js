"use strict";

/** An element with attributes and children; strings become text, never markup. */
function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

let description;

/** The schema that a reference names; any other schema as it is. */
function resolved(schema) {
  return schema.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema;
}

/** The type of a schema in a few words: "list of string or object". */
function typeOf(schema) {
  schema = resolved(schema);
  if (schema.anyOf) return [...new Set(schema.anyOf.map(typeOf))].filter((one) => one !== "null").join(" or ");
  if (schema.type === "array") return "list of " + typeOf(schema.items || {});
  return schema.type || "any";
}

/** A table with the keys of a request body. */
function keys(schema) {
  const rows = Object.entries(schema.properties || {}).map(([name, value]) => {
    const needed = (schema.required || []).includes(name);
    const fallback = value.default === undefined || value.default === null ? "" : `default: ${JSON.stringify(value.default)}`;
    const description = value.description || (value.anyOf || []).map((one) => one.description).find(Boolean);
    const said = [description, fallback].filter(Boolean).join("; ");
    return element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, typeOf(value)),
      element("td", { className: needed ? "needed" : "" }, needed ? "required" : ""), element("td", {}, said));
  });
  const head = element("tr", {}, ...["key", "type", "", "meaning"].map((name) => element("th", {}, name)));
  return element("div", { className: "wide" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

/** The example of a schema, or its required keys with empty values. */
function example(schema) {
  const given = schema.example || Object.fromEntries((schema.required || []).map((name) => [name, ""]));
  return JSON.stringify(given, null, 2);
}

/** A form that sends a request to this server and shows its answer. */
function trial(method, path, schema) {
  const body = schema && element("textarea", { value: example(schema), spellcheck: false, ariaLabel: `body of ${path}` });
  const answer = element("pre", { hidden: true });
  const button = element("button", { type: "button" }, "Send");
  button.addEventListener("click", async () => {
    answer.hidden = false;
    answer.textContent = "waiting for the answer";
    answer.className = "";
    try {
      const request = body ? { method, body: body.value, headers: { "Content-Type": "application/json" } } : { method };
      const response = await fetch(path.slice(1), request);
      let text = await response.text();
      if ((response.headers.get("content-type") || "").includes("json")) text = JSON.stringify(JSON.parse(text), null, 2);
      answer.textContent = `${response.status} ${response.statusText}\n${text}`;
      answer.className = response.ok ? "" : "failed";
    } catch (error) {
      answer.textContent = `The server can't be reached: ${error.message}`;
      answer.className = "failed";
    }
  });
  return body ? [body, button, answer] : [button, answer];
}

/** The description of one operation, which opens on a click. */
function operation(method, path, found) {
  const inside = element("div", { className: "inside" });
  const content = found.requestBody && found.requestBody.content["application/json"];
  const bodies = content ? (content.schema.anyOf || [content.schema]).map(resolved) : [null];
  for (const schema of bodies) {
    if (schema) inside.append(element("h2", {}, `Body: ${schema.title}`), keys(schema));
    inside.append(element("h2", {}, "Try it"), ...trial(method, path, schema));
  }
  const line = element("summary", {}, element("span", { className: `method ${method}` }, method), element("code", {}, path),
    element("span", { className: "said" }, found.summary || ""));
  return element("details", {}, line, inside);
}

async function show() {
  const summary = document.getElementById("summary");
  try {
    description = await (await fetch("openapi.json")).json();
  } catch (error) {
    summary.textContent = `openapi.json can't be read: ${error.message}`;
    return;
  }
  document.getElementById("title").textContent = `${description.info.title} ${description.info.version}`;
  summary.textContent = description.info.summary;
  const found = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, one]) => operation(method, path, one)));
  document.getElementById("operations").append(...found);
}

show();
