"""A mail server for tests: what it takes it writes to a directory, one JSON file a message.

Two listeners on free ports: one without TLS, one that offers STARTTLS. Their addresses are printed as one line of
JSON. What the recipient's local part says decides:

    refused+550      refused at RCPT with that code (its enhanced code: 5.1.1, or 4.2.2 for 4xx)
    refused-content  taken at RCPT, refused with 554 after the data
    anything else    accepted: "250 2.0.0 Ok: queued as <id>"
"""

import asyncio
import hashlib
import json
import os
import pathlib
import signal
import ssl
import sys

from aiosmtpd.smtp import SMTP


class Handler:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    async def handle_RCPT(self, server, session, envelope, address, options):
        local_part = address.partition("@")[0]
        if local_part.startswith("refused+"):
            code = local_part.partition("+")[2]
            enhanced = "4.2.2" if code.startswith("4") else "5.1.1"
            return f"{code} {enhanced} {address} is not taken here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        if any(address.startswith("refused-content@") for address in envelope.rcpt_tos):
            return "554 5.6.0 the content is not taken here"
        name = hashlib.sha256(envelope.original_content).hexdigest()[:16]
        for address in envelope.rcpt_tos:
            self.keep(address, name, session, envelope)
        return f"250 2.0.0 Ok: queued as {name}"

    def keep(self, address, name, session, envelope):
        mail = {
            "id": name,
            "from": envelope.mail_from,
            "to": address,
            "tls": session.ssl is not None,
            "content": envelope.original_content.decode("utf-8"),
        }
        path = self.directory / f"{address}.json"
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(mail), encoding="utf-8")
        os.replace(unfinished, path)


async def listen(handler, tls_context):
    loop = asyncio.get_running_loop()

    def session():
        return SMTP(handler, hostname="mail.test", enable_SMTPUTF8=True, tls_context=tls_context, loop=loop)

    server = await loop.create_server(session, host="127.0.0.1", port=0)
    host, port = server.sockets[0].getsockname()
    return server, f"{host}:{port}"


async def main(directory, certificate, key):
    tls_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls_context.load_cert_chain(certificate, key)
    handler = Handler(directory)
    plain, plain_address = await listen(handler, None)
    tls, tls_address = await listen(handler, tls_context)
    print(json.dumps({"plain": plain_address, "starttls": tls_address}), flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    plain.close()
    tls.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
