bring("temperature", ({ logits, temperature }, { root, form, hand }) => {
  const most = Math.log(logits.length);
  const [top, zero] = [36, 136];
  const unit = (zero - top) / most;
  const x = (position) => LEFT + ((RIGHT - 10 - LEFT) * position) / LAST;
  const positions = Array.from({ length: LAST - 1 }, (_, i) => i + 1);
  const undecidedAt = (position) => entropy(softmax(logits, 10 ** ((position - LAST / 2) / STEPS)));
  const curve = positions.map((p) => `${at(x(p))},${at(zero - unit * undecidedAt(p))}`).join(" ");
  const decades = [["\u2192 0", 0], ["\u221e", LAST]].concat(
    [-1, 0, 1].map((decade) => [10 ** decade, LAST / 2 + STEPS * decade]),
  );
  const dot = (kind, { temperature: tau, entropy: nats }) =>
    `<circle class="${kind}" r="6" ` +
    `transform="translate(${at(x(positionOf(Number(tau))))} ${at(zero - unit * nats)})"/>`;

  function entropyPanel(now, before) {
    const reading = `${fixed(now.entropy, 2)} nats`;
    const limit = `ln ${logits.length} = ${fixed(most, 2)}`;
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
        text(LEFT - 8, zero + 4, "0", "end"),
        ...decades.map(([word, position]) => text(x(position), zero + 18, word)),
        `<polyline class="curve" points="${curve}"/>`,
        dot("ghost", before ?? now),
        dot("here", now),
      ],
      { unit, zero },
    );
  }

  function heat(tau) {
    const probabilities = softmax(logits, tau);
    const undecided = entropy(probabilities);
    const [best] = topK(probabilities, 1);
    const now = { temperature: String(tau), probabilities, entropy: undecided };
    show(
      root,
      now,
      (before) => ({
        main: [
          bars("probabilities", "Probability of each expert", probabilities, {
            height: 236,
            ghost: before?.probabilities,
          }),
        ],
        side: [entropyPanel(now, before)],
      }),
      `Temperature ${inWords(tau)}: expert ${best} leads with probability ` +
        `${fixed(probabilities[best], 3)}. Entropy ${fixed(undecided, 2)} nats, as undecided as ` +
        `a fair choice among ${fixed(Math.exp(undecided), 1)} experts.`,
    );
  }

  hint(form);
  temperatureSlider(hand, Number(temperature), heat);
  heat(Number(temperature));
});
