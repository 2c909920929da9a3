"""An SMTP server for tests: aiosmtpd, with faults that the recipient's address asks for.

It prints one line of JSON with its port when it listens, and appends one to the file TOOK for each mail that it took, before
it says so. Addresses:

  busy-…@     451 for now, as greylisting does, until the file FORGIVE (if named) exists
  gone-…@     550 for good
  stuck-…@    no answer to RCPT

Options are environment variables: PORT (0 takes a free one), USERNAME and PASSWORD (AUTH is then demanded), CERTIFICATE and
KEY (STARTTLS is offered; with IMPLICIT=1 TLS from the first byte), FORGIVE.
"""

import asyncio
import email
import email.policy
import json
import os
import ssl

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.split("@")[0]
        forgiven = os.path.exists(os.environ.get("FORGIVE") or "/nonexistent")
        if local.startswith("busy-") and not forgiven:
            return "451 4.7.1 come again later"
        if local.startswith("gone-"):
            return "550 5.1.1 no such mailbox"
        if local.startswith("stuck-"):
            await asyncio.sleep(3600)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        part = lambda kind: mail.get_body(preferencelist=(kind,)).get_content()
        took({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name: str(value) for name, value in mail.items()},
            "text": part("plain"),
            "html": part("html"),
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "user": getattr(session, "who", ""),
        })
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    wanted = (os.environ["USERNAME"].encode(), os.environ["PASSWORD"].encode())
    good = (data.login, data.password) == wanted
    session.who = data.login.decode()
    return AuthResult(success=good, handled=False)


def took(mail):
    with open(os.environ["TOOK"], "a") as file:
        file.write(json.dumps(mail) + "\n")


async def main():
    settings, context = {}, None
    if os.environ.get("CERTIFICATE"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["KEY"])
    implicit = os.environ.get("IMPLICIT") == "1"
    if context and not implicit:
        settings.update(tls_context=context, require_starttls=True)
    if os.environ.get("USERNAME"):
        settings.update(authenticator=authenticate, auth_required=True, auth_require_tls=context is not None and not implicit)
    factory = lambda: SMTP(Handler(), hostname="mail.test", enable_SMTPUTF8=True, **settings)
    port = int(os.environ.get("PORT") or 0)
    server = await asyncio.get_running_loop().create_server(
        factory, "127.0.0.1", port, ssl=context if implicit else None, reuse_address=True)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


asyncio.run(main())
