"""The last line of a run: `N passed, N failed`, whatever else pytest prints."""

import pytest

counts = {"passed": 0, "failed": 0, "skipped": 0}


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        counts[report.outcome] += 1


def pytest_collectreport(report):
    counts["failed"] += report.failed


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['passed']} passed, {counts['failed']} failed{skipped}")
