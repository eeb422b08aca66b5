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

async function payWith(number) {
  await page.getByLabel("Card number").fill(number);
  await page.getByRole("button", { name: "Pay $20.00" }).click();
}

async function billing() {
  await page.getByRole("heading", { level: 1, name: "Billing" }).waitFor();
}

const ask = async (path) => await context.request.get(`${url}/api/${path}`);
const balance = async () => (await (await ask("balance")).json()).posted_usd;

// How long after `since` the balance is another than before.
async function creditedAfterMs(before, since) {
  while ((await balance()) === before) {
    if (performance.now() - since > 15_000) throw new Error("the balance did not change");
    await page.waitForTimeout(20);
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
  await payWith("4242 4242 4242 4242");
  const paidAt = performance.now();
  await billing();
  const creditedMs = await creditedAfterMs(first, paidAt);
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
  await billing();
  await creditedAfterMs(second, answeredAt);
  const third = await balance();

  await page.getByRole("button", { name: "Switch refill on" }).click();
  await page.getByRole("button", { name: "Switch off" }).waitFor();
  const refill = await (await ask("refill")).json();
  const month = new Date().toISOString().slice(0, 7);
  const csv = await (await ask(`statements/${month}/csv`)).text();
  const pdf = (await (await ask(`statements/${month}/pdf`)).body()).subarray(0, 5).toString();
  await shot("billing");
  return { first, second, third, beforeQuestion, banner, refusal, creditedMs, refill, csv, pdf };
});
