const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
const MIDDLE = [WIDTH / 2 + 8, 158]; // the origin of the plane, in pixels
const HALF = 154; // half of the plane's width

// --- where each expert wins ---

// Both scores order the experts as linear functions of the token do, the cosine with centroids of
// length 1. So a region is the square from -reach to reach, cut along a line for each other expert.
function winningRegions(centroids, reach, scores) {
  const normals = scores === "dot" ? centroids : centroids.map(direction);
  const same = (a, b) => a[0] === b[0] && a[1] === b[1];
  return normals.map((normal, expert) => {
    // Of two experts that score the same everywhere the lower id wins.
    if (normals.findIndex((other) => same(normal, other)) < expert) return [];
    const square = [[-reach, -reach], [reach, -reach], [reach, reach], [-reach, reach]];
    const corners = normals.reduce(
      (kept, other) => cut(kept, [normal[0] - other[0], normal[1] - other[1]]),
      square,
    );
    return area(corners) > 1e-9 * reach ** 2 ? corners : [];
  });
}

// The part of a convex polygon where the dot product with the normal is not negative.
function cut(corners, normal) {
  return corners.flatMap((end, i) => {
    const start = corners.at(i - 1);
    const [before, after] = [dot(normal, start), dot(normal, end)];
    const part = before / (before - after);
    const crossing = start.map((value, axis) => value + part * (end[axis] - value));
    return [...(before * after < 0 ? [crossing] : []), ...(after >= 0 ? [end] : [])];
  });
}

function area(corners) {
  const cross = ([a, b], [x, y]) => a * y - b * x;
  return Math.abs(sum(corners.map((corner, i) => cross(corners.at(i - 1), corner)))) / 2;
}

bring("centroids", (config, { root, form, hand }) => {
  const { centroids, reach, digits } = config;
  const unit = HALF / reach;
  const within = (value) => Number(Math.min(Math.max(value, -reach), reach).toFixed(digits));
  const pixels = ([x, y]) => [MIDDLE[0] + unit * x, MIDDLE[1] - unit * y];
  const regions = {};
  for (const rule of ["dot", "cosine"]) regions[rule] = winningRegions(centroids, reach, rule);
  let { token, k, scores } = config;

  const place = () => token.map((value) => fixed(value, digits)).join(", ");

  function update() {
    const logits = (scores === "dot" ? dotScores : cosineScores)(token, centroids);
    const probabilities = softmax(logits);
    const experts = topK(logits, k);
    const [best] = experts;
    const label = scores === "dot" ? brief(logits) : (cosine) => fixed(cosine, 1);
    // Another kind of scores is no state before these.
    const ghosts = (before) => (before?.scores === scores ? before : {});
    show(
      root,
      { token, scores, k, logits, probabilities, experts },
      (before) => ({
        main: [planePanel(experts, before)],
        side: [
          bars("logits", "Logits", logits, {
            height: 160, label, chosen: experts, ghost: ghosts(before).logits,
          }),
          bars("probabilities", "Probabilities", probabilities, {
            chosen: experts, ghost: before?.probabilities,
          }),
        ],
      }),
      `Token at (${place()}), ${scores === "dot" ? "dot product" : "cosine"}: ` +
        `${expertsInWords(experts)} ${k > 1 ? "are" : "is"} chosen. Expert ${best} has logit ` +
        `${fixed(logits[best], 2)} and probability ${fixed(probabilities[best], 2)}.`,
    );
  }

  // --- the plane ---

  function planePanel(experts, before) {
    const [left, top] = pixels([-reach, reach]);
    const winners = regions[scores].flatMap((corners, expert) => (corners.length ? [expert] : []));
    const polygons = winners.map((expert) => {
      const points = regions[scores][expert].map((corner) => pixels(corner).map(at).join(","));
      return `<polygon class="region c${expert % 12}" points="${points.join(" ")}"/>`;
    });
    const end = roundAbove(reach / 2);
    const ticks = [-end, 0, end].map((value) => {
      const [across, up] = pixels([value, value]);
      const beside = text(left - 6, up + 4, tick(value), "end");
      return text(across, top + 2 * HALF + 15, tick(value)) + beside;
    });
    const discs = centroids.map((centroid, expert) => {
      const [x, y] = pixels(centroid);
      const state = experts.includes(expert) ? "chosen" : "";
      const ring = circle("ring", [x, y], 12.5);
      return `<g class="${state}" data-expert="${expert}">${ring}${disc(x, y, expert)}</g>`;
    });
    const [width, height] = [2 * HALF, 2 * HALF].map(at);
    return panel(
      "plane",
      332,
      `Plane with ${centroids.length} centroids and a token at (${place()}), coloured by the ` +
        `expert with the largest logit; ${listing(winners)} win somewhere. ` +
        `Chosen: ${listing(experts)}.`,
      [
        `<g>${polygons.join("")}</g>`,
        ...ticks,
        line(pixels([0, reach]), pixels([0, -reach]), "rule"),
        line(pixels([-reach, 0]), pixels([reach, 0]), "rule"),
        // What may reach beyond the square: a picture in the picture cuts it off.
        `<svg x="${at(left)}" y="${at(top)}" width="${width}" height="${height}" ` +
          `viewBox="${at(left)} ${at(top)} ${width} ${height}">` +
          `${scores === "dot" ? feet(experts) : ""}</svg>`,
        circle("ghost", pixels(before?.token ?? token), 7),
        line(MIDDLE, pixels(token), "arrow"),
        ...discs,
        handle(),
      ],
      { x: MIDDLE[0], y: MIDDLE[1], unit },
    ).replace('role="img"', 'role="group"'); // with one thing in it that can be moved
  }

  // The line through the token, and the chosen centroids' projections onto it.
  function feet(experts) {
    const square = dot(token, token) || 1;
    const far = (2 * reach) / Math.sqrt(square);
    const ends = [-far, far].map((factor) => pixels(token.map((value) => factor * value)));
    const projections = experts.map((expert) => {
      const along = dot(token, centroids[expert]) / square;
      const foot = pixels(token.map((value) => along * value));
      return (
        line(pixels(centroids[expert]), foot, "line dashed") + circle(`c${expert % 12}`, foot, 3.5)
      );
    });
    return line(...ends, "line") + projections.join("");
  }

  function handle() {
    const [x, y] = pixels(token);
    // Its name stands above the token, but below it near the upper edge.
    const name = text(-6, token[1] > 0.85 * reach ? 24 : -15, "token", "start");
    return (
      `<g class="token" transform="translate(${at(x)} ${at(y)})" role="slider" tabindex="0" ` +
      `aria-label="Token" aria-roledescription="point in the plane" aria-valuemin="${-reach}" ` +
      `aria-valuemax="${reach}" aria-valuenow="${token[0]}" aria-valuetext="${place()}" ` +
      `${OWN_KEYS}="true"><circle class="halo" r="17"/><circle class="grip" r="7"/>${name}</g>`
    );
  }

  // --- the hand ---

  function moveTo(point) {
    token = point.map(within);
    update();
  }

  const rules = { dot: "dot product", cosine: "cosine" };
  choice(form, "Scores", rules, scores, (value) => { scores = value; update(); });
  hint(form, "Drag the token, or focus it and use the arrow keys. ");
  kSlider(hand, k, centroids.length, (value) => { k = value; update(); });
  update();

  // A mouse may take the token to any place of the plane and drag on. A finger has to hold the
  // token itself, or tap, so that a page can still be scrolled by its pictures.
  const plane = root.querySelector("[data-panel=plane]");
  const held = plane.querySelector(".token");
  function under(event) {
    const point = new DOMPoint(event.clientX, event.clientY);
    const { x, y } = point.matrixTransform(plane.getScreenCTM().inverse());
    return [(x - MIDDLE[0]) / unit, (MIDDLE[1] - y) / unit];
  }
  let grip = [0, 0];
  const drag = (event) => moveTo(under(event).map((value, i) => value + grip[i]));
  plane.addEventListener("pointerdown", (event) => {
    const atToken = event.target.closest(".token");
    if (!atToken && event.pointerType === "touch") return;
    event.preventDefault();
    grip = atToken ? under(event).map((value, i) => token[i] - value) : [0, 0];
    held.setPointerCapture(event.pointerId);
    held.focus({ preventScroll: true });
    drag(event);
  });
  held.addEventListener("pointermove", (event) => {
    if (held.hasPointerCapture(event.pointerId)) drag(event);
  });
  plane.addEventListener("click", (event) => {
    if (event.pointerType === "touch" && !event.target.closest(".token")) moveTo(under(event));
  });
  // Browsers differ in what touch-action means inside a picture; this keeps the page still in all.
  held.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
  held.addEventListener("keydown", (event) => {
    const length = (event.shiftKey ? 50 : 10) / 10 ** digits;
    const way = ARROWS[event.key];
    if (event.key === "Home") moveTo(config.token);
    else if (way) moveTo(token.map((value, i) => value + length * way[i]));
    else return;
    event.preventDefault();
  });
});
