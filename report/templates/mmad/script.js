// The contents list follows the reader, figures can be enlarged, and code is unfolded for the printer.
// Without this script the page lacks these conveniences and nothing else.
const links = new Map([...document.querySelectorAll("#contents a")].map((link) => [link.hash.slice(1), link]));
const headings = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
let current = null;

function follow() {
  const above = headings.filter((heading) => heading.getBoundingClientRect().top < innerHeight / 4);
  const link = links.get((above.at(-1) ?? headings[0])?.id);
  if (!link || link === current) return;
  current?.removeAttribute("aria-current");
  link.setAttribute("aria-current", "location");
  current = link;
  const list = link.closest("nav");
  if (getComputedStyle(list).position === "fixed") list.scrollTop = link.offsetTop - list.clientHeight / 2;
}

addEventListener("scroll", () => requestAnimationFrame(follow), { passive: true });
follow();

const dialog = document.querySelector("dialog");
const enlarged = dialog?.querySelector("img");
for (const button of document.querySelectorAll("button.zoom")) {
  const picture = button.parentElement.querySelector("img");
  const enlarge = () => {
    enlarged.src = picture.src;
    enlarged.alt = picture.alt;
    dialog.showModal();
  };
  button.addEventListener("click", enlarge);
  picture.addEventListener("click", enlarge);
}
dialog?.addEventListener("click", () => dialog.close());

for (const button of document.querySelectorAll("button[data-show]")) {
  const parts = document.querySelectorAll(`details.${button.dataset.show}`);
  if (!parts.length) button.hidden = true;
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", shown);
    for (const part of parts) {
      part.open = shown;
      if (button.dataset.show === "check") part.hidden = !shown;
    }
  });
}

const search = document.getElementById("search");
if (search) {
  const texts = JSON.parse(document.getElementById("texts").textContent);
  for (const entry of texts) entry.low = `${entry.title} ${entry.page} ${entry.text}`.toLowerCase();
  const hits = document.getElementById("hits");
  const MOST = 60; // of the sections that are listed
  const AROUND = 80; // characters before and after a word in the excerpt

  const excerpt = (entry, word) => {
    const at = Math.max(entry.text.toLowerCase().indexOf(word), 0);
    const start = Math.max(at - AROUND, 0);
    return (start ? "…" : "") + entry.text.slice(start, at + word.length + AROUND) + "…";
  };

  const show = (entry, words) => {
    const item = document.createElement("li");
    const link = item.appendChild(document.createElement("a"));
    link.href = entry.url;
    link.textContent = entry.title;
    item.append(` ${entry.page === entry.title ? "" : entry.page}`);
    if (entry.text) item.appendChild(document.createElement("p")).textContent = excerpt(entry, words.at(-1));
    return item;
  };

  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = words.length ? texts.filter((entry) => words.every((word) => entry.low.includes(word))) : [];
    const titled = (entry) => words.every((word) => entry.title.toLowerCase().includes(word));
    found.sort((a, b) => titled(b) - titled(a));
    hits.replaceChildren(...found.slice(0, MOST).map((entry) => show(entry, words)));
    hits.hidden = !found.length;
    document.getElementById("found").textContent = words.length ? `${found.length} found` : "";
  });
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
