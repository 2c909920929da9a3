// The browser's part of a sign-in at the provider, without a browser: follows redirects with cookies and presses the buttons
// of its pages. Prints where the provider sends the browser back to.
//
//   node sign-in.mjs <authorization url> <account> <redirect uri>
const [start, account, redirectUri] = process.argv.slice(2);
const jar = new Map();

async function visit(url, form) {
  for (let hop = 0; hop < 20; hop += 1) {
    if (url.startsWith(redirectUri)) return { url };
    const headers = { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') };
    const options = { redirect: 'manual', headers };
    if (form) Object.assign(options, { method: 'POST', body: new URLSearchParams(form) });
    const answer = await fetch(url, options);
    for (const cookie of answer.headers.getSetCookie()) {
      const [name, value] = cookie.split(';')[0].split(/=(.*)/s);
      jar.set(name, value);
    }
    if (answer.status < 300 || answer.status >= 400) return { url, page: await answer.text(), status: answer.status };
    url = new URL(answer.headers.get('location'), url).href;
    form = undefined;
  }
  throw new Error(`too many redirects, the last to ${url}`);
}

let at = await visit(start);
// First the page that asks who one is, then the one that asks for consent.
for (let page = 0; page < 3 && at.page; page += 1) {
  const action = at.page.match(/<form[^>]*action="([^"]+)"/)?.[1];
  const prompt = at.page.match(/name="prompt" value="([^"]+)"/)?.[1];
  if (!action || !prompt) throw new Error(`${at.status} ${at.url}: ${at.page.slice(0, 300)}`);
  const answers = prompt === 'login' ? { prompt, login: account, password: 'any' } : { prompt };
  at = await visit(new URL(action, at.url).href, answers);
}
console.log(at.url);
