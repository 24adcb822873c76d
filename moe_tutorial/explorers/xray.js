// A passage of which every token has its expert's colour. ids and gates are flat, K to a token with
// the largest gate first, -1 for none; hues are each layer's coloured experts, one for each colour; favourites are places in
// the vocabulary, most telling first.
bring("xray", (config, { root, form, hand }) => {
  const { tokens, layers, experts, k, ids, gates, hues, favourites, vocabulary } = config;
  const GAP = "\u00a0 ";
  const ROW = 40; // letters
  const now = { layer: config.layer, token: 0, expert: -1 };

  // --- what a state means ---

  const gate = (layer, place) => (gates ? gates[layer][place] / 100 : 0);

  // A token's experts with their gates.
  function chosen(layer, token) {
    const places = Array.from({ length: k }, (_, i) => token * k + i);
    return places
      .filter((place) => ids[layer][place] >= 0)
      .map((place) => [ids[layer][place], gate(layer, place)]);
  }

  const strongest = (layer, token) => (chosen(layer, token)[0] ?? [-1])[0];
  const visible = (word) =>
    word.replace(/\n/g, "\u21b5").replace(/\t/g, "\u2192").replace(/\0/g, "\u2205");
  const quoted = (word) => (word.trim() ? `\u201c${visible(word)}\u201d` : named(word));
  const named = (word) =>
    ({ " ": "space", "\n": "new line", "\t": "tab", "\0": "end of text" })[word] ??
    `${word.length} blanks`;
  const safe = (word) => word.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");
  const served = (layer, expert) =>
    tokens.filter((_, token) => chosen(layer, token).some(([id]) => id === expert)).length;

  // --- pictures ---

  function passage() {
    const spans = tokens.map((word, token) => {
      const own = chosen(now.layer, token).map(([id]) => id);
      const shown = now.expert < 0 ? own[0] : own.includes(now.expert) ? now.expert : -1;
      const hue = hues[now.layer].indexOf(shown);
      const alone = now.expert >= 0 && shown >= 0 ? "alone" : "";
      const colour = hue < 0 ? alone : `c${hue} on${hue}`;
      const here = token === now.token ? " here" : "";
      const line = word.endsWith("\n") ? "\n" : "";
      return `<span data-token="${token}" class="${colour}${here}">${safe(visible(word))}</span>${line}`;
    });
    return `<p class="moe-passage">${spans.join("")}</p>`;
  }

  function tokenPanel() {
    const rows = chosen(now.layer, now.token);
    const most = Math.max(...rows.map(([, share]) => share), 0.01);
    const said = rows.map(([id, share]) => `expert ${id}${gates ? ` (${fixed(share, 2)})` : ""}`);
    const height = 26 + 22 * k;
    return panel("token", height, `Token ${safe(quoted(tokens[now.token]))}: ${listing(said) || "no expert"}.`, [
      text(0, 12, `Experts of ${safe(quoted(tokens[now.token]))}`, "title start"),
      ...rows.map(([id, share], row) => {
        const y = 24 + 22 * row;
        const hue = hues[now.layer].indexOf(id);
        const kind = `bar ${hue < 0 ? "ghost" : `c${hue}`}`;
        return (
          text(0, y + 12, `expert ${id}`, "start") +
          rect(kind, 62, y, gates ? (220 * share) / most : 8, 16) +
          (gates ? text(62 + (220 * share) / most + 6, y + 12, fixed(share, 2), "start") : "")
        );
      }),
    ]);
  }

  function legendPanel() {
    const coloured = hues[now.layer];
    const first = tokens.map((_, token) => strongest(now.layer, token));
    const shares = coloured.map((id) => first.filter((it) => it === id).length / tokens.length);
    const said = coloured.map((id, i) => `expert ${id} (${share(shares[i])})`);
    const title = coloured.length < experts ? "The busiest experts here" : "The experts here";
    return panel("legend", 64, `${title}, with their share of the tokens: ${listing(said)}.`, [
      text(0, 12, title, "title start"),
      text(RIGHT, 12, "strongest of a token", "quiet end"),
      ...coloured.map((id, hue) => {
        const x = 14 + (hue * (RIGHT - 28)) / 11;
        return (
          circle(`disc c${hue}`, [x, 34], 11) +
          text(x, 38, id, `on${hue}`) +
          text(x, 60, share(shares[hue]), "quiet")
        );
      }),
    ]);
  }

  // Two rows of words, as many as there is room for; the first have it before the others.
  function inRows(words) {
    const rows = ["", ""];
    for (const word of words) {
      const fits = (row) => row.length + word.length <= ROW && row.split(GAP).length <= 4;
      const row = rows.findIndex(fits);
      if (row < 0) break;
      rows[row] += word + GAP;
    }
    return rows;
  }

  function favouritePanel(expert) {
    const words = favourites[now.layer][expert].map((place) => vocabulary[place]);
    const rows = inRows(words);
    const title = `Favourite tokens of expert ${expert}`;
    return panel("favourites", 58, `${title}: ${safe(listing(words))}.`, [
      text(0, 12, title, "title start"),
      ...rows.map((row, i) => text(0, 32 + 18 * i, safe(row), "start words")),
    ]);
  }

  function sentence() {
    const rows = chosen(now.layer, now.token);
    const said = rows.map(([id, share]) => `expert ${id}${gates ? ` with gate ${fixed(share, 2)}` : ""}`);
    const which = `${layers[now.layer]}, token ${now.token + 1}, ${quoted(tokens[now.token])}: `;
    const own = which + (said.length ? `${listing(said)}.` : "no expert.");
    if (now.expert < 0) return own;
    const number = served(now.layer, now.expert);
    return `Expert ${now.expert} serves ${number} of ${tokens.length} tokens here. ${own}`;
  }

  function draw() {
    const expert = now.expert < 0 ? strongest(now.layer, now.token) : now.expert;
    const side = [tokenPanel(), legendPanel()];
    if (expert >= 0) side.push(favouritePanel(expert));
    return { main: [passage()], side };
  }

  const update = (change) => {
    Object.assign(now, change);
    show(root, { ...now, experts: chosen(now.layer, now.token) }, draw, sentence());
  };

  // --- hands ---

  const more = box("more");
  form.lastChild.before(more);
  slider(more, "Colour", {
    last: experts,
    position: 0,
    ends: ["strongest", experts - 1],
    describe: (place) =>
      place
        ? [`expert ${place - 1}`, `expert ${place - 1} alone`]
        : ["each token's strongest expert", "each token's strongest expert"],
    move: (place) => update({ expert: place - 1 }),
  });
  if (layers.length > 1) {
    slider(hand, "Layer", {
      last: layers.length - 1,
      position: now.layer,
      describe: (place) => [`${place + 1} of ${layers.length}`, layers[place]],
      move: (layer) => update({ layer }),
    });
  }
  const toToken = slider(hand, "Token", {
    last: tokens.length - 1,
    position: 0,
    describe: (token) => [
      quoted(tokens[token]),
      `${token + 1} of ${tokens.length}, ${quoted(tokens[token])}`,
    ],
    move: (token) => update({ token }),
  });
  const under = (event) => {
    const token = event.target.closest("[data-token]")?.dataset.token;
    if (token !== undefined && Number(token) !== now.token) toToken(Number(token));
  };
  root.addEventListener("pointerover", (event) => event.pointerType === "mouse" && under(event));
  root.addEventListener("click", under);
  more.append(element("p", { class: "moe-hint" }, `Point at a token, touch it, or use its slider. ${config.note}`));
  update({});
});
