// The reference page in a real browser: it loads without a fault, signs in with its own form, and calls a protected route.
//
//   node docs.mjs <chromium> <base url> <host> <access token>
import { chromium } from 'playwright-core';

const [executablePath, base, host, token] = process.argv.slice(2);
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
  await page.getByRole('button', { name: 'Authorize' }).first().click();
  const bearer = page.locator('.auth-container').filter({ hasText: '(http, Bearer)' });
  await bearer.locator('input').fill(token);
  await bearer.locator('button[type=submit]').click();
  await bearer.locator('.btn-done').click();
  const operation = page.locator('[id$="get_me"]');
  await operation.locator('.opblock-summary-control').click();
  await operation.getByRole('button', { name: 'Try it out' }).click();
  await operation.getByRole('button', { name: 'Execute' }).click();
  await operation.locator('.live-responses-table .response-col_status').first().waitFor();
  const status = (await operation.locator('.live-responses-table tbody .response-col_status').first().innerText()).trim();
  const body = await operation.locator('.live-responses-table .response-col_description pre').first().innerText();
  console.log(JSON.stringify({ title: await page.locator('.info .title').innerText(), status, body, faults }));
} finally {
  await browser.close();
}
