// What axe finds on a page.

import { createRequire } from "node:module";

import { expect, Missing } from "./tab.mjs";

const SERIOUS = ["serious", "critical"];

function axeSource() {
  try { // require, not import: only require looks at NODE_PATH
    return createRequire(import.meta.url)("axe-core").source;
  } catch {
    throw new Missing("axe-core is neither in a local node_modules nor in NODE_PATH");
  }
}

/** What axe complains of, in a line each. */
async function complaints(page) {
  await page.evaluate(axeSource());
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations.map(({ id, impact, nodes }) =>
    ({ id, impact, where: nodes.slice(0, 3).map(({ target, any }) =>
      `${target.join(" ")} ${any[0]?.message ?? ""}`) }));
}

export async function check(page, what) {
  const found = await complaints(page);
  const serious = found.filter(({ impact }) => SERIOUS.includes(impact));
  for (const { id, impact } of found) console.log(`   ${impact}: ${id}`);
  expect(`axe finds nothing serious in ${what}`, serious.length === 0, serious);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect("and nothing goes over the edge", overflow <= 0, overflow);
}
