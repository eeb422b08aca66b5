// What every script that uses the panel as a person would shares: the browser, what went wrong in it, and the last word.
import { createRequire } from "node:module";

export const require = createRequire(new URL("../../services/dashboard/web/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const axe = require("axe-core");

/** What the test asked for: its one argument, a JSON object. */
export const asked = JSON.parse(process.argv[2]);
/** What the page said went wrong. */
export const problems = [];

const browser = await chromium.launch({
  executablePath: process.env.MESH_CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
export const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
export const page = await context.newPage();
page.setDefaultTimeout(20_000);
page.on("pageerror", (error) => problems.push(String(error)));

export async function visit(label) {
  await page.getByRole("navigation", { name: "Sections" }).getByRole("link", { name: label }).click();
  await page.getByRole("heading", { level: 1, name: label }).waitFor();
  await page.waitForLoadState("load");
}

/** What keeps people out of the pages that were examined. */
export const barriers = [];

/** What keeps people out, in the state and colours in which the page is now. */
export async function examine(name) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, impact, nodes } of violations) {
    if (impact === "serious" || impact === "critical") barriers.push(`${name}: ${id}: ${nodes[0]?.html}`);
  }
  // Whatever asks to be pressed can be reached with the keyboard.
  const unreachable = await page.evaluate(() => {
    const reached = "a[href], button, input, select, textarea, summary, label, option, [tabindex]:not([tabindex='-1']), [role^=menuitem], [role=option]";
    return [...document.querySelectorAll("body *")]
      .filter((one) => getComputedStyle(one).cursor === "pointer" && !one.closest(reached))
      .map((one) => one.outerHTML.slice(0, 120));
  });
  barriers.push(...unreachable.map((html) => `${name}: out of the keyboard's reach: ${html}`));
}

/** Prints what `work` saw as a JSON object; a step that cannot be done ends the script with a non-zero exit code. */
export async function tell(work) {
  try {
    console.log(JSON.stringify({ ...(await work()), problems }));
  } catch (error) {
    if (asked.shots) await page.screenshot({ path: `${asked.shots}/failed.png`, fullPage: true }).catch(() => {});
    console.error(String(error), page.url(), problems.join("\n"));
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}
