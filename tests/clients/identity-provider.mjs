// An OpenID provider that others have certified (panva's oidc-provider), with one account and a consent page of one button.
// Prints its issuer when it listens.
//
//   node identity-provider.mjs <redirect uri>
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const [redirectUri] = process.argv.slice(2);
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'acme',
        client_secret: 'acme secret: with + signs',
        redirect_uris: [redirectUri],
        grant_types: ['authorization_code'],
        response_types: ['code'],
      },
    ],
    claims: { email: ['email', 'email_verified'], profile: ['name'] },
    // As most providers do: the address is in userinfo, and in the ID token only when no access token is given.
    conformIdTokenClaims: true,
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@corp.example`, email_verified: true, name: 'Grace Hopper' }),
    }),
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'one' }] },
    cookies: { keys: ['only for this run'] },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
