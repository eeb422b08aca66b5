// The operators' pages in headless Chromium: staff use them, somebody else does not find them. Arguments: a JSON object
// {url, email, password, shots}. Prints a JSON object of what it saw; a step that cannot be done ends it with a non-zero exit code.
import { mkdirSync } from "node:fs";

import { asked, context, page, problems, require, tell, visit } from "./chromium.mjs";

const { url, email, password, shots } = asked;
const axe = require("axe-core");
const barriers = [];
const PASSWORD = "a long pass phrase";

/** What keeps people out, and a picture: light, dark, on a phone. */
async function shot(name) {
  if (shots) mkdirSync(shots, { recursive: true });
  for (const [look, colorScheme, width, height] of [
    ["dark", "dark", 1440, 900],
    ["phone-dark", "dark", 390, 844],
    ["phone", "light", 390, 844],
    ["light", "light", 1440, 900],
  ]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height });
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    for (const { id, impact, nodes } of violations) {
      if (impact === "serious" || impact === "critical") barriers.push(`${name}, ${look}: ${id}: ${nodes[0]?.html}`);
    }
    const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (tooWide > 0) barriers.push(`${name}, ${look}: ${tooWide} px wider than the screen`);
    if (shots) await page.screenshot({ path: `${shots}/${name}-${look}.png`, fullPage: true });
  }
}

/** A tab of the operators' pages, by the keyboard. */
async function open(label) {
  const link = page.getByRole("navigation", { name: "Operators' pages" }).getByRole("link", { name: label });
  await link.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: label }).waitFor();
}

await tell(async () => {
  const stamp = Date.now();
  const stranger = `eve-${stamp}@example.com`;
  const other = await context.browser().newContext();
  const tab = await other.newPage();
  tab.setDefaultTimeout(20_000);
  tab.on("pageerror", (error) => problems.push(String(error)));
  await tab.request.post(`${url}/api/sign-up`, { data: { email: stranger, password: PASSWORD, name: "Eve" } });
  await tab.goto(`${url}/operator`);
  await tab.getByText("There is no such page").waitFor();
  const link = await tab.getByRole("link", { name: "Operators" }).count();
  const refused = (await tab.request.get(`${url}/api/operator/accounts`)).status();
  await other.close();

  await page.goto(`${url}/log-in`);
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByRole("navigation", { name: "Sections" }).getByRole("link", { name: "Operators" }).click();
  await page.getByRole("heading", { level: 1, name: "Accounts" }).waitFor();
  await page.getByLabel("Search").fill(stranger);
  await page.getByRole("table", { name: "Accounts" }).getByText(stranger).waitFor();
  await shot("operator-accounts");
  await page.getByLabel("Search").fill("nobody has this name");
  await page.getByText("No account fits").waitFor();
  await page.getByLabel("Search").fill(stranger);
  await page.getByRole("table", { name: "Accounts" }).getByRole("link").first().click();
  await page.getByRole("table", { name: "Members" }).waitFor();
  await page.getByRole("button", { name: "Give credit" }).click();
  await page.getByLabel("Amount in USD").fill("a lot");
  await page.getByLabel("Reason").fill("welcome");
  await page.getByRole("dialog").getByRole("button", { name: "Give credit" }).click();
  const wrong = await page.getByRole("alert").innerText();
  await page.getByLabel("Amount in USD").fill("2.50");
  await shot("operator-credit");
  await page.getByRole("dialog").getByRole("button", { name: "Give credit" }).click();
  await page.getByText("$2.50").waitFor();
  await page.getByRole("button", { name: "Suspend" }).click();
  await page.getByLabel("Reason").fill("unpaid");
  await page.getByRole("dialog").getByRole("button", { name: "Suspend" }).click();
  await page.getByText("Suspended", { exact: true }).waitFor();
  await shot("operator-account");
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByText("Active", { exact: true }).waitFor();

  await open("Providers");
  await page.getByRole("table", { name: "Providers" }).waitFor();
  const test = page.getByRole("button", { name: /^Test / }).first();
  await test.click();
  const tested = await page.getByRole("table", { name: "Providers" }).getByText(/It (answers|turned)/).innerText();
  await shot("operator-providers");
  await page.getByLabel("Search").fill("openai");
  await page.getByRole("button", { name: "OpenAI", exact: true }).click();
  await page.getByText("It has none yet").waitFor();
  await shot("operator-provider-empty");
  const masked = [];
  for (const [label, priority] of [["Main", "0"], ["Spare", "1"]]) {
    await page.getByRole("button", { name: "Add a credential" }).click();
    await page.getByLabel("Label").fill(label);
    await page.getByLabel("Credential", { exact: true }).fill(`sk-test-${stamp}-shown-nowhere`);
    await page.getByLabel("Priority").fill(priority);
    if (label === "Spare") await shot("operator-credential");
    await page.getByRole("dialog").getByRole("button", { name: "Store" }).click();
    await page.getByRole("button", { name: `Rotate ${label}` }).waitFor();
  }
  const credentials = page.getByRole("list", { name: "Credentials" });
  masked.push(await credentials.innerText());
  await shot("operator-provider");
  await page.getByRole("button", { name: "Switch off Main" }).click();
  await page.getByRole("button", { name: "Switch on Main" }).waitFor();
  await page.getByRole("button", { name: "Edit Spare" }).click();
  await page.getByLabel("Weight").fill("none");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByLabel("Weight").fill("7");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await credentials.getByText("Priority 1, weight 7").waitFor();
  await page.getByRole("button", { name: "Rotate Spare" }).click();
  await page.getByLabel("Credential", { exact: true }).fill(`sk-other-${stamp}-shown-nowhere`);
  await page.getByRole("dialog").getByRole("button", { name: "Store" }).click();
  await page.getByRole("button", { name: "Rotate Spare" }).waitFor();
  await page.getByRole("button", { name: "Switch the provider off" }).click();
  await page.getByRole("dialog").getByText("In force in every gateway within a second.").first().waitFor();
  await page.getByRole("button", { name: "Switch the provider on" }).click();
  for (const label of ["Main", "Spare"]) {
    await page.getByRole("button", { name: `Remove ${label}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
    await page.getByRole("button", { name: `Remove ${label}` }).waitFor({ state: "detached" });
  }
  await page.getByText("It has none yet").waitFor();
  await page.getByRole("button", { name: "Close", exact: true }).click();

  await open("Prices");
  await page.getByLabel("Search").fill("smollm2");
  await page.getByRole("table", { name: "Models and prices" }).waitFor();
  await shot("operator-prices");
  await page.getByRole("button", { name: "local/smollm2-135m", exact: true }).click();
  await page.getByRole("table", { name: "Prices over time" }).waitFor();
  await page.getByRole("button", { name: "Publish the price" }).click();
  await page.getByText("Published.").waitFor();
  await shot("operator-price");
  await page.getByRole("button", { name: "Close", exact: true }).click();

  await open("Grants");
  await page.getByText(/Every grant is accounted for|Write off/).first().waitFor();
  await shot("operator-grants");
  await open("Books");
  await page.getByRole("button", { name: "Verify now" }).click();
  const verified = await page.getByText(/hourly seals: /).innerText();
  await page.getByRole("button", { name: "Compare now" }).click();
  const compared = await page.getByText(/hours of accounts: /).innerText();
  await shot("operator-books");
  await open("Event log");
  await page.getByRole("table", { name: "Lag of the consumers" }).waitFor();
  const consumers = await page.getByRole("table", { name: "Lag of the consumers" }).innerText();
  const letters = page.getByRole("table", { name: "Dead letters" });
  await page.getByText("4 open").waitFor();
  await shot("operator-log");
  await page.getByRole("button", { name: "billing-usage", exact: true }).click();
  await page.getByRole("table", { name: "Partitions" }).waitFor();
  const partitions = await page.getByRole("table", { name: "Partitions" }).getByRole("row").count();
  await shot("operator-lag");
  await page.getByRole("button", { name: "Close", exact: true }).click();
  const letter = (text) => letters.getByRole("row").filter({ hasText: text }).filter({ hasText: "billing" }).getByRole("button");
  await letter("accounts.KeyState").click();
  await page.getByRole("region", { name: "The event" }).waitFor();
  const decoded = await page.getByRole("dialog").innerText();
  await shot("operator-letter-decoded");
  await page.getByRole("button", { name: "Close", exact: true }).click();
  await letter("not an envelope").click();
  await page.getByRole("region", { name: "The text in it" }).getByText("not an event").waitFor();
  const opened = await page.getByRole("dialog").innerText();
  await shot("operator-letter");
  await page.getByRole("button", { name: "Discard…" }).click();
  await page.getByLabel("Reason").fill("sent by a test");
  await shot("operator-discard");
  await page.getByRole("dialog").getByRole("button", { name: "Discard" }).click();
  await page.getByText("3 open").waitFor();
  await page.getByLabel("Which letters").selectOption("discarded");
  await letters.getByText("sent by a test").waitFor();
  const discarded = await letters.innerText();

  await visit("Settings");
  const trail = await page.getByRole("table", { name: "Audit trail" }).innerText();
  return { link, refused, wrong, tested, masked, verified, compared, consumers, partitions, decoded, opened, discarded, trail, barriers };
});
