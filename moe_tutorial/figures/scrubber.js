bring("scrubber", ({ name, labels, start, box, lines, frames }, { root, hand }) => {
  const last = labels.length - 1;
  // Ids count in the whole page: these must not meet those of another picture.
  const own = `s${[...document.querySelectorAll(".moe-scrubber")].indexOf(root)}-`;
  const frame = (position) => frames[position].map((number) => lines[number]).join("\n");
  let position = start;

  function move(to, byHand) {
    if (byHand) pause();
    position = to;
    const svg = frame(to).replace(/( id="|href="#|url\(#)/g, `$1${own}`);
    drawInto(root, "main", [`<div class="moe-frame" style="aspect-ratio:${box}">${svg}</div>`]);
  }

  // At the end it begins again.
  const [, pause] = player(hand, name, 700, () => {
    go(position < last ? position + 1 : 0);
    return position < last;
  });
  const describe = (to) => [labels[to], labels[to]];
  const go = slider(hand, name, { last, position, describe, move });
  go(start);
});
