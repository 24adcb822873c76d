// What tools/site/make_pdf.py asks of a page: its article, so that many can stand in one document.
// Each name in it gets the page's address before it, and links between pages become links inside.
// Paper names the number of the page that a link to another chapter leads to; it is filled in later.
const numberOf = page => ` <span class="page-number" data-page="${page}">000</span>`;
const words = heading => heading.textContent.replace(/\s+/g, " ").trim();

window.takeArticle = async home => {
  await document.fonts.ready;
  dispatchEvent(new Event("beforeprint")); // what a page does for paper
  const page = address => address.pathname.slice(new URL(home).pathname.length).replace(/\.html$/, "");
  const here = page(location);
  const article = document.querySelector("article");
  for (const unused of article.querySelectorAll("script, source, .headerlink")) unused.remove();
  for (const details of article.querySelectorAll("details")) details.open = true; // solutions are part of it
  for (const image of article.querySelectorAll("img")) {
    image.loading = "eager";
    image.src = image.src; // whole, and so right from anywhere
  }
  for (const element of article.querySelectorAll("*")) {
    for (const { name, value } of [...element.attributes]) {
      if (name === "id") element.id = `${here}--${value}`;
      else if (["for", "headers"].includes(name) || name.startsWith("aria-") && name.endsWith("by"))
        element.setAttribute(name, value.replace(/\S+/g, `${here}--$&`));
      else if (value.includes("url(#")) element.setAttribute(name, value.replaceAll("url(#", `url(#${here}--`));
    }
  }
  for (const link of article.querySelectorAll("a[href]")) {
    const target = new URL(link.getAttribute("href"), location);
    if (target.origin !== location.origin) continue;
    if (page(target) !== here && !target.hash) link.insertAdjacentHTML("afterend", numberOf(page(target)));
    link.setAttribute("href", `#${page(target)}${target.hash && `--${decodeURIComponent(target.hash.slice(1))}`}`);
  }
  article.id = here;
  return [words(article.querySelector("h1")), article.outerHTML];
};

// Shows the pages that were taken, one after another, in place of the page that is open; paper has the title of
// each above it. Gives their headings.
window.showAll = async (title, style, body) => {
  document.title = title;
  document.querySelector("article").outerHTML = body;
  for (const [i, article] of [...document.querySelectorAll("article[id]")].entries()) {
    article.style.page = `page-${i}`;
    style += `@page page-${i} { @top-left { content: ${JSON.stringify(words(article.querySelector("h1")))}; } }`;
  }
  document.head.insertAdjacentHTML("beforeend", `<style>${style}</style>`);
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
  return [...document.querySelectorAll("article :is(h1, h2, h3, h4, h5, h6)")].map(words);
};

// Fills in the numbers of pages; a page that is not printed has none.
window.numberPages = numbers => {
  for (const place of document.querySelectorAll("[data-page]")) place.textContent = numbers[place.dataset.page] ?? "";
};
