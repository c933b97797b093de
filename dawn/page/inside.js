// The panel of an inspection: what a cell of the confusion matrix says, and tables that sort. Names are only ever text.
"use strict";

(function () {
  const words = (cell) => cell.textContent.trim();

  function tell(cell, named) {
    const row = cell.parentElement, heat = cell.closest("table"), label = words(row.cells[0]), said = words(heat.rows[0].cells[cell.cellIndex]);
    const images = [...row.cells].slice(1).reduce((sum, other) => sum + Number(words(other)), 0), count = Number(words(cell));
    const share = images ? ` (${(100 * count / images).toFixed(1)} %)` : "";
    const files = named ? worstOf(heat, label, said) : [];
    const output = heat.closest(".inside").querySelector("output"), strip = named && cell.dataset.images;
    output.textContent =
      `${label} called ${said}: ${count} of ${images} images${share}.` + (files.length ? ` Of the worst images: ${files.join(", ")}` : "");
    if (strip) {
      const picture = document.createElement("img");
      picture.src = `data:image/png;base64,${strip}`;
      picture.alt = `images of ${label} called ${said}`;
      output.append(picture);
    }
  }

  function worstOf(heat, label, said) {
    const rows = [...heat.closest(".inside").querySelectorAll(".worst tbody tr")].map((row) => [...row.cells].map(words));
    return rows.filter((row) => row[1] === label && row[2] === said).slice(0, 8).map((row) => row[0]);
  }

  function sort(head) {
    const descending = head.getAttribute("aria-sort") === "ascending", column = head.cellIndex, body = head.closest("table").tBodies[0];
    const key = (row) => words(row.cells[column]), sign = descending ? -1 : 1;
    const order = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === ""); // what is not known comes last, either way
      return sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
    };
    body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  }

  document.querySelectorAll(".heat tbody").forEach((body) => {
    let chosen = null;
    body.addEventListener("pointerover", (event) => {
      const cell = event.target.closest("td");
      if (cell && !chosen) tell(cell, false);
    });
    body.addEventListener("click", (event) => {
      const cell = event.target.closest("td"), again = cell === chosen;
      if (!cell) return;
      if (chosen) chosen.classList.remove("chosen");
      chosen = again ? null : cell;
      if (chosen) chosen.classList.add("chosen");
      tell(cell, !again);
    });
  });
  document.querySelectorAll(".sorts thead th").forEach((head) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(head));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(head); });
  });
})();
