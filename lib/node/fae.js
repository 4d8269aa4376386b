// SPDX-License-Identifier: BSD-2-Clause
// A client of fae on @msgpack/msgpack: one connection, any number of calls under way.
//   const fae = await connect('unix:/run/fae/fae.sock'); console.log(await fae.call('hello.greet', 'Ada'));
'use strict';
const net = require('node:net');
const { randomBytes } = require('node:crypto');
const { encode, decodeMultiStream } = require('@msgpack/msgpack');

// A call that failed: code is 'TIMEOUT', 'BAD_ARGS', ...
class FaeError extends Error {
  constructor(wire) {
    super(`${wire.code}: ${wire.message}`);
    Object.assign(this, { code: wire.code, retryable: wire.retryable === true, detail: wire.detail });
  }
}

class Client {
  constructor(socket, { timeoutMs = 5000, reason = 'node', uid = null } = {}) {
    this.socket = socket;
    this.timeoutMs = timeoutMs;
    this.context = { rid: randomBytes(6).readUIntBE(0, 6), reason, uid, deadline_ms: timeoutMs };
    this.waiting = new Map(); // msgid -> { resolve, reject, timer }
    this.lastId = 0;
    this.notify('sys.hello', { error: 'map' });
    this.read().catch((error) => error).then((error) => this.lose(error));
  }

  // Resolves to the result, or rejects with a FaeError.
  call(method, ...params) {
    return new Promise((resolve, reject) => {
      if (this.socket.destroyed) throw new FaeError({ code: 'CLOSED', message: 'the client is closed' });
      const id = (this.lastId = (this.lastId + 1) >>> 0);
      // The node ends the call itself at its deadline; this is for when it cannot.
      const late = { code: 'TIMEOUT', message: 'no answer in time' };
      const timer = setTimeout(() => this.end(id, late), this.timeoutMs + 50);
      this.waiting.set(id, { resolve, reject, timer });
      this.socket.write(encode([0, id, method, params, this.context]));
    });
  }

  notify(method, ...params) {
    this.socket.write(encode([2, method, params]));
  }

  close() {
    this.socket.destroy();
  }

  end(id, error, result) {
    const call = this.waiting.get(id);
    if (!call) return;
    this.waiting.delete(id);
    clearTimeout(call.timer);
    if (error) call.reject(new FaeError(error));
    else call.resolve(result);
  }

  async read() {
    for await (const [kind, id, error, result] of decodeMultiStream(this.socket)) {
      if (kind === 1) this.end(id, error, result); // answers come in any order
    }
  }

  lose(error) {
    this.socket.destroy();
    const message = (error && error.message) || 'the connection was closed';
    for (const id of [...this.waiting.keys()]) this.end(id, { code: 'WORKER_LOST', message, retryable: true });
  }
}

// 'unix:/path' or 'tcp://host:port'
function connect(address, options) {
  const unix = address.startsWith('unix:') && address.slice(5);
  const url = unix || new URL(address.replace('tcp:', 'http:'));
  const socket = unix ? net.connect(unix) : net.connect(Number(url.port), url.hostname.replace(/[[\]]/g, ''));
  return new Promise((resolve, reject) => {
    socket.once('error', reject).once('connect', () => resolve(new Client(socket.setNoDelay(), options)));
  });
}

module.exports = { connect, Client, FaeError };
