// A box that scrolls sideways can be reached by keyboard, and so be scrolled; one that does not is passed over.
{
  const mark = box => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const boxes = document.querySelectorAll(".bd-article :is(pre, table, .katex-display)");
  const observer = new ResizeObserver(changes => changes.forEach(change => mark(change.target)));
  boxes.forEach(box => observer.observe(box));
  document.fonts.ready.then(() => boxes.forEach(mark));
}
