// SPDX-License-Identifier: BSD-2-Clause
// Reads lines of METHOD and JSON of its params, calls them all at once, prints the answers in their order:
//   printf '%s\n' 'hello.greet ["Ada"]' 'sys.time' | node example.js tcp://127.0.0.1:9001
'use strict';
const { readFileSync } = require('node:fs');
const { connect } = require('./fae.js');

async function main() {
  const lines = readFileSync(0, 'utf8').split('\n').filter((line) => line);
  const fae = await connect(process.argv[2], { reason: 'example.js' });
  const calls = lines.map((line) => {
    const [, method, params] = line.match(/^(\S+)\s*(.*)$/);
    return fae.call(method, ...JSON.parse(params || '[]')).catch((error) => ({ error: error.code }));
  });
  for (const answer of await Promise.all(calls)) console.log(JSON.stringify(answer));
  fae.close();
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
