// What the widget manager needs on a page of its own; loaded before it, on pages with widgets only.

// It asks for MathJax 2's queue, whereas the page carries MathJax 3.
window.addEventListener("load", () => {
  if (window.MathJax && !window.MathJax.Hub) {
    window.MathJax.Hub = { Queue: ([, , element]) => window.MathJax.typesetPromise?.([element]) };
  }
});

// A slider's handle has no name for a screen reader: give it the label that stands beside it.
const nameSliders = () => {
  for (const handle of document.querySelectorAll(".noUi-handle:not([aria-label])")) {
    const label = handle.closest(".jupyter-widgets")?.querySelector(".widget-label")?.textContent.trim();
    handle.setAttribute("aria-label", label || "slider");
  }
};
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(nameSliders).observe(document.body, { childList: true, subtree: true });
});
