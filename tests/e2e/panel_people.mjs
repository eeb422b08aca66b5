// People in the panel, in headless Chromium: one invites, another opens the link and joins. Arguments: a JSON object {url}.
// Prints a JSON object of what it saw; a step that cannot be done ends it with a non-zero exit code.
import { asked, context, page, problems, tell, visit } from "./chromium.mjs";

const { url } = asked;
const PASSWORD = "a long pass phrase";

async function signUp(name, email) {
  await page.goto(`${url}/log-in`);
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign up" }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
}

async function invite(email) {
  await page.getByRole("button", { name: "Invite a person" }).click();
  await page.getByRole("dialog").getByLabel("E-mail").fill(email);
  await page.getByRole("dialog").getByRole("button", { name: "Invite", exact: true }).click();
  const link = await page.getByRole("region", { name: "invitation link" }).innerText();
  await page.getByRole("button", { name: "Done" }).click();
  await page.getByRole("table", { name: "Open invitations" }).getByText(email).waitFor();
  return link;
}

/** Somebody else's browser. */
async function guest() {
  const other = await context.browser().newContext();
  const tab = await other.newPage();
  tab.setDefaultTimeout(20_000);
  tab.on("pageerror", (error) => problems.push(String(error)));
  return tab;
}

await tell(async () => {
  const stamp = Date.now();
  const bob = `bob-${stamp}@example.com`;
  await signUp("Ada's workshop", `ada-${stamp}@example.com`);
  await visit("Settings");
  const link = await invite(bob);

  const tab = await guest();
  await tab.goto(link);
  await tab.getByRole("heading", { name: "Join Ada's workshop" }).waitFor();
  const address = tab.url();
  await tab.getByLabel("Name").fill("Bob");
  await tab.getByLabel("Password").fill(PASSWORD);
  await tab.getByRole("button", { name: "Sign up and join" }).click();
  await tab.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  const joined = await (await tab.request.get(`${url}/api/session`)).json();
  await tab.context().close();

  // Whoever belongs elsewhere already joins too, and chooses where to be.
  const carol = await guest();
  await carol.request.post(`${url}/api/sign-up`, { data: { email: `carol-${stamp}@example.com`, password: PASSWORD, name: "Carol" } });
  const wrong = await invite(`dan-${stamp}@example.com`);
  await carol.goto(wrong);
  const refusal = await carol.getByText("you are logged in as").innerText();
  await carol.goto(await invite(`carol-${stamp}@example.com`));
  await carol.getByRole("button", { name: "Join" }).click();
  await carol.getByLabel("Account").waitFor();
  const before = await (await carol.request.get(`${url}/api/session`)).json();
  await carol.getByLabel("Account").selectOption({ label: "Carol" });
  await carol.waitForFunction(() => document.querySelector('select[aria-label="Account"]:not(:disabled)')?.selectedOptions[0]?.text === "Carol");
  const after = await (await carol.request.get(`${url}/api/session`)).json();
  await carol.context().close();

  await page.getByRole("button", { name: `Revoke the invitation of dan-${stamp}@example.com` }).click();
  await page.getByText(`dan-${stamp}@example.com`).waitFor({ state: "detached" });
  await page.goto(wrong);
  const withdrawn = await page.getByRole("alert").innerText();
  return { address, joined, refusal, before, after, withdrawn };
});
