"""Enrols by HTTP Negotiate, as a program of its user's would.

    negotiate.py URL REQUEST CA [binding=none|right|wrong] [mutual=yes|no] [mech=spnego|krb5]

REQUEST is base64 of a PKCS#10 request; the answer's body goes to standard output. Before it
stand lines for the test: the status, the challenges, and with mutual=yes whether the server
proved who it is. The ticket comes from KRB5CCNAME.
"""

import base64
import hashlib
import http.client
import ssl
import sys
import urllib.parse

import gssapi

MECHS = {
    "spnego": gssapi.OID.from_int_seq("1.3.6.1.5.5.2"),
    "krb5": gssapi.OID.from_int_seq("1.2.840.113554.1.2.2"),
}


def main(url, request, ca, *options):
    want = {"binding": "none", "mutual": "no", "mech": "spnego"}
    want.update(option.split("=") for option in options)
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPSConnection(
        where.hostname, where.port, context=ssl.create_default_context(cafile=ca), timeout=40
    )
    connection.connect()

    # RFC 5929 section 4.1: the hash of the certificate's own signature, SHA-256 at least.
    certificate = connection.sock.getpeercert(binary_form=True)
    bindings = None
    if want["binding"] != "none":
        digest = hashlib.sha256(certificate).digest()
        if want["binding"] == "wrong":
            digest = hashlib.sha256(b"another").digest()
        bindings = gssapi.raw.ChannelBindings(application_data=b"tls-server-end-point:" + digest)

    flags = [gssapi.RequirementFlag.integrity]
    if want["mutual"] == "yes":
        flags.append(gssapi.RequirementFlag.mutual_authentication)
    context = gssapi.SecurityContext(
        name=gssapi.Name("HTTP@" + where.hostname, gssapi.NameType.hostbased_service),
        mech=MECHS[want["mech"]], flags=flags, usage="initiate", channel_bindings=bindings,
    )
    token = context.step()
    with open(request, encoding="ascii") as file:
        body = file.read()
    connection.request("POST", where.path, body, {
        "Content-Type": "application/pkcs10",
        "Authorization": "Negotiate " + base64.b64encode(token).decode(),
    })
    response = connection.getresponse()
    text = response.read().decode()
    print("status", response.status)
    for challenge in response.headers.get_all("WWW-Authenticate", []):
        print("challenge", challenge.split(" ")[0])
        if response.status == 200 and not context.complete:
            # Fails unless the server has opened the ticket.
            context.step(base64.b64decode(challenge.split(" ")[1]))
    print("complete", context.complete)
    print("mutual", bool(context.actual_flags & gssapi.RequirementFlag.mutual_authentication))
    print(text)


main(*sys.argv[1:])
