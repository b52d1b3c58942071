"use strict";

// Tables of class "sortable": a press on a heading sorts by its column, a second one turns the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const first = heading.dataset.first || "ascending";
      const order = heading.ariaSort !== first ? first : first === "ascending" ? "descending" : "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      sortRows(table.tBodies[0], column, order === "ascending" ? 1 : -1);
    });
  });
}

function sortRows(body, column, sign) {
  const keyed = [...body.rows].map((row) => [sortKey(row.cells[column]), row]);
  keyed.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");  // what is not known is last in either order
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), undefined, {numeric: true});
  });
  body.append(...keyed.map(([, row]) => row));
}

function sortKey(cell) {
  const text = (cell.dataset.value ?? cell.textContent).trim();
  const number = Number.parseFloat(text.replace(/,/g, "").replace("−", "-"));
  if (text === "" || text === "–") return "";
  return cell.tagName === "TD" && !Number.isNaN(number) ? number : text;
}
