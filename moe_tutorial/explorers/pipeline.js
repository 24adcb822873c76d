// A router's steps from top to bottom, one column for each expert: what each step makes of the
// numbers, calculated by the package. A value of null is an expert that is out.
bring("pipeline", ({ routers }, { root, form, hand }) => {
  const now = { router: 0, step: 0 };
  const ROW = 44;
  const most = Math.max(...routers.map(({ steps }) => steps.length));
  const steps = () => routers[now.router].steps;
  const inside = (values) => values.flatMap((value, expert) => (value === null ? [] : [expert]));

  // The middle and the width of an expert's column, which has more room than under bars.
  function slotOf(expert) {
    const slot = (WIDTH - 12) / steps()[0].values.length;
    return [6 + (expert + 0.5) * slot, slot];
  }

  // From the smallest number to the largest, or from 0 where some experts are out.
  function depths(values) {
    const all = inside(values).map((expert) => values[expert]);
    const low = all.length < values.length ? Math.min(0, ...all) : Math.min(...all);
    const span = Math.max(...all) - low || 1;
    return values.map((value) => (value === null ? 0 : 0.06 + (0.44 * (value - low)) / span));
  }

  function row({ name, field, values, labels }, place) {
    const y = 58 + ROW * place;
    const cells = depths(values).map((depth, expert) => {
      const [x, slot] = slotOf(expert);
      const more = `rx="2" fill-opacity="${at(depth)}"`;
      const cell = rect("cell", x - slot / 2 + 1, y + 18, slot - 2, 20, more);
      return cell + text(x, y + 32, labels[expert], "tight");
    });
    const mark = place === now.step ? rect("curve", 2, y, WIDTH - 4, ROW - 2, 'rx="4"') : "";
    return (
      `<g data-step="${place}" style="cursor:pointer">${rect("halo", 2, y, WIDTH - 4, ROW - 2)}${mark}` +
      text(8, y + 13, name, "title start") +
      text(RIGHT - 4, y + 13, field.replace(/"/g, "&quot;"), "quiet end") +
      `${cells.join("")}</g>`
    );
  }

  function pipeline() {
    const { name, sizes } = routers[now.router];
    const named = steps().map((step) => step.name);
    const label = `${name}, ${sizes}, in ${named.length} steps: ${listing(named)}.`;
    return panel("pipeline", 58 + ROW * most, label, [
      text(0, 12, name, "title start"),
      text(RIGHT, 12, sizes, "quiet end"),
      ...steps()[0].values.map((_, expert) => disc(slotOf(expert)[0], 40, expert)),
      ...steps().map(row),
    ]);
  }

  function draw(before) {
    const { name, values, labels } = steps()[now.step];
    const all = inside(values).length === values.length;
    const shown = values.map((value) => value ?? 0);
    const ghost = before?.values.map((value) => value ?? 0);
    const chosen = all ? undefined : inside(values);
    const words = { ghost, chosen, label: (_, expert) => (values[expert] === null ? "" : labels[expert]) };
    const title = `After step ${now.step + 1} of ${steps().length}: ${name}`;
    return { main: [pipeline()], side: [bars("values", title, shown, words)] };
  }

  root.style.setProperty("--lines", 4);

  const update = (change) => {
    Object.assign(now, change);
    const { name, values, said } = steps()[now.step];
    const sentence = `${routers[now.router].name}, ${name}: ${said}`;
    show(root, { ...now, values }, draw, sentence);
  };

  // --- hands ---

  const names = Object.fromEntries(routers.map(({ name }) => [name, name]));
  choice(form, "Router", names, routers[0].name, (name) => {
    const wanted = steps()[now.step].name;
    now.router = routers.findIndex((router) => router.name === name);
    const same = steps().findIndex((step) => step.name === wanted);
    hand.querySelector("input").max = steps().length - 1;
    toStep(Math.max(same, 0));
  });
  // On a phone these stand below the picture, where the hand cannot cover a part of them.
  form.querySelector("fieldset").style.order = 1;
  hint(form, "Touch a row, or use the slider. ");
  const toStep = slider(hand, "Step", {
    last: steps().length - 1,
    position: 0,
    describe: (place) => {
      const { name } = steps()[place];
      return [name, `${place + 1} of ${steps().length}, ${name}`];
    },
    move: (step) => update({ step }),
  });
  root.addEventListener("click", (event) => {
    const place = event.target.closest("[data-step]")?.dataset.step;
    if (place !== undefined) toStep(Number(place));
  });
  update({});
});
