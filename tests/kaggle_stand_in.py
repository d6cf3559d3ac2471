"""A `kaggle` command that answers as the real one does, and fails as the real one does; it needs no network.

    stand_in = KaggleStandIn(tmp_path / "bin")        # put that folder at the front of PATH
    stand_in.plan(submit=["dies"], submissions=["429", "works"])
    stand_in.sent                                     # what Kaggle has

Each call of a verb takes the next mode of its plan; the last one stays. Texts are those of kaggle 2.2.4.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MODES = (
    "works",
    "slow",  # works, after `seconds`
    "dies",  # killed before Kaggle has the file
    "dies_after",  # killed after Kaggle has it, before it says so
    "broken_upload",  # exit code 0
    "html",  # exit code 0
    "error_text",  # exit code 0
    "no_text",  # exit code 0, nothing printed
    "half_table",
    "half_row",
    "bad_score",
    "strange_status",
    "many_pages",  # 200 submissions, none of them ours
    "401",
    "403",
    "404",
    "429",
    "500",
    "allowance",
    "no_network",
    "proxy",
    "407",
    "proxy_refused",
    "socks",
    "certificate",
    "timeout",
    "refused",
    "429_plain",
    "no_credentials",
    "not_json",
)

_SCRIPT = """#!{python}
import json, os, pathlib, signal, sys, time
FOLDER = pathlib.Path(__file__).parent
URL = "for url: https://api.kaggle.com/v1/competitions.CompetitionApiService/"
FAILURES = {{
    "401": "Authentication required to call the Kaggle API.\\n\\nFirst, you will need a Kaggle account.",
    "403": "403 Client Error: Forbidden " + URL,
    "404": "404 Client Error: Not Found " + URL,
    "429": "429 Client Error: Too Many Requests " + URL,
    "500": "502 Server Error: Bad Gateway " + URL,
    "allowance": "Submission not allowed: Your team has used its daily Submission allowance (5) today.",
    "no_network": "HTTPSConnectionPool(host='api.kaggle.com', port=443): Max retries exceeded with url: / (Caused by "
    "NameResolutionError(\\"Failed to resolve 'api.kaggle.com' ([Errno -3] Temporary failure in name resolution)\\"))",
    "proxy": "HTTPSConnectionPool(host='api.kaggle.com', port=443): Max retries exceeded with url: / (Caused by "
    "ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 403 Forbidden')))",
    "407": "HTTPSConnectionPool(host='api.kaggle.com', port=443): Max retries exceeded with url: / (Caused by "
    "ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 407 Proxy Authentication Required')))",
    "proxy_refused": "HTTPSConnectionPool(host='api.kaggle.com', port=443): Max retries exceeded (Caused by "
    "ProxyError('Unable to connect to proxy', NewConnectionError('[Errno 111] Connection refused')))",
    "socks": "Missing dependencies for SOCKS support.",
    "certificate": "HTTPSConnectionPool(host='api.kaggle.com', port=443): Max retries exceeded with url: / (Caused by "
    "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed "
    "certificate in certificate chain (_ssl.c:1006)')))",
    "timeout": "HTTPSConnectionPool(host='api.kaggle.com', port=443): Read timed out. (read timeout=60)",
    "refused": "HTTPSConnectionPool(host='api.kaggle.com', port=443): Max retries exceeded with url: / (Caused by "
    "NewConnectionError('<urllib3.connection.HTTPSConnection object>: Failed to establish a new connection: "
    "[Errno 111] Connection refused'))",
    "429_plain": "(429)\\nReason: Too Many Requests\\nHTTP response headers: HTTPHeaderDict({{}})",
    "no_credentials": "OSError: Could not find kaggle.json. Make sure it's located in /root/.kaggle. Or use the "
    "environment method. See setup instructions at https://github.com/Kaggle/kaggle-api/",
    "not_json": "Expecting value: line 1 column 1 (char 0)",
}}
TEXTS = {{
    "html": "<!DOCTYPE html>\\n<html><head><title>Sign in to the network</title></head><body>403</body></html>",
    "error_text": "An unexpected thing happened, key " + os.environ.get("KAGGLE_KEY", ""),
    "no_text": "",
}}
HEADER = "ref,fileName,date,description,status,publicScore,privateScore"


def read(name, default):
    path = FOLDER / name
    return json.loads(path.read_text()) if path.exists() else default


def write(name, value):
    beside = FOLDER / (name + "." + str(os.getpid()))
    beside.write_text(json.dumps(value))
    beside.replace(FOLDER / name)


def mode_of(verb):
    plan = read("plan.json", {{}})
    modes = plan.get(verb) or ["works"]
    if len(modes) > 1:
        write("plan.json", plan | {{verb: modes[1:]}})
    return modes[0]


def submit(arguments, mode, settings):
    message, file = arguments[arguments.index("-m") + 1], arguments[arguments.index("-f") + 1]
    if mode == "slow":
        (FOLDER / "uploading").touch()
        time.sleep(settings["seconds"])
    if mode == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "broken_upload":
        print("('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))")
        return print("Could not submit to competition", end="")
    sent = read("sent.json", [])
    write("sent.json", [*sent, {{"ref": str(101 + len(sent)), "file": os.path.basename(file), "description": message,
                                "asked": 0, "end": settings["end"], "score": settings["score"]}}])
    if mode == "dies_after":
        os.kill(os.getpid(), signal.SIGKILL)
    print("100%|##########| 429/429 [00:01<00:00, 403B/s]", file=sys.stderr)
    print("4 submissions remaining today.")
    print("Successfully submitted to Doodles", end="")


def row(each, settings, mode):
    waits = each["asked"] <= settings["hidden"] + settings["pending"]
    status = "PENDING" if waits else each["end"]
    public = {{"bad_score": "nan"}}.get(mode, each["score"]) if status == "COMPLETE" else ""
    status = "LOST" if mode == "strange_status" else status
    description = '"' + each["description"].replace('"', '""') + '"'
    return ",".join([each["ref"], each["file"], "2018-11-29 10:00:00.123000", description,
                     "SubmissionStatus." + status, public, public and "0.90123"])


def submissions(arguments, mode, settings):
    sent = [each | {{"asked": each["asked"] + 1}} for each in read("sent.json", [])]
    write("sent.json", sent)
    rows = [row(each, settings, mode) for each in sent if each["asked"] > settings["hidden"]][::-1]
    if mode == "many_pages":
        rows = [str(n) + ",other.csv,2018-11-30 10:00:00,another one,SubmissionStatus.COMPLETE,0.1,0.1"
                for n in range(900, 700, -1)]
    print("Warning: Looks like you're using an outdated `kaggle` version")
    if mode == "half_table":
        return print(HEADER + "\\r\\n7,other.csv,2018-11-30 10:00:00,anoth", end="")
    if mode == "half_row":
        return print(HEADER + "\\r\\n7,other.csv,2018-11-30 10:00:00\\r\\n", end="")
    if not rows:
        return print("No submissions found")
    print("\\r\\n".join([HEADER, *rows, ""]), end="")


arguments = sys.argv[1:]
with (FOLDER / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
verb, settings = arguments[1], read("settings.json", {{}})
mode = mode_of(verb)
if mode in FAILURES:
    print(FAILURES[mode], file=sys.stdout if mode == "401" else sys.stderr)
    sys.exit(1)
if mode in TEXTS:
    print(TEXTS[mode])
elif verb == "submit":
    submit(arguments, mode, settings)
elif verb == "submissions":
    submissions(arguments, mode, settings)
else:
    sys.exit("unknown verb " + verb)
"""


class KaggleStandIn:
    """A folder with a `kaggle` command in it, and what its Kaggle knows.

    Args:
        folder: it is made; put it at the front of PATH.
        pending: number of lists in which a new submission waits for its score.
        hidden: number of lists in which a new submission is not shown yet, before those.
        end: the status at the end, COMPLETE or ERROR.
        score: the public score.
        seconds: that an upload of the mode `slow` takes.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = {"pending": 0, "hidden": 0, "end": "COMPLETE", "score": "0.91234", "seconds": 1.0}
        self.change(**settings)
        command = folder / "kaggle"
        command.write_text(_SCRIPT.format(python=sys.executable))
        command.chmod(0o755)

    def change(self, **settings: Any) -> None:
        """Change settings; the end and the score are those of submissions that are sent from now on."""
        assert settings.keys() <= self._settings.keys(), settings
        self._settings |= settings
        (self.folder / "settings.json").write_text(json.dumps(self._settings))

    def plan(self, **modes: list[str]) -> None:
        """Say how the next calls of a verb go."""
        assert all(mode in MODES for verb in modes.values() for mode in verb), modes
        (self.folder / "plan.json").write_text(json.dumps(modes))

    def has(self, message: str, end: str = "COMPLETE", score: str = "0.91234") -> None:
        """Let Kaggle have a submission that was sent before."""
        sent = self.sent
        new = {"ref": str(101 + len(sent)), "file": "x.csv", "description": message, "asked": 1_000_000}
        (self.folder / "sent.json").write_text(json.dumps([*sent, new | {"end": end, "score": score}]))

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The submissions that Kaggle has, the oldest first."""
        path = self.folder / "sent.json"
        return json.loads(path.read_text()) if path.exists() else []

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self) -> list[str]:
        """The verb of each call: submit or submissions."""
        return [call[1] for call in self.calls]
