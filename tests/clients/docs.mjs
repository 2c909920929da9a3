// The reference page in a real browser: it loads without a fault, signs in by its own form, and calls a protected route.
//
//   node docs.mjs <chromium> <base url> <host> <email> <password>
import { chromium } from 'playwright-core';

const [executablePath, base, host, email, password] = process.argv.slice(2);
const quiet = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', `--host-resolver-rules=MAP ${host} 127.0.0.1`];
const browser = await chromium.launch({ executablePath, args: quiet });
try {
  const page = await browser.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(`${error}`));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  page.on('requestfailed', (request) => faults.push(`${request.url()} ${request.failure()?.errorText}`));
  const port = new URL(base).port;
  await page.goto(`http://${host}:${port}/docs/`);
  await page.locator('.info .title').waitFor();

  // Fills in an operation's body where there is one, sends it, and gives what came back.
  async function call(id, body) {
    const operation = page.locator(`[id$="-${id}"]`);
    await operation.locator('.opblock-summary-control').click();
    await operation.getByRole('button', { name: 'Try it out' }).click();
    if (body) await operation.locator('textarea.body-param__text').fill(JSON.stringify(body));
    await operation.getByRole('button', { name: 'Execute' }).click();
    const answer = operation.locator('.live-responses-table');
    const status = await answer.locator('tbody .response-col_status').first().innerText();
    return { status: status.trim(), body: await answer.locator('.response-col_description pre').first().innerText() };
  }

  const signedIn = await call('login', { email, password });
  const token = signedIn.body.match(/"accessToken": "([^"]+)"/)?.[1];
  if (!token) throw new Error(`no access token: ${signedIn.status} ${signedIn.body}`);
  await page.getByRole('button', { name: 'Authorize' }).first().click();
  const bearer = page.locator('.auth-container').filter({ hasText: '(http, Bearer)' });
  await bearer.locator('input').fill(token);
  await bearer.locator('button[type=submit]').click();
  await bearer.locator('.btn-done').click();
  const { status, body } = await call('get_me');
  console.log(JSON.stringify({ title: await page.locator('.info .title').innerText(), status, body, faults }));
} finally {
  await browser.close();
}
