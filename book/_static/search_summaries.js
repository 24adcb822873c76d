// A result shows words of the article: not of the buttons above it, nor a formula once for each way it is written down.
{
  const plainText = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    page.querySelectorAll(".bd-header-article, .onlyprint, .prev-next-footer, .bd-sidebar-secondary, .bd-footer-content, .katex-mathml")
      .forEach(part => part.remove());
    return plainText(page.documentElement.outerHTML, anchor);
  };
}
