"use strict";
// Tables of tokens: search, filters, sorting and pages. All rows are embedded as columns of JSON, which are read when
// the table comes near the screen or is first used; cells are set as text, never as markup.
document.querySelectorAll("[data-tokens]").forEach((box) => {
  const part = (name) => document.getElementById(box.dataset.tokens + "-" + name);
  const [input, kind, script, output, table] = ["q", "kind", "script", "count", "table"].map(part);
  const body = table.tBodies[0];
  const buttons = [...box.querySelectorAll("[data-go]")];
  const pageRows = Number(box.dataset.page);
  let data = null;
  let all = null; // row numbers in the order that was asked for
  let found = null; // those that are searched for
  let sorted = null; // {key, sign}
  let page = 0;
  let timer = 0;

  // Spaces at the ends of a token are shown as open boxes; a space finds them.
  const plain = (text) => text.replaceAll("\u2423", " ").toLowerCase();

  function load() {
    if (data) return;
    data = JSON.parse(part("data").textContent);
    const size = data.tokens.length;
    data.starts = new Uint32Array(size + 1);
    for (let i = 0; i < size; i += 1) data.starts[i + 1] = data.starts[i] + data.counts[i];
    data.weight = Int32Array.from(data.counts, (count, i) => (count ? data.weights[data.starts[i]] : -1));
    all = Uint32Array.from({ length: size }, (_, i) => i);
    found = all;
  }

  function keys(name) {
    if (name === "id") return data.ids;
    if (name !== "token") return data[name];
    if (!data.rank) {
      const texts = plainTokens();
      const order = Uint32Array.from({ length: texts.length }, (_, i) => i);
      order.sort((a, b) => (texts[a] < texts[b] ? -1 : texts[a] > texts[b] ? 1 : a - b));
      data.rank = new Uint32Array(order.length);
      order.forEach((row, position) => { data.rank[row] = position; });
    }
    return data.rank;
  }

  function plainTokens() {
    data.plain = data.plain || data.tokens.map(plain);
    return data.plain;
  }

  function sort(name) {
    load();
    const sign = sorted && sorted.key === name ? -sorted.sign : name === "weight" ? -1 : 1;
    sorted = { key: name, sign };
    const values = keys(name);
    all.sort((a, b) => sign * (values[a] - values[b]) || a - b);
    table.querySelectorAll("[data-key]").forEach((head) => {
      if (head.dataset.key === name) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    search();
  }

  function search() {
    load();
    const wanted = plain(input.value);
    const [onlyKind, onlyScript] = [kind.value, script.value].map((value) => (value === "" ? -1 : Number(value)));
    const texts = wanted ? plainTokens() : null;
    const inSources = wanted ? data.sources.map((text) => plain(text).includes(wanted)) : null;
    const number = /^#?\d+$/.test(wanted) ? Number(wanted.replace("#", "")) : -1;
    const own = [];
    const others = [];
    for (const row of all) {
      if (onlyKind >= 0 && data.kind[row] !== onlyKind) continue;
      if (onlyScript >= 0 && data.script[row] !== onlyScript) continue;
      if (!wanted || texts[row].includes(wanted) || data.ids[row] === number) own.push(row);
      else if (anySource(row, inSources)) (sorted ? own : others).push(row);
    }
    // The token itself before tokens that are made of it, unless another order was asked for.
    found = own.concat(others);
    page = 0;
    show();
    output.dataset.query = input.value; // what the count speaks of: typing may be ahead of it
  }

  function anySource(row, wanted) {
    for (let i = data.starts[row]; i < data.starts[row + 1]; i += 1) if (wanted[data.entries[i]]) return true;
    return false;
  }

  function isolated(text) {
    const element = document.createElement("bdi");
    element.dir = "auto";
    element.textContent = text;
    return element;
  }

  function line(row) {
    const sources = [];
    for (let i = data.starts[row]; i < data.starts[row + 1]; i += 1) {
      const one = document.createElement("span");
      one.append(isolated(data.sources[data.entries[i]]), " " + (data.weights[i] / 1000).toFixed(3));
      if (sources.length) sources.push(", ");
      sources.push(one);
    }
    const cells = [
      [String(data.ids[row])], [isolated(data.tokens[row])], [data.kinds[data.kind[row]]],
      [data.scripts[data.script[row]]], [(data.confidence[row] / 1000).toFixed(3)], sources,
    ];
    const element = document.createElement("tr");
    element.setAttribute("role", "row");
    table.querySelectorAll("[data-key]").forEach((head, i) => {
      const cell = document.createElement(head.dataset.key === "token" ? "th" : "td");
      cell.className = head.className;
      cell.setAttribute("role", head.dataset.key === "token" ? "rowheader" : "cell");
      if (head.dataset.key === "token") cell.scope = "row";
      cell.append(...cells[i]);
      element.append(cell);
    });
    return element;
  }

  function show() {
    const first = page * pageRows;
    const rows = Array.from(found.slice(first, first + pageRows), line);
    body.replaceChildren(...rows);
    const count = (number) => number.toLocaleString("en");
    const total = count(found.length) + (found.length === 1 ? " token" : " tokens");
    output.textContent = !found.length ? "No token is like that."
      : found.length <= pageRows ? total : count(first + 1) + " to " + count(first + rows.length) + " of " + total;
    const last = lastPage();
    buttons.forEach((button) => {
      const ahead = button.dataset.go === "next" || button.dataset.go === "last";
      button.setAttribute("aria-disabled", String(ahead ? page >= last : page <= 0));
    });
  }

  const lastPage = () => Math.max(0, Math.ceil(found.length / pageRows) - 1);

  function go(where) {
    load();
    const target = { first: 0, previous: page - 1, next: page + 1, last: lastPage() }[where];
    page = Math.min(Math.max(target, 0), lastPage());
    show();
  }

  // What works with a script alone appears with it.
  table.querySelectorAll("[data-key]").forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head.dataset.key));
    head.replaceChildren(button);
  });
  box.querySelectorAll("[hidden]").forEach((element) => { element.hidden = false; });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 150);
  });
  [kind, script].forEach((select) => select.addEventListener("change", search));
  buttons.forEach((button) => button.addEventListener("click", () => go(button.dataset.go)));
  const near = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      near.disconnect();
      if (!data) search();
    }
  }, { rootMargin: "600px" });
  near.observe(box);
});

// On paper nothing can be unfolded.
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not([open])").forEach((element) => {
    element.open = true;
    element.dataset.folded = "";
  });
});
window.addEventListener("afterprint", () => {
  document.querySelectorAll("details[data-folded]").forEach((element) => {
    element.open = false;
    delete element.dataset.folded;
  });
});
