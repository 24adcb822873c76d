// The card of a link to a work or a word: shown while the link, or the card, is pointed at or the link has the focus.
// Escape puts it away. Where one taps, the first tap shows the card, at the foot of the screen, and the second follows
// the link.
{
  const links = [...document.querySelectorAll('a[aria-describedby^="card-"]')];
  const GAP = 6;
  let link = null;
  let card = null;
  let waiting = 0;

  const hide = () => {
    clearTimeout(waiting);
    card?.hidePopover();
    link = card = null;
  };
  // Below the link, or above it where there is more room; on a narrow window the style sheet has a place for it.
  const place = () => {
    const box = link.getClientRects()[0] ?? link.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = card;
    const below = box.bottom + GAP + height < innerHeight || box.top < innerHeight - box.bottom;
    const within = (wish, most) => `${Math.max(GAP, Math.min(wish, most - GAP))}px`;
    card.style.left = within(box.left, document.documentElement.clientWidth - width);
    card.style.top = within(below ? box.bottom + GAP : box.top - GAP - height, innerHeight - height);
  };
  const show = a => {
    clearTimeout(waiting);
    if (a === link) return;
    hide();
    link = a;
    card = document.getElementById(a.getAttribute("aria-describedby"));
    card.showPopover();
    place();
  };
  const after = (milliseconds, act) => {
    clearTimeout(waiting);
    waiting = setTimeout(act, milliseconds);
  };

  for (const a of links) {
    a.addEventListener("pointerenter", event => event.pointerType === "mouse" && after(150, () => show(a)));
    a.addEventListener("pointerleave", event => event.pointerType === "mouse" && after(250, hide));
    a.addEventListener("focus", () => a.matches(":focus-visible") && show(a));
    a.addEventListener("blur", hide);
    a.addEventListener("click", event => {
      if (event.pointerType !== "touch" || a === link) return;
      event.preventDefault();
      show(a);
    });
  }
  for (const one of document.querySelectorAll(".hover-card")) {
    one.addEventListener("pointerenter", () => clearTimeout(waiting));
    one.addEventListener("pointerleave", () => after(250, hide));
  }
  addEventListener("keydown", event => event.key === "Escape" && hide());
  addEventListener("pointerdown", event => card && !card.contains(event.target) && event.target !== link && hide());
  addEventListener("scroll", () => link && place(), { passive: true });
  addEventListener("resize", hide);
}
