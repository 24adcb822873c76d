// Joins sheets of styles into one and drops what no page can use. Reads {sheets, content, folder} as JSON and prints
// the sheet; addresses in it are relative to the folder.

import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import postcss from "postcss";
import { PurgeCSS } from "purgecss";

const require = createRequire(import.meta.url);
const { sheets, content, folder } = JSON.parse(fs.readFileSync(0, "utf8"));

const ICONS = path.dirname(require.resolve("@fortawesome/fontawesome-free/package.json"));
const ICON_FONT = /--fa-font-(solid|brands)/;

// An icon as a data address, found by its place in the icon font: "\uf0f3" is svgs/solid/bell.svg.
let families;
function iconAddress(letter) {
  families ??= JSON.parse(fs.readFileSync(path.join(ICONS, "metadata/icon-families.json"), "utf8"));
  const code = letter.codePointAt(0).toString(16);
  const [name] = Object.entries(families).find(([, family]) => family.unicode === code);
  const file = ["solid", "brands"].map(style => path.join(ICONS, "svgs", style, `${name}.svg`)).find(fs.existsSync);
  const picture = fs.readFileSync(file, "utf8").replace(/<!--.*?-->/s, "");
  return `url("data:image/svg+xml,${encodeURIComponent(picture).replaceAll("%20", " ").replaceAll("%22", "'")}")`;
}

// The theme writes its icons as letters of a font: draw each as a mask in the colour of the text. What stands in the
// pages is drawn there.
function drawIcons(root) {
  root.walkRules(/^\.fa[bsr]?[-.:,\w ]*$/, rule => {
    if (rule.selector !== ".fa-lg") rule.remove();
  });
  root.walkDecls(declaration => {
    const letter = declaration.prop.startsWith("--pst-") && declaration.value.match(/^["'](\p{Co})["']$/u);
    if (letter) declaration.value = iconAddress(letter[1]);
    else if (declaration.prop === "content" && declaration.value.startsWith("var(--pst-icon"))
      declaration.prop = "mask-image";
    else if (declaration.prop === "font" && ICON_FONT.test(declaration.value))
      declaration.replaceWith(
        postcss.parse(`content: ""; display: inline-block; width: 1em; height: 1em; background: currentColor;
          mask-position: center; mask-size: contain; mask-repeat: no-repeat`).nodes,
      );
  });
}

function read(sheet) {
  const root = postcss.parse(fs.readFileSync(sheet, "utf8"), { from: sheet });
  root.walkAtRules("import", rule => {
    throw rule.error("an imported sheet would not be joined: link it instead");
  });
  root.walkAtRules("charset", rule => rule.remove());
  root.walkComments(comment => comment.remove());
  root.walkDecls("src", declaration => {
    // Every browser that runs these pages reads woff2.
    declaration.value = declaration.value.split(",").find(source => source.includes("woff2")) ?? declaration.value;
  });
  root.walkDecls(/^(src|background|mask|content|cursor|list-style)/, declaration => {
    declaration.value = declaration.value.replace(/url\((?!["']?(?:data:|#))["']?([^"')]+)["']?\)/g, (_, address) =>
      `url(${path.relative(folder, path.resolve(path.dirname(sheet), address)).replaceAll(path.sep, "/")})`);
  });
  drawIcons(root);
  return root.toString();
}

const [joint] = await new PurgeCSS().purge({
  content: content.map(file => ({ raw: fs.readFileSync(file, "utf8"), extension: path.extname(file).slice(1) })),
  css: [{ raw: sheets.map(read).join("\n") }],
  keyframes: true,
});
process.stdout.write(joint.css);
