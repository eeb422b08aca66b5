// Tops up in headless Chromium as a person would. Arguments: a JSON object {url, email, password, shots}.
// Prints a JSON object of what it saw; a step that cannot be done ends it with a non-zero exit code.
import { mkdirSync } from "node:fs";

import { asked, context, page, tell } from "./chromium.mjs";

const { url, email, password, shots } = asked;
await page.setViewportSize({ width: 1280, height: 860 });

async function shot(name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
}

async function openCheckout() {
  await page.getByRole("button", { name: "Top up" }).click();
  await page.getByLabel("Amount in USD").fill("20");
  await shot("top-up");
  await page.getByRole("button", { name: "Continue to payment" }).click();
  await page.getByRole("heading", { name: "Pay with" }).waitFor();
}

// The moment of the click that pays.
async function payWith(number) {
  await page.getByLabel("Card number").fill(number);
  const at = performance.now();
  await page.getByRole("button", { name: "Pay $20.00" }).click();
  return at;
}

async function billing() {
  await page.getByRole("heading", { level: 1, name: "Billing" }).waitFor();
}

const ask = async (path) => await context.request.get(`${url}/api/${path}`);
const balance = async () => (await (await ask("balance")).json()).posted_usd;

// What the page itself shows, which is pushed to it: nobody asks.
const shown = page.getByText("Balance", { exact: true }).locator("xpath=following-sibling::p[1]");
const number = (text) => Number(text.replace(/[^0-9.]/g, ""));

// How long after `since` the page shows so many dollars more than `before`.
async function shownAfterMs(before, more, since) {
  const wanted = (Number(before) + more).toFixed(2);
  while (!(await shown.isVisible()) || number(await shown.innerText()).toFixed(2) !== wanted) {
    if (performance.now() - since > 15_000) throw new Error(`the page does not show ${wanted}`);
    await page.waitForTimeout(10);
  }
  return Math.round(performance.now() - since);
}

await tell(async () => {
  await page.goto(url);
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByRole("navigation", { name: "Sections" }).getByRole("link", { name: "Billing" }).click();
  await billing();
  const first = await balance();

  await openCheckout();
  const banner = await page.locator(".banner").innerText();
  await shot("checkout");
  await payWith("4000 0000 0000 9995");
  const refusal = await page.getByRole("alert").innerText();
  await shot("declined");
  const paidAt = await payWith("4242 4242 4242 4242");
  const creditedMs = await shownAfterMs(first, 20, paidAt);
  await billing();
  await page.getByRole("table", { name: "Payments" }).getByText("paid", { exact: true }).first().waitFor();
  const second = await balance();
  await shot("paid");

  await openCheckout();
  await payWith("4000 0027 6000 3184");
  await page.getByRole("heading", { name: "Your bank asks: is it you?" }).waitFor();
  await shot("question");
  const beforeQuestion = await balance();
  await page.getByRole("button", { name: "Complete authentication" }).click();
  const answeredAt = performance.now();
  await shownAfterMs(second, 20, answeredAt);
  await billing();
  const third = await balance();

  await page.getByRole("button", { name: "Switch refill on" }).click();
  await page.getByRole("button", { name: "Switch off" }).waitFor();
  const refill = await (await ask("refill")).json();
  const month = new Date().toISOString().slice(0, 7);
  const csv = await (await ask(`statements/${month}/csv`)).text();
  const pdf = (await (await ask(`statements/${month}/pdf`)).body()).subarray(0, 5).toString();
  await page.getByRole("table", { name: "History of payments" }).getByText("refill settings on").waitFor();
  const receipts = page.getByRole("link", { name: "Receipt", exact: true });
  const [receiptPage] = await Promise.all([context.waitForEvent("page"), receipts.first().click()]);
  await receiptPage.getByRole("heading", { name: "Receipt from Mesh" }).waitFor();
  const receipt = await receiptPage.locator("body").innerText();
  await receiptPage.close();
  await shot("billing");
  return { first, second, third, beforeQuestion, banner, refusal, creditedMs, refill, csv, pdf, receipt };
});
