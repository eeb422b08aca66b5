// Logging in through a log-in provider, in headless Chromium: the panel's page, the provider's page, and back.
// Arguments: a JSON object {url, subject}. Prints a JSON object of what it saw; a step that cannot be done ends it with a
// non-zero exit code.
import { asked, context, page, tell, visit } from "./chromium.mjs";

const { url, subject } = asked;

async function session() {
  return (await page.request.get(`${url}/api/session`)).json();
}

await tell(async () => {
  await page.goto(`${url}/log-in`);
  await page.getByRole("link", { name: "Continue with Example ID" }).click();
  await page.getByRole("heading", { name: "Authorize Client" }).waitFor();
  const provider = new URL(page.url()).origin;
  await page.getByRole("button", { name: "Deny" }).click();
  const stopped = await page.getByRole("alert").innerText();
  const out = (await page.request.get(`${url}/api/session`)).status();

  await page.getByRole("link", { name: "Continue with Example ID" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: subject, exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  const address = page.url();
  await visit("API Keys");
  await page.getByRole("button", { name: "Create key" }).first().waitFor();
  const first = await session();
  const cookies = await context.cookies(url);

  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  const gone = (await page.request.get(`${url}/api/session`)).status();
  await page.getByRole("link", { name: "Continue with Example ID" }).click();
  await page.getByRole("button", { name: subject, exact: true }).first().click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  const again = await session();
  return { provider, stopped, out, address, first, again, gone, httpOnly: cookies.every((one) => one.httpOnly) };
});
