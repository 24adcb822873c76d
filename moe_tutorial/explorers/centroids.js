const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };

bring("centroids", (config, { root, form, panels }) => {
  const { centroids, reach, digits } = config;
  const plane = panels.plane;
  const middle = { x: Number(plane.dataset.x), y: Number(plane.dataset.y) };
  const unit = Number(plane.dataset.unit);
  const handle = plane.querySelector(".token");
  const within = (value) => Number(Math.min(Math.max(value, -reach), reach).toFixed(digits));
  let { token, k, scores } = config;

  function show() {
    const logits = (scores === "dot" ? dotScores : cosineScores)(token, centroids);
    const probabilities = softmax(logits);
    const experts = topK(logits, k);
    drawPlane(experts);
    drawBars(panels.logits, logits, { label: (logit) => fixed(logit, 1), chosen: experts });
    drawBars(panels.probabilities, probabilities, { chosen: experts });
    const at = token.map((value) => fixed(value, digits)).join(", ");
    handle.setAttribute("aria-valuenow", token[0]);
    handle.setAttribute("aria-valuetext", at);
    const [best] = experts;
    report(
      root,
      { token, scores, k, logits, probabilities, experts },
      `Token at (${at}), ${scores === "dot" ? "dot product" : "cosine"}: ` +
        `${k > 1 ? "experts" : "expert"} ${listing(experts)} ${k > 1 ? "are" : "is"} chosen. Expert ` +
        `${best} has logit ${fixed(logits[best], 2)} and probability ${fixed(probabilities[best], 2)}.`,
    );
  }

  function drawPlane(experts) {
    const pixels = ([x, y]) => [middle.x + unit * x, middle.y - unit * y].map((v) => v.toFixed(2));
    const [x, y] = pixels(token);
    plane.querySelectorAll("[data-scores]").forEach((part) => {
      part.style.display = part.dataset.scores === scores ? "inline" : "none";
    });
    const arrow = plane.querySelector(".arrow");
    arrow.setAttribute("x2", x);
    arrow.setAttribute("y2", y);
    handle.setAttribute("transform", `translate(${x} ${y})`);
    handle.querySelector("text").setAttribute("y", token[1] > 0.85 * reach ? 24 : -15);
    const square = dot(token, token) || 1;
    const length = Math.sqrt(square);
    const axis = plane.querySelector(".line");
    [-1, 1].forEach((end, i) => {
      const [far, up] = pixels(token.map((value) => (end * 2 * reach * value) / length));
      axis.setAttribute(`x${i + 1}`, far);
      axis.setAttribute(`y${i + 1}`, up);
    });
    plane.querySelectorAll("[data-expert]").forEach((group, expert) => {
      group.classList.toggle("chosen", experts.includes(expert));
    });
    plane.querySelectorAll("[data-foot]").forEach((group, expert) => {
      group.setAttribute("visibility", experts.includes(expert) ? "visible" : "hidden");
      const along = dot(token, centroids[expert]) / square;
      const [footX, footY] = pixels(token.map((value) => along * value));
      const drop = group.querySelector(".drop");
      drop.setAttribute("x2", footX);
      drop.setAttribute("y2", footY);
      const end = group.querySelector(".foot");
      end.setAttribute("cx", footX);
      end.setAttribute("cy", footY);
    });
  }

  function moveTo(point) {
    token = point.map(within);
    show();
  }

  function under(event) {
    const point = new DOMPoint(event.clientX, event.clientY);
    const { x, y } = point.matrixTransform(plane.getScreenCTM().inverse());
    return [(x - middle.x) / unit, (middle.y - y) / unit];
  }

  // A mouse may take the token to any place of the plane and drag on. A finger has to hold the token
  // itself, or tap, so that a page can still be scrolled by its pictures.
  let grip = [0, 0];
  plane.addEventListener("pointerdown", (event) => {
    const held = event.target.closest(".token");
    if (!held && event.pointerType === "touch") return;
    event.preventDefault();
    grip = held ? under(event).map((value, i) => token[i] - value) : [0, 0];
    handle.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    drag(event);
  });
  const drag = (event) => moveTo(under(event).map((value, i) => value + grip[i]));
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) drag(event);
  });
  plane.addEventListener("click", (event) => {
    if (event.pointerType === "touch" && !event.target.closest(".token")) moveTo(under(event));
  });
  // Browsers differ in what touch-action means inside a picture; this keeps the page still in all.
  handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
  handle.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 50 : 10) / 10 ** digits;
    if (event.key === "Home") moveTo(config.token);
    else if (ARROWS[event.key]) moveTo(token.map((value, i) => value + step * ARROWS[event.key][i]));
    else return;
    event.preventDefault();
  });

  // The picture becomes a group with one thing in it that can be moved.
  plane.setAttribute("role", "group");
  const slides = { role: "slider", tabindex: 0, "aria-label": "Token", "aria-valuemin": -reach, [OWN_KEYS]: true };
  Object.assign(slides, { "aria-valuemax": reach, "aria-roledescription": "point in the plane" });
  Object.entries(slides).forEach(([name, value]) => handle.setAttribute(name, value));
  choice(form, "Scores", { dot: "dot product", cosine: "cosine" }, scores, (value) => {
    scores = value;
    show();
  });
  kSlider(form, k, centroids.length, (value) => {
    k = value;
    show();
  });
  form.append(element("p", { class: "moe-hint" }, "Drag the token, or focus it and use the arrow keys."));
  show();
});
