"""Nothing is sent twice, and nothing goes wrong silently, whatever Kaggle, the network and the processes do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.commands import submit as submit_command
from pipeline.submissions import kaggle, send
from pipeline.submissions.ledger import read_ledger
from pipeline.submissions.troubles import trouble_in
from tests.conftest import ROOT, failing_main
from tests.submissions.test_submit import manifests

# The command in a process of its own, with short waits; the Python of the tests stands beside no `dvc`.
SEND = """
import sys
from pipeline.submissions import kaggle, send
kaggle.POLL_SECONDS = 0.02
sys.executable = sys.argv[1]
from pipeline.commands.submit import main
main(["beta"])
"""
MARK = "sha256 {}"


def begin(**options):
    """Start `sketchstack submit beta` in a process of its own."""
    # A shell lets what it starts in the background ignore Ctrl-C, and these tests with it.
    command = ["env", "--default-signal=INT", os.environ["TEST_PYTHON"], "-c", SEND, sys.executable]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        **options,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def real_python(monkeypatch):
    """`sendable` changes sys.executable; a process of its own needs the real one."""
    monkeypatch.setenv("TEST_PYTHON", sys.executable)


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def records():
    return list(Path("submissions").glob(".*.sending.json"))


def scores():
    return [(entry.name, entry.public) for entry in read_ledger()]


# ---- a sender that dies


def test_while_the_upload_of_a_killed_sender_lives_nothing_is_sent_and_then_it_is_found(real_python, sendable, capsys):
    sendable.plan(submit=["slow"])
    sendable.change(seconds=4.0)
    sender = begin()
    wait_until((sendable.folder / "uploading").exists)
    sender.send_signal(signal.SIGKILL)
    sender.communicate()
    refused = failing_main(submit_command, "beta")
    assert "another process is sending beta (process" in refused
    assert "upload goes on" in refused
    assert sendable.verbs().count("submit") == 1
    wait_until(lambda: sendable.sent)
    time.sleep(0.3)  # until the upload's process has ended
    submit_command.main(["beta"])
    assert "it is not sent again" in capsys.readouterr().out
    assert sendable.verbs().count("submit") == 1
    assert scores() == [("beta", "0.91234")]
    assert records() == []


def test_an_upload_that_kaggle_lists_late_is_awaited_after_its_sender_died(real_python, sendable, capsys):
    sendable.plan(submit=["slow"])
    sendable.change(seconds=0.5, hidden=3)
    sender = begin()
    wait_until((sendable.folder / "uploading").exists)
    sender.kill()
    sender.communicate()
    wait_until(lambda: sendable.sent)
    time.sleep(0.3)
    submit_command.main(["beta"])
    printed = capsys.readouterr().out
    assert "it is not known whether it arrived" in printed
    assert "not in the list yet" in printed
    assert sendable.verbs().count("submit") == 1
    assert scores() == [("beta", "0.91234")]


def test_an_upload_that_died_itself_is_looked_for_and_then_sent_again(sendable, monkeypatch, capsys):
    monkeypatch.setattr(send, "LISTING_SECONDS", 0.3)
    sendable.plan(submit=["dies", "works"])
    told = failing_main(submit_command, "beta")
    assert "exit code -9" in told
    assert "looks for it in Kaggle's list before it sends" in told
    assert len(records()) == 1
    submit_command.main(["beta"])
    assert "so beta is sent again" in capsys.readouterr().out
    assert len(sendable.sent) == 1
    assert scores() == [("beta", "0.91234")]


@pytest.mark.parametrize("hidden", [0, 4])
def test_an_upload_that_died_after_it_arrived_is_not_sent_again(sendable, hidden):
    sendable.plan(submit=["dies_after", "works"])
    sendable.change(hidden=hidden)
    failing_main(submit_command, "beta")
    submit_command.main(["beta"])
    assert len(sendable.sent) == 1
    assert scores() == [("beta", "0.91234")]


def test_an_accepted_upload_that_is_not_listed_yet_is_awaited_by_the_next_run(sendable, monkeypatch):
    sendable.change(hidden=8)
    sendable.plan(submissions=["works", "403", "works"])
    told = failing_main(submit_command, "beta")
    assert "the submission was sent, but its score cannot be read" in told
    submit_command.main(["beta"])
    assert len(sendable.sent) == 1
    assert scores() == [("beta", "0.91234")]


def test_a_record_that_cannot_be_read_stops_the_sender(sendable):
    digest = manifests(Path())["beta"]["sha256"][:16]
    Path(f"submissions/.doodles.{digest}.sending.json").write_text("{")
    assert "is no record of an upload" in failing_main(submit_command, "beta")
    assert sendable.calls == []


def test_two_senders_at_once_send_once(real_python, sendable):
    sendable.plan(submit=["slow"])
    sender = begin()
    wait_until((sendable.folder / "uploading").exists)
    assert "another process is sending beta" in failing_main(submit_command, "beta")
    _, said = sender.communicate(timeout=30)
    assert sender.returncode == 0, said
    submit_command.main(["beta"])
    assert sendable.verbs().count("submit") == 1


# ---- answers


@pytest.mark.parametrize("mode", ["html", "error_text", "no_text", "half_table", "half_row", "strange_status", "429"])
def test_a_list_that_is_none_never_means_that_none_was_sent(sendable, mode):
    sendable.has(f"another file with sha256 {'0' * 16}")
    sendable.plan(submissions=[mode])
    if mode == "strange_status":
        sendable.has(f"beta sha256 {manifests(Path())['beta']['sha256'][:16]}")
    told = failing_main(submit_command, "beta")
    assert "no list of submissions" in told or "429" in told
    assert "s3cr3t" not in told
    assert "submit" not in sendable.verbs()


@pytest.mark.parametrize("mode", ["html", "error_text", "no_text", "broken_upload"])
def test_only_the_word_of_success_means_sent(sendable, monkeypatch, mode):
    monkeypatch.setattr(kaggle, "PATIENCE_SECONDS", 3)
    sendable.plan(submit=[mode])
    told = failing_main(submit_command, "beta")
    assert "was not accepted" in told
    assert "s3cr3t" not in told
    assert sendable.verbs() == ["submissions", "submit"]


@pytest.mark.parametrize(
    ("mode", "advice"),
    [
        ("401", "make an API token"),
        ("403", "accept the rules"),
        ("404", "Kaggle knows no such competition"),
        ("429", "wait some minutes"),
        ("500", "Kaggle itself is in trouble"),
        ("allowance", "midnight UTC"),
        ("no_network", "no network, or its DNS does not work"),
        ("proxy", "check HTTPS_PROXY and NO_PROXY"),
        ("proxy_refused", "check HTTPS_PROXY and NO_PROXY"),
        ("407", "The proxy asks for a user and a password"),
        ("socks", "HTTPS_PROXY is not an address that can be used here"),
        ("certificate", "export REQUESTS_CA_BUNDLE=FILE"),
        ("timeout", "did not answer in time"),
        ("refused", "a firewall, or a network that needs a proxy"),
        ("429_plain", "wait some minutes"),
        ("no_credentials", "make an API token"),
        ("not_json", "web page instead"),
        ("html", "web page titled 'Sign in to the network'"),
    ],
)
@pytest.mark.parametrize("verb", ["submit", "submissions"])
def test_each_trouble_has_its_own_advice(sendable, mode, advice, verb):
    sendable.plan(**{verb: [mode]})
    told = failing_main(submit_command, "beta")
    assert advice in told
    assert ("make an API token" in told) == (mode in ("401", "no_credentials"))


def test_kaggle_is_asked_again_with_growing_pauses_when_it_is_asked_too_often(sendable, capsys):
    sendable.plan(submissions=["429", "429", "works"], submit=["429", "works"])
    submit_command.main(["beta"])
    assert capsys.readouterr().out.count("asked too often") == 3
    assert len(sendable.sent) == 1
    sendable.plan(submissions=["429"])
    before = len(sendable.calls)
    failing_main(submit_command, "alpha")
    assert len(sendable.calls) - before == 4  # pauses of 0.01, 0.02 and 0.04 seconds


@pytest.mark.parametrize("score", ["nan", "inf", "1.7", "-0.2", "good"])
def test_a_score_that_is_none_is_an_error_and_not_recorded(sendable, score):
    sendable.change(score=score)
    assert "is no number from 0 to 1" in failing_main(submit_command, "beta")
    assert read_ledger() == []


def test_a_complete_submission_without_a_score_is_not_scored_yet(sendable, monkeypatch):
    sendable.change(score="")
    monkeypatch.setattr(kaggle, "PATIENCE_SECONDS", 0.3)
    assert "has had no score" in failing_main(submit_command, "beta")
    assert read_ledger() == []


def test_a_list_that_is_cut_off_is_told(sendable, capsys):
    sendable.plan(submissions=["many_pages", "works"])
    submit_command.main(["beta"])
    assert "lists the latest 200 submissions only" in capsys.readouterr().out
    assert sendable.calls[0][-2:] == ["--page-size", "200"]


@pytest.mark.parametrize("verb", ["submit", "submissions"])
def test_a_call_that_hangs_is_ended(sendable, monkeypatch, verb):
    (sendable.folder / "kaggle").write_text(
        f'#!/bin/sh\n[ "$2" = {verb} ] && exec sleep 60\necho "No submissions found"\n'
    )
    monkeypatch.setattr(kaggle, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(kaggle, "SUBMIT_SECONDS", 0.5)
    begun = time.monotonic()
    told = failing_main(submit_command, "beta")
    assert "did not end within" in told
    assert "did not answer in time" in told
    assert time.monotonic() - begun < 30


# ---- scoring that fails


def test_a_file_that_kaggle_could_not_score_can_be_sent_again(sendable, capsys):
    sendable.change(end="ERROR")
    told = failing_main(submit_command, "beta")
    assert "could not score beta" in told
    assert "competitions/doodles/submissions" in told
    assert not Path("ledger.csv").exists()
    assert records() == []
    sendable.change(end="COMPLETE")
    submit_command.main(["beta"])
    assert "could not score beta, sent on 2018-11-29" in capsys.readouterr().out
    assert len(sendable.sent) == 2
    assert scores() == [("beta", "0.91234")]


def test_a_second_upload_is_not_taken_for_the_first_that_failed(sendable, monkeypatch):
    """It dies after it has arrived: the next run must wait for it, not for the failed one, and not send a third."""
    sendable.has(f"beta {MARK.format(manifests(Path())['beta']['sha256'][:16])}", end="ERROR")
    sendable.plan(submit=["dies_after"])
    sendable.change(hidden=2)
    failing_main(submit_command, "beta")
    submit_command.main(["beta"])
    assert len(sendable.sent) == 2
    assert scores() == [("beta", "0.91234")]


# ---- the wait


def test_the_wait_shows_status_time_and_the_submissions_left(sendable, capsys):
    sendable.change(hidden=1, pending=2)
    submit_command.main(["beta"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "waiting for the score" in line]
    assert [line.split(": ")[1] for line in lines] == [
        "not in Kaggle's list yet; 4 submissions left today", "pending; 4 submissions left today",
    ]  # fmt: skip
    assert "0 min 0" in lines[0]


def test_the_status_is_told_once_a_minute(capsys):
    told = kaggle.Status("the score")
    for seconds in (0, 10, 59, 61, 70, 122, 130):
        told.tell("pending", seconds)
    assert [line.split(", ")[1].split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "0 min 00 s", "1 min 01 s", "2 min 02 s",
    ]  # fmt: skip


def test_ctrl_c_in_the_wait_says_that_it_was_sent_and_goes_on(real_python, sendable):
    sendable.change(pending=10_000)
    sender = begin(start_new_session=True)
    wait_until(lambda: sendable.verbs().count("submissions") > 2)
    os.killpg(sender.pid, signal.SIGINT)
    _, said = sender.communicate(timeout=30)
    assert sender.returncode == 130
    assert "beta was sent to doodles" in said
    assert "the same command" in said
    sendable.change(pending=0)
    submit_command.main(["beta"])
    assert len(sendable.sent) == 1


def test_ctrl_c_in_the_upload_says_that_it_is_not_known(real_python, sendable, monkeypatch):
    monkeypatch.setattr(send, "LISTING_SECONDS", 0.3)
    sendable.plan(submit=["slow", "works"])
    sendable.change(seconds=30)
    sender = begin(start_new_session=True)
    wait_until((sendable.folder / "uploading").exists)
    os.killpg(sender.pid, signal.SIGINT)
    _, said = sender.communicate(timeout=30)
    assert sender.returncode == 130
    assert "Kaggle may have the submission all the same" in said
    submit_command.main(["beta"])
    assert len(sendable.sent) == 1


def test_a_network_that_is_down_for_a_while_does_not_end_the_wait(sendable):
    sendable.plan(submissions=["works", "no_network", "429", "500", "works"])
    submit_command.main(["beta"])
    assert sendable.verbs().count("submit") == 1
    assert scores() == [("beta", "0.91234")]


def test_a_network_that_stays_down_is_told_and_the_next_run_only_waits(sendable, monkeypatch):
    sendable.plan(submissions=["works", "no_network"])
    monkeypatch.setattr(kaggle, "PATIENCE_SECONDS", 0.5)
    told = failing_main(submit_command, "beta")
    assert "has had no score" in told
    assert "DNS does not work" in told
    sendable.plan()
    monkeypatch.setattr(kaggle, "PATIENCE_SECONDS", 20)
    submit_command.main(["beta"])
    assert sendable.verbs().count("submit") == 1
    assert len(read_ledger()) == 1


def test_an_answer_that_is_none_ends_the_wait_at_once(sendable):
    sendable.plan(submissions=["works", "error_text"])
    told = failing_main(submit_command, "beta")
    assert "the submission was sent, but its score cannot be read" in told
    assert sendable.verbs().count("submissions") == 2


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: x", "limits how often"),
        ("status code: 429", "limits how often"),
        ("API rate limit exceeded", "limits how often"),
        ("100%|###| 429/429 [00:01<00:00, 403B/s]\nCould not submit to competition", "broke off"),
        ("OSError('Tunnel connection failed: 407 Proxy Authentication Required')", "asks for a user"),
        ("407 Client Error: Proxy Authentication Required for url: https://x", "asks for a user"),
        ("SSLError(SSLCertVerificationError(1, 'certificate has expired'))", "REQUESTS_CA_BUNDLE"),
        ("ProxyError('Cannot connect to proxy.', SSLError('CERTIFICATE_VERIFY_FAILED'))", "REQUESTS_CA_BUNDLE"),
        ("SSLEOFError(8, 'EOF occurred in violation of protocol')", "does not reach Kaggle"),
        ("504 Server Error: Gateway Time-out for url: x", "Kaggle itself is in trouble"),
        ("ConnectTimeoutError: Connection to api.kaggle.com timed out. (connect timeout=None)", "in time"),
        ("('Connection aborted.', RemoteDisconnected('Remote end closed connection'))", "does not reach Kaggle"),
        ("InvalidProxyURL: Please check proxy URL. It is malformed", "not an address"),
    ],
)
def test_what_libraries_say_gets_its_own_advice(said, advice):
    assert advice in trouble_in(said).advice


def test_submissions_of_today_are_counted_before_sending(sendable, monkeypatch, capsys):
    sendable.has("another one")
    monkeypatch.setattr(kaggle, "_day", lambda: "2018-11-29")
    submit_command.main(["beta"])
    assert "1 submissions were sent to" in capsys.readouterr().out
