# SPDX-License-Identifier: BSD-2-Clause
"""Reads lines of METHOD and JSON of its params, calls them all at once, prints the answers in their order:

    printf '%s\\n' 'hello.greet ["Ada"]' 'sys.time' | python3 example.py tcp://127.0.0.1:9001
"""
import json
import sys

import fae

calls = [line.split(None, 1) for line in sys.stdin]
client = fae.Client(sys.argv[1])
for answer in client.batch([[method] + json.loads(params[0] if params else "[]") for method, *params in calls]):
    print(json.dumps({"error": answer.code} if isinstance(answer, fae.Error) else answer))
