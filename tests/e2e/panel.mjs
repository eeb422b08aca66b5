// Drives the panel in headless Chromium as a person would. Arguments: a JSON object {url, email, password, apiUrl, shots}.
// Prints a JSON object of what it saw; a step that cannot be done ends it with a non-zero exit code.
import { mkdirSync } from "node:fs";

import { asked, barriers, examine, page, problems, tell, visit } from "./chromium.mjs";

const { url, email, password, apiUrl, shots } = asked;
page.setDefaultTimeout(15_000);

page.on("console", (message) => {
  // Asking who is logged in is answered 401 before the log-in; the browser reports it by itself.
  // So is asking for a request that is not in the log yet.
  if (message.type() === "error" && !/40[14]/.test(message.text())) problems.push(message.text());
});

async function shot(name) {
  if (shots) mkdirSync(shots, { recursive: true });
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    await examine(`${name}, ${scheme}`);
    if (shots) await page.screenshot({ path: `${shots}/${name}-${scheme}.png`, fullPage: true });
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 390, height: 844 });
  await examine(`${name}, phone`);
  const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (tooWide > 0) barriers.push(`${name}, phone: ${tooWide} px too wide`);
  if (shots) await page.screenshot({ path: `${shots}/${name}-phone.png`, fullPage: true });
  await page.setViewportSize({ width: 1440, height: 900 });
}

await tell(async () => {
  await page.goto(url);
  await page.getByRole("heading", { name: "Log in to Mesh" }).waitFor();
  await shot("log-in");

  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill("not the password");
  await page.getByRole("button", { name: "Log in" }).click();
  const refusal = await page.getByRole("alert").innerText();

  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.goto(url);
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  const readyMs = Math.round(await page.evaluate(() => performance.now()));

  await visit("API Keys");
  // With the keys of the keyboard alone: to the button, into the dialog, and out of it again.
  const create = page.getByRole("button", { name: "Create key" }).first();
  await page.getByRole("link", { name: "Skip to content" }).focus();
  for (let turn = 0; turn < 40 && !(await create.evaluate((one) => one === document.activeElement)); turn += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  const inside = await page.evaluate(() => document.activeElement?.getAttribute("name"));
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  const back = await create.evaluate((one) => one === document.activeElement);
  await page.getByRole("button", { name: "Create key" }).click();
  await page.getByLabel("Label").fill("made in the panel");
  await page.getByLabel("Spend cap in USD").fill("0.50");
  await shot("create-key");
  await page.getByRole("dialog").getByRole("button", { name: "Create key" }).click();
  const secret = await page.getByRole("dialog").getByText(/^rsk_/).first().innerText();
  await page.getByRole("button", { name: "Done" }).click();
  await page.getByText("made in the panel").first().waitFor();
  await shot("keys");

  await visit("Logs");
  await page.getByText("Live").waitFor();
  const answer = await fetch(`${apiUrl}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: JSON.stringify({
      model: "local/smollm2-135m",
      max_tokens: 24,
      messages: [{ role: "user", content: "Say hello." }],
    }),
  });
  const completion = await answer.json();
  const asked = performance.now();
  // Only rows in view are in the page, so that it is this one that is waited for.
  const logged = () => page.request.get(`${url}/api/requests/${answer.headers.get("x-request-id")}`);
  let row = await logged();
  for (let turn = 0; turn < 100 && !row.ok(); turn += 1) {
    await page.waitForTimeout(100);
    row = await logged();
  }
  const usage = page.locator(`[data-usage="${(await row.json()).usage_id}"]`);
  await usage.waitFor();
  const seenAfterMs = Math.round(performance.now() - asked);
  await shot("logs");
  await usage.getByRole("link").click();
  await page.getByRole("heading", { level: 1, name: "Request" }).waitFor();
  await page.getByText("What it cost").waitFor();
  const details = await page.locator("main").innerText();
  await shot("request");

  await visit("Billing");
  await page.getByRole("table", { name: "Entries of the ledger" }).waitFor();
  await shot("billing");
  await visit("Models");
  await page.getByText("local/smollm2-135m:free").waitFor();
  await shot("models");
  // By price, dearest first; then a column is put away, and stays away.
  const heads = page.getByRole("table", { name: "Models" });
  const sortedMs = await page.evaluate(async () => {
    const head = [...document.querySelectorAll("th button")].find((one) => one.textContent === "Prompt / 1M");
    const begun = performance.now();
    head.click();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - begun;
  });
  await heads.locator('th[aria-sort="descending"]').waitFor();
  const dearest = await heads.getByRole("row").nth(1).innerText();
  await page.getByRole("button", { name: "Columns" }).click();
  await page.getByRole("menuitemcheckbox", { name: "Context" }).click();
  await page.keyboard.press("Escape");
  await page.reload();
  await page.getByText("local/smollm2-135m:free").waitFor();
  const columns = await heads.getByRole("columnheader").allInnerTexts();
  await page.getByText("local/smollm2-135m:free").click();
  await page.getByRole("dialog").getByRole("table", { name: "Prices over time" }).waitFor();
  await shot("model");
  await page.keyboard.press("Escape");

  await visit("Playground");
  await page.getByLabel("Your message").fill("Say hello.");
  await page.keyboard.press("Enter");
  const played = await page.getByRole("log").getByText(/^\$0\.0/).innerText({ timeout: 30_000 });
  await shot("playground");
  await visit("Templates");
  await page.getByRole("link", { name: "New template" }).click();
  await page.getByLabel("Name").fill(`poet ${Date.now()}`);
  await page.getByLabel("System", { exact: true }).click();
  await page.keyboard.type("You write about {{ topic }}.");
  await page.getByRole("button", { name: "Message", exact: true }).click();
  await page.getByRole("textbox", { name: "Message 1" }).click();
  await page.keyboard.type("One line for {{ name }}.");
  await page.getByLabel("Longest answer, tokens").fill("16");
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByText("Version 1").first().waitFor();
  await page.getByLabel("System", { exact: true }).click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type(" Be brief.");
  await page.getByRole("button", { name: "Save as a new version" }).click();
  await page.getByRole("button", { name: /^Version 2/ }).click();
  const changed = await page.getByRole("region", { name: "What version 2 changed" }).innerText();
  await page.getByLabel("topic").fill("the sea");
  await page.getByLabel("name", { exact: true }).fill("Ada");
  await page.getByLabel("Beside it").selectOption("local/smollm2-135m:free");
  await page.getByLabel("Model").nth(1).selectOption("local/smollm2-135m");
  await page.getByRole("button", { name: "Run" }).click();
  await page.getByText("$0.00", { exact: true }).waitFor();
  await shot("template");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("heading", { level: 1, name: "Templates" }).waitFor();
  await shot("templates");

  await visit("Limits");
  const team = `search ${Date.now()}`;
  await page.getByRole("button", { name: "Create a team" }).click();
  await page.getByLabel("Name").fill(team);
  await page.getByRole("button", { name: "Create team" }).click();
  await page.getByRole("button", { name: `Change team ${team}` }).click();
  await page.getByRole("dialog").getByRole("checkbox").first().click();
  await page.getByRole("dialog").getByRole("checkbox", { checked: true }).first().waitFor();
  await shot("team");
  await page.getByRole("button", { name: "Close", exact: true }).click();
  await page.getByRole("button", { name: "Set a limit" }).click();
  await page.getByRole("dialog").getByRole("combobox").first().selectOption("team");
  await page.getByRole("dialog").getByRole("combobox").nth(1).selectOption({ label: team });
  await page.getByLabel("Spend cap in USD").fill("25");
  await page.getByLabel("Requests a minute").fill("600");
  await shot("set-limit");
  await page.getByRole("button", { name: "Save limits" }).click();
  const bar = page.getByRole("meter", { name: `Spend of Team ${team} against its cap` });
  await bar.waitFor();
  const limited = await page.getByRole("row").filter({ has: bar }).innerText();
  await shot("limits");
  await page.getByRole("button", { name: `Remove team ${team}` }).click();
  await bar.waitFor({ state: "detached" });

  await visit("Alerts");
  const rule = page.getByRole("form", { name: "Spending is fast" });
  await rule.getByLabel("Above, USD an hour").fill("80");
  await rule.getByRole("button", { name: /^Save/ }).click();
  await rule.getByText("Saved.").waitFor();
  await page.getByRole("button", { name: "Add a webhook" }).click();
  const hook = `https://hooks.example.com/mesh/${Date.now()}`;
  await page.getByRole("dialog").getByLabel("URL").fill(hook);
  await page.getByRole("dialog").getByLabel("Balance recovered").uncheck();
  await shot("add-webhook");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByRole("dialog").getByText("it is not shown again").waitFor();
  const hookSecret = await page.getByRole("region", { name: "the secret" }).innerText();
  await page.getByRole("button", { name: "Done" }).click();
  const told = await page.getByRole("row").filter({ hasText: hook }).innerText();
  await shot("alerts");
  await page.getByRole("button", { name: `Remove ${hook}` }).click();
  await page.getByText(hook).waitFor({ state: "detached" });

  await visit("Settings");
  await page.getByRole("table", { name: "Members" }).waitFor();
  await page.getByRole("table", { name: "Audit trail" }).waitFor();
  await shot("settings");
  await visit("Overview");
  await page.getByRole("table", { name: "Usage by model" }).waitFor();
  // Pushed: the figures of the last minute stand in place of the dots.
  await page.getByRole("region", { name: "The last minute" }).getByText("Last minute").waitFor();
  await shot("overview");
  await page.getByRole("button", { name: "Log out" }).first().click();
  await page.getByRole("heading", { name: "Log in to Mesh" }).waitFor();

  const requestId = answer.headers.get("x-request-id");
  return { refusal, status: answer.status, completion, requestId, seenAfterMs, details, played, changed, limited, hookSecret, told, barriers, readyMs, sortedMs, dearest, columns, inside, back };
});
