{
  // A result shows words of the article: not of the buttons above it, nor a formula once for each way it is written down.
  const plainText = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    page.querySelectorAll(".bd-header-article, .onlyprint, .prev-next-footer, .bd-footer-content, .katex-mathml, .cards, .beside[aria-hidden]")
      .forEach(part => part.remove());
    return plainText(page.documentElement.outerHTML, anchor);
  };

  // The words that were searched for are marked on the page that a result leads to and on no other: they travel in the
  // result's address, and not in a store that the next page empties, whichever it is.
  const parse = Search._parseQuery;
  let words = "";
  Search._parseQuery = query => {
    const parsed = parse(query);
    words = localStorage.getItem("sphinx_highlight_terms") ?? "";
    localStorage.removeItem("sphinx_highlight_terms");
    return parsed;
  };
  new MutationObserver(changes => {
    for (const link of changes.flatMap(change => [...change.addedNodes]).map(node => node.querySelector?.("a"))) {
      if (!link || !words) continue;
      const address = new URL(link.href);
      address.searchParams.set("highlight", words);
      link.href = address;
    }
  }).observe(document.getElementById("search-results"), { childList: true, subtree: true });
}
