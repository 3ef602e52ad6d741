// Paints the figures in the page's colours, sorts the table of runs, shows how to replay one.
"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);

function color(role) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + role).trim();
}

function models() {
  return Bokeh.documents.flatMap((doc) => doc.roots()).flatMap((root) => [...root.references()]);
}

// A model's tags say "property=role"; the roles' colours change with light and dark.
function paint() {
  for (const model of models()) {
    for (const tag of model.tags ?? []) {
      const [property, role] = String(tag).split("=");
      if (role) model[property] = color(role);
    }
  }
}

function replay(run) {
  const command = document.getElementById("command");
  if (!command || run === undefined) return;
  command.textContent = facts.command + run;
  document.getElementById("replayed").textContent = "run " + run;
}

function follow() {
  for (const source of models().filter((model) => model.name === "runs")) {
    source.selected.properties.indices.change.connect(() => {
      const [row] = source.selected.indices;
      if (row !== undefined) replay(source.data.run[row]);
    });
  }
}

function table() {
  const element = document.getElementById("runs");
  if (!element) return;
  const columns = facts.columns;
  const body = element.tBodies[0];
  const more = document.getElementById("more");
  let order = [...columns[0].values.keys()];
  let shown = 25;

  function show() {
    body.replaceChildren();
    for (const row of order.slice(0, shown)) {
      const line = body.insertRow();
      line.addEventListener("click", () => replay(columns[0].values[row]));
      for (const { values, digits } of columns) {
        const cell = line.insertCell();
        const value = values[row];
        const missing = value === null || value === undefined;
        if (typeof value === "string") cell.className = "text";
        cell.textContent = missing ? "" : digits === null ? value : value.toFixed(digits);
      }
    }
    more.hidden = shown >= order.length;
    more.textContent = `${(order.length - shown).toLocaleString("en")} more`;
  }

  function sort(column, head) {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of element.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const { values } = columns[column];
    const sign = down ? -1 : 1;
    // What is missing comes last either way; ties keep the order of the runs.
    order = [...values.keys()].sort((a, b) => {
      const [x, y] = [values[a], values[b]];
      if (x === y) return a - b;
      if (x === null) return 1;
      if (y === null) return -1;
      return sign * (x < y ? -1 : 1);
    });
    show();
  }

  [...element.tHead.rows[0].cells].forEach((head, column) =>
    head.firstElementChild.addEventListener("click", () => sort(column, head)),
  );
  more.addEventListener("click", () => {
    shown = Math.min(shown * 4, order.length);
    show();
  });
  show();
}

table();
if (facts.charts.length) {
  Promise.all(facts.charts.map((item) => Bokeh.embed.embed_item(item))).then(() => {
    paint();
    follow();
    document.documentElement.dataset.ready = "yes";
  });
  for (const medium of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(medium).addEventListener("change", paint);
  }
} else {
  document.documentElement.dataset.ready = "yes";
}
