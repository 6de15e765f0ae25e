// An OpenID Connect provider as others have written it (npm's oidc-provider, certified), over HTTPS on the loopback, for tests/people/oidc. Whoever
// says a name is who he says.
//
// Usage: provider.mjs KEY CERTIFICATE PORT; NODE_PATH does not count for modules, so it runs where node_modules is.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';

const [key, cert, port] = process.argv.slice(2);
const provider = new Provider(`https://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: 'landfast',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'],
      grant_types: ['authorization_code'],
      response_types: ['code'],
    },
  ],
  pkce: { required: () => true },
  cookies: { keys: ['for a test'] },
});
createServer({ key: readFileSync(key), cert: readFileSync(cert) }, provider.callback()).listen(Number(port), '127.0.0.1', () => console.log('ready'));
