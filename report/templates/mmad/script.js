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

const search = document.getElementById("search");
search?.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/);
  const fits = (element) => words.every((word) => element.textContent.toLowerCase().includes(word));
  let count = 0;
  for (const entry of document.querySelectorAll(".entry")) {
    const titled = fits(entry.querySelector("a"));
    for (const section of entry.querySelectorAll("li")) section.hidden = !titled && !fits(section);
    entry.hidden = !titled && !entry.querySelector("li:not([hidden])");
    count += !entry.hidden;
  }
  document.getElementById("found").textContent = search.value ? `${count} found` : "";
});

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
