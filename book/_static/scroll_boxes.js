// What is wider than its box. A formula that is a little too wide is set smaller. Code, a table or a formula that
// still does not fit says at which of its edges there is more, where the style sheet lets it fade, and can be reached
// and so be scrolled by keyboard.
{
  const SMALLEST = 0.8; // of a formula's size
  const boxes = new Set(document.querySelectorAll(".bd-article :is(pre, table, .katex-display)"));

  const hidden = box => box.scrollWidth - box.clientWidth;

  function mark(box) {
    const more = [box.scrollLeft > 1 && "left", box.scrollLeft < hidden(box) - 1 && "right"];
    if (hidden(box) > 1) {
      box.tabIndex = 0;
      box.setAttribute("data-more", more.filter(Boolean).join(" "));
    } else {
      box.removeAttribute("tabindex");
      box.removeAttribute("data-more");
    }
  }

  function fit(box) {
    if (box.matches(".katex-display")) {
      box.style.fontSize = "";
      const share = box.clientWidth / box.scrollWidth;
      if (share < 1 && share >= SMALLEST) box.style.fontSize = `${Math.floor(100 * share) / 100}em`;
    }
    mark(box);
  }

  // What fit changes is observed, too: it waits for the next frame, and not for itself again.
  const widths = new WeakMap();
  const observer = new ResizeObserver(changes => requestAnimationFrame(() => {
    for (const { target } of changes) {
      if (widths.get(target) === target.clientWidth) continue;
      widths.set(target, target.clientWidth);
      fit(target);
    }
  }));
  boxes.forEach(box => observer.observe(box));
  document.fonts.ready.then(() => boxes.forEach(fit));
  document.addEventListener("scroll", ({ target }) => boxes.has(target) && mark(target), { capture: true, passive: true });
}
