bring("temperature", ({ logits, temperature }, { root, form }) => {
  const most = Math.log(logits.length);
  const [top, zero] = [34, 136];
  const unit = (zero - top) / most;
  const x = (position) => LEFT + ((RIGHT - 10 - LEFT) * position) / LAST;
  const positions = Array.from({ length: LAST - 1 }, (_, i) => i + 1);
  const undecidedAt = (position) => entropy(softmax(logits, 10 ** ((position - LAST / 2) / STEPS)));
  const curve = positions.map((p) => `${at(x(p))},${at(zero - unit * undecidedAt(p))}`).join(" ");
  const decades = [["\u2192 0", 0], ["\u221e", LAST]].concat(
    [-1, 0, 1].map((decade) => [10 ** decade, LAST / 2 + STEPS * decade]),
  );

  function entropyPanel(tau, undecided) {
    const reading = `${fixed(undecided, 2)} nats`;
    const limit = `ln ${logits.length} = ${fixed(most, 2)}`;
    const here = `translate(${at(x(positionOf(tau)))} ${at(zero - unit * undecided)})`;
    return panel(
      "entropy",
      160,
      "Curve of the entropy against the temperature: it rises from the left to " +
        `${limit} nats; a dot marks ${reading}.`,
      [
        text(0, 12, "Entropy at each temperature", "title start"),
        text(RIGHT, 12, reading, "title end"),
        line([LEFT, top], [RIGHT, top], "rule dashed"),
        text(LEFT, top - 5, `${limit}, all alike`, "quiet start"),
        line([LEFT - 4, zero], [RIGHT, zero], "axis"),
        text(LEFT - 8, zero + 3.5, "0", "quiet end"),
        ...decades.map(([word, position]) => text(x(position), zero + 17, word, "quiet")),
        `<polyline class="curve" points="${curve}"/>`,
        `<circle class="here" r="6" transform="${here}"/>`,
      ],
      { unit, zero },
    );
  }

  function heat(tau) {
    const probabilities = softmax(logits, tau);
    const undecided = entropy(probabilities);
    const [best] = topK(probabilities, 1);
    show(
      root,
      {
        main: [bars("probabilities", "Probability of each expert", probabilities, { height: 236 })],
        side: [entropyPanel(tau, undecided)],
      },
      { temperature: String(tau), probabilities, entropy: undecided },
      `Temperature ${inWords(tau)}: expert ${best} leads with probability ` +
        `${fixed(probabilities[best], 3)}. Entropy ${fixed(undecided, 2)} nats, as undecided as ` +
        `a fair choice among ${fixed(Math.exp(undecided), 1)} experts.`,
    );
  }

  temperatureSlider(form, Number(temperature), heat);
  heat(Number(temperature));
});
