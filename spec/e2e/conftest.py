# SPDX-License-Identifier: BSD-2-Clause
"""The log of every node that ran in a failed test is shown with the failure; nodes are shared by a module's tests."""
import pytest

import harness

_nodes = []
_start = harness.Node.start


def _recording_start(node):
    _start(node)
    if node not in _nodes:
        _nodes.append(node)


harness.Node.start = _recording_start


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
