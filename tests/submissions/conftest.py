"""Fixtures of a project that can send, for the tests of this folder."""

from tests.submissions.test_submit import finished, no_credentials, project, sendable

__all__ = ["finished", "no_credentials", "project", "sendable"]
