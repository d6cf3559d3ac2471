"""What the Kaggle command says when it fails, told apart by kind: each kind has its own remedy."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from pipeline.foundation.errors import SketchstackError

SETUP = (
    "To set credentials up, make an API token at https://www.kaggle.com/settings and give it in one of these ways: "
    "save kaggle.json as ~/.kaggle/kaggle.json (chmod 600), or export KAGGLE_USERNAME and KAGGLE_KEY, or export "
    "KAGGLE_API_TOKEN. Accept the competition's rules on its page once."
)


class Trouble(NamedTuple):
    """A kind of failure.

    Attributes:
        pattern: of the text that the command prints, whatever the case.
        advice: what to do about it.
        passes: it may end by itself, so that asking again later makes sense.
        refused: Kaggle has certainly taken nothing; otherwise a submission may have arrived all the same.
    """

    pattern: str
    advice: str
    passes: bool
    refused: bool


RATE_LIMIT = Trouble(
    r"\b429 (client error|-)|\b429\b\)? *$|too many (429|requests)|\b(status|code|http)\W{1,3}429\b|rate limit",
    "Kaggle limits how often it may be asked: wait some minutes, then run the same command again.",
    passes=True,
    refused=True,
)
PAGE = Trouble(
    r"<!doctype html|<html|expecting value: line 1 column 1|jsondecodeerror",
    "This is a web page instead of Kaggle's answer, as a proxy, the login page of a network or an outage shows it: "
    "open https://www.kaggle.com in a browser on this network, then run the same command again.",
    passes=False,
    refused=False,
)
UNKNOWN = Trouble("", "Read what it says above, then run the same command again.", passes=False, refused=False)
# In this order: the text of a proxy's failure may hold `403 Forbidden`, and that of an outage an HTML page.
TROUBLES = (
    Trouble(
        r"certificate[ _]verify[ _]failed|sslcertverification|self.signed certificate|local issuer certificate|"
        r"certificate has expired|hostname mismatch|certificate is not yet valid",
        "The certificate of the connection is not trusted. Behind a proxy that opens connections, as companies have "
        "them, name a file with its certificates: `export REQUESTS_CA_BUNDLE=FILE` (ask the network's administrators "
        "for it); else see that the clock of this machine is right.",
        passes=False,
        refused=False,
    ),
    Trouble(
        r"proxy authentication required|\b407\b.*(proxy|tunnel|client error)|(proxy|tunnel).*\b407\b",
        "The proxy asks for a user and a password: `export HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT`, with special "
        "characters of the password written as %40 for @ and so on.",
        passes=False,
        refused=True,
    ),
    Trouble(
        r"socks support|invalidproxyurl|proxyschemeunknown|unable to determine socks|check proxy url",
        "HTTPS_PROXY is not an address that can be used here: write it as http://HOST:PORT, or unset it.",
        passes=False,
        refused=True,
    ),
    Trouble(
        r"proxyerror|(cannot|unable to|failed to) connect to proxy|tunnel connection failed",
        "The proxy cannot be reached, or does not let it through: check HTTPS_PROXY and NO_PROXY, or run it on another "
        "network.",
        passes=True,
        refused=False,
    ),
    RATE_LIMIT,
    Trouble(
        r"nameresolution|name or service not known|temporary failure in name|failed to resolve|getaddrinfo|"
        r"nodename nor servname",
        "The name of Kaggle's server is not found: this machine has no network, or its DNS does not work; where a "
        "proxy is needed, `export HTTPS_PROXY=http://HOST:PORT`. Then run the same command again.",
        passes=True,
        refused=False,
    ),
    Trouble(
        r"connection refused|network is unreachable|no route to host",
        "Kaggle's server cannot be reached: a firewall, or a network that needs a proxy "
        "(`export HTTPS_PROXY=http://HOST:PORT`), is in between. Then run the same command again.",
        passes=True,
        refused=False,
    ),
    Trouble(
        r"timed out|(read|connect) ?timeout|\b408 (client error|-)|request time-?out",
        "Kaggle did not answer in time: the connection is slow, or Kaggle is busy. Run the same command again.",
        passes=True,
        refused=False,
    ),
    Trouble(
        r"newconnectionerror|connection (aborted|reset)|connectionerror|max retries exceeded|remote end closed|"
        r"remotedisconnected|broken pipe|incompleteread|ssl(error|eoferror)|\bssl: ",
        "The network does not reach Kaggle: check the connection (and HTTPS_PROXY, where a proxy is needed), then run "
        "the same command again.",
        passes=True,
        refused=False,
    ),
    Trouble(
        r"\b50[0234] (server error|-)|internal server error|bad gateway|service unavailable|gateway time-?out",
        "Kaggle itself is in trouble: look at https://status.kaggle.com and run the same command again later.",
        passes=True,
        refused=False,
    ),
    Trouble(
        r"allowance|daily (submission )?limit|submission limit",
        "The submissions of the day are used up: the count starts again at midnight UTC; run the same command then.",
        passes=False,
        refused=True,
    ),
    Trouble(
        r"\b401 (client error|-)|unauthorized|unauthenticated|authentication required|invalid credentials|"
        r"could not find kaggle\.json|missing (username|key) in configuration",
        SETUP,
        passes=False,
        refused=True,
    ),
    Trouble(
        r"\b403 (client error|-)|forbidden|accept (this|the) competition|permission '[^']*' was denied",
        "Kaggle knows who asks, but does not allow it: accept the rules on the competition's page (section Rules), "
        "look whether it still takes submissions, and check the spelling of its name in params.yaml.",
        passes=False,
        refused=True,
    ),
    Trouble(
        r"\b404 (client error|-)|could not find competition",
        "Kaggle knows no such competition: write submit.competition in params.yaml as in the address of its page, "
        "https://www.kaggle.com/competitions/NAME.",
        passes=False,
        refused=True,
    ),
    PAGE,
    Trouble(
        r"could not submit to competition",
        "The upload broke off and Kaggle has no submission of it; run the same command again.",
        passes=False,
        refused=True,
    ),
)


class KaggleError(SketchstackError):
    """The Kaggle command failed, or its answer is none; `trouble` is the kind."""

    def __init__(self, what: str, output: str, trouble: Trouble | None = None) -> None:
        self.trouble = trouble or trouble_in(output)
        super().__init__(f"{what}: {shown(output)}. {self.trouble.advice}")


def trouble_in(output: str) -> Trouble:
    """The kind of failure that an output tells of."""
    flags = re.IGNORECASE | re.MULTILINE
    return next((kind for kind in TROUBLES if re.search(kind.pattern, output, flags)), UNKNOWN)


def shown(output: str) -> str:
    """The last lines of an output, or the title of a web page, with every credential of the environment struck out."""
    for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        if secret := os.environ.get(name):
            output = output.replace(secret, "***")
    if page := re.search(r"<!doctype html|<html", output, re.IGNORECASE):
        title = re.search(r"<title[^>]*>([^<]*)", output, re.IGNORECASE)
        output = f"{output[: page.start()]}\na web page{f' titled {title[1].strip()!r}' if title else ''}"
    lines = ["".join(sign for sign in line if sign.isprintable()).strip() for line in output.splitlines()]
    return " / ".join(line for line in lines if line)[-500:].rstrip(".") or "it printed nothing"
