# SPDX-License-Identifier: BSD-2-Clause
"""The log of every node that ran in a failed test is shown with the failure; nodes are shared by a module's tests. A test
that failed while the machine stood still is run again."""
import pytest
from _pytest.runner import runtestprotocol

import harness

STALL_S = 0.3  # shorter than any deadline that a test asks for and does not want to see pass
RUNS = 3

_nodes = []
_start = harness.Node.start


def _recording_start(node):
    _start(node)
    if node not in _nodes:
        _nodes.append(node)


harness.Node.start = _recording_start


def pytest_configure(config):
    """A fake server whose thread ends with an exception says nothing from then on, and its test would be content."""
    config.addinivalue_line("filterwarnings", "error::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for node in _nodes:
            if node.process:
                report.sections.append(("log of the node in " + node.folder, node.log()[-8000:]))


@pytest.fixture(autouse=True, scope="module")
def forget_nodes():
    yield
    del _nodes[:]


def forget_fixtures(item):
    """A node that others use too may be the one that was hurt."""
    try:
        item.session._setupstate.teardown_exact(None)
    except BaseException as err:
        print("what the failed run left: %r" % err)
    item._initrequest()


def pytest_runtest_protocol(item, nextitem):
    """Deadlines that a test gives pass while nobody runs, and nothing can be learnt from what came of it: the test has
    two more runs, each only when the one before lost STALL_S or more to the machine."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for run in range(1, RUNS + 1):
        watch = harness.Stopwatch()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        failed = [report for report in reports if report.failed]
        if not failed or watch.lost() < STALL_S or run == RUNS:
            break
        out = item.config.get_terminal_writer()
        out.line("\nrun again, since the machine stood still (%r): %s\n%.2000s" % (watch, item.nodeid, failed[0].longreprtext))
        forget_fixtures(item)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
