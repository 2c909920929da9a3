// A frontend's own client, with the interceptors that the frontends are written with: the token is added, a 401 refreshes
// once for all requests that wait, and a refusal to refresh signs out. Says what it saw as one JSON document.
//
//   node frontend.mjs <base url> <host> <email>
import axios from 'axios';

const [base, host, email] = process.argv.slice(2);
const password = 'Correct-Horse-7';
const store = { accessToken: undefined, refreshToken: undefined, signedOut: 0, refreshes: 0 };

// A browser sends the page's host; from here it is a header.
const bare = axios.create({ baseURL: `${base}/api`, timeout: 10_000, headers: { Host: host } });
const api = axios.create({ baseURL: `${base}/api`, timeout: 10_000, headers: { Host: host } });

api.interceptors.request.use((config) => {
  if (store.accessToken) config.headers.Authorization = `Bearer ${store.accessToken}`;
  return config;
});

let refreshing;
function refresh() {
  refreshing ??= bare
    .post('/auth/refresh', { refreshToken: store.refreshToken })
    .then(({ data }) => {
      store.refreshes += 1;
      keep(data.data);
    })
    .finally(() => (refreshing = undefined));
  return refreshing;
}

api.interceptors.response.use(
  (response) => response,
  async (error) => {
    const { config, response } = error;
    if (response?.status === 401 && !config.again && store.refreshToken) {
      try {
        // Whose 401 comes late finds that the others have refreshed meanwhile.
        if (config.headers.Authorization === `Bearer ${store.accessToken}`) await refresh();
      } catch (refused) {
        store.signedOut += 1;
        store.accessToken = store.refreshToken = undefined;
        throw refused;
      }
      return api({ ...config, again: true });
    }
    throw error;
  },
);

function keep({ accessToken, refreshToken }) {
  Object.assign(store, { accessToken, refreshToken });
}

function check(what, ok, seen) {
  if (!ok) throw new Error(`${what}: ${JSON.stringify(seen)}`);
}

const refusal = (promise) =>
  promise.then(
    ({ status, data }) => ({ status, data }),
    ({ response, message }) => ({ status: response?.status, data: response?.data ?? message }),
  );

const registered = await bare.post('/auth/register', { email, password, name: 'Ada Lovelace' });
check('registered', registered.status === 201 && registered.data.success === true, registered.data);
const signedIn = await bare.post('/auth/login', { email, password });
check('signed in', signedIn.data.data.user.email === email, signedIn.data);
keep(signedIn.data.data);

const me = await api.get('/auth/me');
check('me', me.data.data.email === email, me.data);

// An access token that does not count any more: twenty requests of one page refresh once, and none is lost.
store.accessToken = `${store.accessToken.slice(0, -4)}AAAA`;
const page = await Promise.all(Array.from({ length: 20 }, () => api.get('/auth/me')));
check('a page of requests', page.every(({ status }) => status === 200), page.map(({ status }) => status));
check('one refresh', store.refreshes === 1, store.refreshes);

// Two tabs with the same refresh token.
const shared = store.refreshToken;
const tabs = await Promise.all(Array.from({ length: 10 }, () => bare.post('/auth/refresh', { refreshToken: shared })));
const successors = new Set(tabs.map(({ data }) => data.data.refreshToken));
check('tabs get one successor', successors.size === 1, [...successors].length);
keep(tabs[0].data.data);

// What a frontend shows by status and field.
const invalid = await refusal(bare.post('/auth/register', { email: 'none', password: 'x', name: '' }));
check('a field is named', invalid.status === 400 && invalid.data.error.details.some(({ field }) => field === 'email'), invalid);
const forbidden = await refusal(api.get('/admin/users'));
check('forbidden', forbidden.status === 403 && forbidden.data.success === false, forbidden);
const wrong = await refusal(bare.post('/auth/login', { email, password: 'Wrong-Horse-7' }));
check('wrong password', wrong.status === 401 && wrong.data.error.code === 'INVALID_CREDENTIALS', wrong);

// Multipart and URL-encoded bodies are axios's too.
const form = await bare.post('/auth/login', new URLSearchParams({ email, password }));
check('a form signs in as well', form.status === 200, form.data);

await api.post('/auth/logout', { scope: 'all' });
// Felt at once by the replica that answered, and within a second by the others.
let after;
for (const until = Date.now() + 10_000; Date.now() < until; ) {
  after = await refusal(api.get('/auth/me'));
  if (after.status === 401) break;
}
check('signed out everywhere', after.status === 401 && store.signedOut === 1, { after, store });
console.log(JSON.stringify({ refreshes: store.refreshes, signedOut: store.signedOut }));
