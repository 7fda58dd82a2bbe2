"use strict";
// Search in lexicon tables. All rows are embedded as JSON; cells are set as text, never as markup.
document.querySelectorAll("[data-lexicon]").forEach((box) => {
  const id = box.dataset.lexicon;
  const input = box.querySelector("input");
  const output = box.querySelector("output");
  const body = document.getElementById(id + "-table").tBodies[0];
  const sample = body.innerHTML;
  const numeric = [...document.querySelectorAll("#" + CSS.escape(id) + "-table thead th")].map((cell) => cell.className);
  const limit = 200;
  let rows = null;
  let timer = 0;

  function row(cells) {
    const line = document.createElement("tr");
    cells.forEach((text, i) => {
      const cell = document.createElement(i === 0 ? "th" : "td");
      if (i === 0) cell.scope = "row";
      if (numeric[i]) cell.className = numeric[i];
      const isolated = document.createElement("bdi");
      isolated.dir = "auto";
      isolated.textContent = text;
      cell.append(isolated);
      line.append(cell);
    });
    return line;
  }

  function search() {
    // Spaces at the ends of a token are shown as open boxes; a space finds them.
    const plain = (text) => text.replaceAll("\u2423", " ").toLocaleLowerCase();
    const wanted = plain(input.value);
    if (!wanted) {
      body.innerHTML = sample;
      output.textContent = "";
      return;
    }
    rows = rows || JSON.parse(document.getElementById(id + "-data").textContent);
    const found = [];
    let count = 0;
    for (const cells of rows) {
      if (cells.some((cell) => plain(cell).includes(wanted))) {
        count += 1;
        if (found.length < limit) found.push(row(cells));
      }
    }
    body.replaceChildren(...found);
    output.textContent = count.toLocaleString("en") + (count === 1 ? " row" : " rows") +
      (count > limit ? ", the first " + limit + " shown" : "");
  }

  box.hidden = false;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 120);
  });
});
