// A frontend with open sockets: several over all replicas, an ended session, a renewed token, and a restart of the API.
// Says `open` once its sockets stand and waits for the restart; then what it saw, as one JSON document.
//
//   node sockets.mjs <base url> <host> <email>
import { Agent } from 'node:http';
import axios from 'axios';
import { io } from 'socket.io-client';

const [base, host, email] = process.argv.slice(2);
const password = 'Correct-Horse-7';
const TABS = 4;
// A browser sends the page's host; from here it is a header.
const api = axios.create({ baseURL: `${base}/api`, timeout: 60_000, headers: { Host: host } });

function check(what, ok, seen) {
  if (!ok) throw new Error(`${what}: ${JSON.stringify(seen)}`);
}

function socket(token, options = {}) {
  const auth = (give) => give({ token: token() });
  return io(base, { transports: ['websocket'], forceNew: true, extraHeaders: { Host: host }, auth, ...options });
}

const once = (socket, event) => new Promise((resolve) => socket.once(event, resolve));
const tabs = (token) => Promise.all(Array.from({ length: TABS }, async () => {
  const tab = socket(token);
  await Promise.race([once(tab, 'connect'), once(tab, 'connect_error').then((error) => { throw error; })]);
  return tab;
}));
const signIn = async () => (await api.post('/auth/login', { email, password })).data.data;

await api.post('/auth/register', { email, password, name: 'Ada Lovelace' });
const [first, second] = [await signIn(), await signIn()];

for (const bad of [undefined, 'nonsense', `${first.accessToken.slice(0, -4)}AAAA`]) {
  const refused = socket(() => bad);
  const error = await once(refused, 'connect_error');
  check('a bad token', error.message === 'Authentication error' && !refused.active, [bad, error.message, error.data]);
  refused.close();
}
// Not told which transports to take, it begins with polling: its developer reads what to do, and it does not try for ever.
// Its requests name the host of the address, and nothing else: so the address has the tenant's, which leads where `base` does.
const { hostname, port } = new URL(base);
const agent = new Agent({ lookup: (_, { all }, found) => (all ? found(null, [{ address: hostname, family: 4 }]) : found(null, hostname, 4)) });
const unconfigured = io(`http://${host}:${port}`, { forceNew: true, agent, auth: (give) => give({ token: first.accessToken }) });
const advice = await once(unconfigured, 'connect_error');
check('polling', advice.message.includes('transports: ["websocket"]') && !unconfigured.active, [advice.message, advice.data]);
check('polling', advice.data.code === 'POLLING_UNSUPPORTED', advice.data);
unconfigured.close();

// The session that ends, and the one that goes on.
const [ending, staying] = [await tabs(() => first.accessToken), await tabs(() => second.accessToken)];
const joined = await ending[0].emitWithAck('join-room', `user:${first.user.id}`);
check('the own room', joined.ok && joined.room === `user:${first.user.id}`, joined);
const forbidden = await ending[0].emitWithAck('join-room', 'user:0192f0c1-7a00-7000-8000-000000000001');
check("another's room", !forbidden.ok && forbidden.error.code === 'FORBIDDEN', forbidden);
const ends = ending.map((tab) => Promise.all([once(tab, 'session-ended'), once(tab, 'disconnect')]));
const since = performance.now();
await api.post('/auth/logout', {}, { headers: { Authorization: `Bearer ${first.accessToken}` } });
for (const [told, why] of await Promise.all(ends)) {
  check('the end', told.reason === 'session_ended' && why === 'io server disconnect', [told, why]);
}
const felt = Math.round(performance.now() - since);
check('nobody comes back by themselves', ending.every((tab) => !tab.active), ending.map((tab) => tab.active));

// What becomes of the user is told to their tabs on every replica.
const news = staying.map((tab) => once(tab, 'user-updated'));
const bearer = { headers: { Authorization: `Bearer ${second.accessToken}` } };
await api.put(`/users/${second.user.id}`, { name: 'Ada King' }, bearer);
for (const { room, user } of await Promise.all(news)) {
  check('the news', room === `user:${second.user.id}` && user.name === 'Ada King' && user.roles.includes('USER'), [room, user]);
}

const renewed = (await api.post('/auth/refresh', { refreshToken: second.refreshToken })).data.data;
second.accessToken = renewed.accessToken;
for (const tab of staying) {
  const answer = await tab.emitWithAck('authenticate', { token: renewed.accessToken });
  check('renewed', tab.connected && answer.ok, answer);
}

// The API restarts: each socket is told, and its client comes back by itself, to a pod that is there.
const back = staying.map(async (tab) => {
  const [told, why] = await Promise.all([once(tab, 'going-away'), once(tab, 'disconnect')]);
  await once(tab, 'connect');
  return [told.reason, why];
});
console.log('open');
for (const [told, why] of await Promise.all(back)) check('the restart', told === 'shutdown' && why === 'transport close', [told, why]);
staying.forEach((tab) => tab.close());
console.log(JSON.stringify({ ended: ending.length, feltMs: felt, cameBack: staying.length }));
