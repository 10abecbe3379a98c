"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Sorting: numbers by value, words by letters, empty cells last either way.
  const compare = (a, b, down) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return down ? -order : order;
  };
  const value = cell => (cell.dataset.value === undefined ? cell.textContent.trim() : parseFloat(cell.dataset.value));
  all("table.sortable th button").forEach(button => button.addEventListener("click", () => {
    const head = button.parentNode, body = head.closest("table").tBodies[0], column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    all("th", head.parentNode).forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map(row => [value(row.cells[column]), row]);
    rows.sort((x, y) => compare(x[0], y[0], down)).forEach(pair => body.appendChild(pair[1]));
  }));

  // Filtering: rows that hold all words.
  all(".filter").forEach(input => input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const tools = input.closest(".tools"), rows = [...tools.nextElementSibling.querySelector("tbody").rows];
    rows.forEach(row => { const text = row.textContent.toLowerCase(); row.hidden = !words.every(word => text.includes(word)); });
    tools.querySelector(".count").textContent = words.length ? `${rows.filter(row => !row.hidden).length} of ${rows.length} rows` : "";
  }));

  // Copying; where the browser gives no clipboard to files, by selection.
  const copied = async text => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* not allowed here */ }
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  all(".copier").forEach(button => button.addEventListener("click", async () => {
    const done = await copied(button.parentNode.querySelector("pre").textContent);
    button.nextElementSibling.textContent = done ? "copied" : "not allowed by the browser: select it by hand";
  }));

  // Interactive brains, made when they are asked for, of parts that the page holds once.
  const shared = document.getElementById("shared");
  let parts = null;
  all(".load").forEach(button => button.addEventListener("click", () => {
    const view = button.parentNode, place = view.querySelector(".frame"), open = place.hidden;
    if (open) {
      parts = parts || JSON.parse(shared.textContent);
      const frame = document.createElement("iframe");
      frame.title = view.querySelector("h4").textContent;
      frame.setAttribute("sandbox", "allow-scripts");
      frame.srcdoc = parts.reduce((page, part, i) => page.replaceAll(`@@shared-${i}@@`, () => part), JSON.parse(view.querySelector("script").textContent));
      place.replaceChildren(frame);
    } else place.replaceChildren();
    place.hidden = !open;
    button.setAttribute("aria-expanded", open);
    button.textContent = open ? "Close the interactive brain" : "Open the interactive brain";
  }));

  // Contents: a menu on the phone; the section in view is marked.
  const menu = document.querySelector(".menu"), contents = document.getElementById("contents");
  const toggle = open => { contents.classList.toggle("open", open); menu.setAttribute("aria-expanded", open); };
  menu.addEventListener("click", () => toggle(!contents.classList.contains("open")));
  document.addEventListener("keydown", event => { if (event.key === "Escape" && contents.classList.contains("open")) { toggle(false); menu.focus(); } });
  const links = all("a", contents);
  links.forEach(link => link.addEventListener("click", () => toggle(false)));
  const mark = () => {
    const seen = all("main > section").filter(section => section.getBoundingClientRect().top < innerHeight / 3).pop();
    links.forEach(link => (seen && link.hash === `#${seen.id}` ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  };
  let waiting = false;
  addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; mark(); }); } }, { passive: true });
  mark();

  // What a link leads to is opened. Print shows what is open.
  const reveal = () => {
    let target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
})();
