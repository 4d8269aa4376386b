<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae;

use function array_values, count, fclose, feof, fread, ftell, fwrite, getmypid, hrtime, in_array, intdiv, is_array,
    max, min, preg_match, random_int, register_shutdown_function, stream_context_create, stream_select,
    stream_set_blocking, stream_set_chunk_size, stream_socket_client, strlen, strncmp, substr, usleep;

/**
 * One connection: opens, sends calls, collects their answers in whatever order they come. After a timeout, or anything
 * else that leaves an answer on its way, it is closed: what comes late must never answer the next call.
 *
 * @internal
 */
final class Connection
{
    private const CHUNK_BYTES = 65536;
    private const WRITE_BYTES = 1 << 20;
    /** The node ends a call at its deadline and says so; wait a little longer for that than for the answer. */
    private const SLACK_NS = 50 * 1000000;
    /** After this long unused, look whether the node hung up. */
    private const IDLE_NS = 1000 * 1000000;
    private const EAGAIN = 11;

    public string $address;
    private bool $isPersistent;
    private array $tls;
    /** @var resource|null */
    private $stream = null;
    private int $pid = 0;
    private int $usedAt = 0;
    private int $nextId;
    private bool $isBusy = false;
    /** @var bool has the session been told how errors should look? */
    private bool $isGreeted = false;
    /** @var bool did anything come yet? */
    private bool $hasRead = false;
    private ?array $toldContext = null;
    private ?Error $farewell = null;
    /** @var array<int, Call> by msgid */
    private array $waiting = [];
    private \MessagePack $packer;
    private \MessagePackUnpacker $unpacker;

    /** @var array<string, self> PHP gives out one persistent stream an address, so there is one of us */
    private static array $persistent = [];

    /** @param array<string, mixed> $tls options of PHP's "ssl" stream context, for a tls:// address */
    public static function to(string $address, bool $isPersistent, array $tls = []): self
    {
        // PHP would take a port modulo 65536.
        if (!preg_match('~^(?:(?:tcp|tls)://.+:(\d{1,5})|unix:.+)$~D', $address, $part)
            || (int) ($part[1] ?? 1) > 65535) {
            throw new \InvalidArgumentException("address \"$address\" is neither tcp://host:port nor tls://host:port"
                . ' nor unix:/path');
        }
        if (!$isPersistent) {
            return new self($address, false, $tls);
        }
        if (!self::$persistent) {
            // Where finally is not reached: the time limit of PHP, for one.
            register_shutdown_function([self::class, 'closeUnfinished']);
        }
        return self::$persistent[$address] ?? self::$persistent[$address] = new self($address, true, $tls);
    }

    /** @internal */
    public static function closeUnfinished(): void
    {
        foreach (self::$persistent as $connection) {
            if ($connection->waiting) {
                $connection->close();
            }
        }
    }

    private function __construct(string $address, bool $isPersistent, array $tls)
    {
        $this->address = $address;
        $this->tls = $tls;
        $this->isPersistent = $isPersistent;
        // An answer to an earlier PHP request may come on a persistent stream: not with a number of ours.
        $this->nextId = $isPersistent ? random_int(0, 0xffffffff) : 0;
        $this->packer = new \MessagePack(false); // false: plain arrays both ways; never makes an object of what came
    }

    /** Sees to an open connection. Returns why there is none, or null. */
    public function open(int $timeout_ms, int $until): ?string
    {
        if ($this->stream && $this->isStale()) {
            $this->close();
        }
        if ($this->stream) {
            return null;
        }
        $until = min($until, hrtime(true) + $timeout_ms * 1000000);
        $failed = $this->connect($until);
        if ($failed === null && $this->isPersistent && ftell($this->stream) > 0) {
            $this->isGreeted = $this->hasRead = true;
            if ($this->isReadable()) { // an answer nobody waited for, or the end
                $this->close();
                $failed = $this->connect($until);
            }
        }
        return $failed;
    }

    public function close(): void
    {
        if ($this->stream) {
            fclose($this->stream);
        }
        $this->stream = null;
        $this->waiting = [];
        $this->isBusy = false;
    }

    /**
     * Sends the calls and waits until each has its answer, or its error.
     *
     * @param Call[] $calls
     */
    public function exchange(array $calls, Context $context, int $until): void
    {
        $this->enter();
        try {
            $out = $this->greeting();
            $tail = $this->contextOf($context, $until);
            foreach ($calls as $call) {
                $this->nextId = ($this->nextId + 1) & 0xffffffff;
                $this->waiting[$this->nextId] = $call;
                $request = $this->packer->pack([0, $this->nextId, $call->method, $call->params]);
                $request[0] = "\x95"; // five, with the context: it is packed once
                $out .= $request . $tail;
            }
            $this->converse($out, $until);
        } finally {
            $this->leave();
        }
    }

    /**
     * @param array<int, mixed> $params
     * @throws Error
     */
    public function notify(string $method, array $params, Context $context, int $until): void
    {
        $this->enter();
        try {
            $out = $this->greeting();
            if ($this->toldContext !== $context->toArray()) {
                $this->toldContext = $context->toArray();
                $out .= $this->notification('sys.ctx', [$this->toldContext]);
            }
            $out .= $this->notification($method, $params);
            for ($at = 0; $at < strlen($out);) {
                $n = $this->write($out, $at);
                $at += (int) $n;
                if ($n === null || ($at < strlen($out) && !$this->wait(true, $until))) {
                    $this->close();
                    throw Error::of('WORKER_LOST', "$this->address: the connection was lost while sending");
                }
            }
        } finally {
            $this->leave();
        }
    }

    private function enter(): void
    {
        if ($this->isBusy) {
            throw new \LogicException("$this->address: a call within a call (a signal handler, a fiber) needs a client"
                . ' of its own that is not persistent');
        }
        $this->isBusy = true;
        $this->farewell = null;
    }

    private function leave(): void
    {
        if ($this->waiting) {
            $this->close();
        }
        $this->isBusy = false;
        $this->usedAt = hrtime(true);
    }

    /** Asks for errors as maps, once a session. */
    private function greeting(): string
    {
        if ($this->isGreeted) {
            return '';
        }
        $this->isGreeted = true;
        return $this->notification('sys.hello', [['error' => 'map']]);
    }

    private function notification(string $method, array $params): string
    {
        return "\x93\x02" . $this->packer->pack($method) . $this->packer->pack(array_values($params));
    }

    private function contextOf(Context $context, int $until): string
    {
        $left_ms = max(1, intdiv($until - hrtime(true), 1000000));
        return $this->packer->pack($context->toArray() + ['deadline_ms' => $left_ms]);
    }

    /** Writes and reads at once: a node that cannot send its answers stops reading. */
    private function converse(string $out, int $until): void
    {
        $length = strlen($out);
        $sent = 0;
        $canWrite = true;
        while ($this->waiting) {
            if ($canWrite && $sent < $length) {
                $n = $this->write($out, $sent);
                $canWrite = $n !== null;
                $sent += (int) $n;
                if ($n) {
                    $this->markSent();
                }
            }
            if (!$this->wait($canWrite && $sent < $length, $until + self::SLACK_NS)) {
                $this->failAll(Error::of('TIMEOUT', "no answer from $this->address in time"));
            } elseif (!$this->read()) {
                $this->lose();
            }
        }
    }

    private function markSent(): void
    {
        foreach ($this->waiting as $call) {
            $call->sent = true;
        }
    }

    /** Bytes the system took; null: it takes none any more. */
    private function write(string $out, int $at): ?int
    {
        $n = @fwrite($this->stream, $at === 0 ? $out : substr($out, $at, self::WRITE_BYTES));
        return $n === false ? null : $n;
    }

    /** Waits for something to read, or room to write. False: the time is over. */
    private function wait(bool $forRoom, int $until): bool
    {
        do {
            $left_us = intdiv($until - hrtime(true), 1000);
            if ($left_us <= 0) {
                return false;
            }
            $read = [$this->stream];
            $write = $forRoom ? $read : null;
            $except = null;
            $n = @stream_select($read, $write, $except, intdiv($left_us, 1000000), $left_us % 1000000);
        } while (!$n); // a signal came, or the rest of a microsecond
        return true;
    }

    /** Takes in what is there. False: the node closed, or what it says is not msgpack-RPC. */
    private function read(): bool
    {
        $bytes = @fread($this->stream, self::CHUNK_BYTES);
        if ($bytes === '' || $bytes === false) {
            return $bytes === '' && !feof($this->stream);
        }
        if (!$this->hasRead) {
            $this->hasRead = true;
            if ($bytes[0] !== "\x94" && $bytes[0] !== "\x93") {
                return $this->isForeign();
            }
        }
        $this->unpacker->feed($bytes);
        while (@$this->unpacker->execute()) {
            $message = $this->unpacker->data();
            $this->unpacker->reset();
            if (!$this->take($message)) {
                return $this->isForeign();
            }
        }
        return true;
    }

    private function isForeign(): bool
    {
        $this->farewell = Error::of('BAD_MESSAGE', "$this->address does not speak msgpack-RPC");
        return false;
    }

    /** @param mixed $message */
    private function take($message): bool
    {
        if (!is_array($message) || !isset($message[0], $message[1])) {
            return false;
        }
        if ($message[0] === 2) {
            if ($message[1] === 'sys.error') {
                $this->farewell = Error::fromWire($message[2][0] ?? null);
            }
            return true;
        }
        if ($message[0] !== 1 || count($message) !== 4) {
            return false;
        }
        $call = $this->waiting[$message[1]] ?? null;
        if ($call) {
            unset($this->waiting[$message[1]]);
            $call->answered = true;
            if (isset($message[2])) {
                $call->error = Error::fromWire($message[2]);
            } else {
                $call->value = $message[3];
            }
        }
        return true;
    }

    private function lose(): void
    {
        if ($this->farewell && in_array($this->farewell->errorCode, ['BUSY', 'HOST_BUSY'], true)) {
            foreach ($this->waiting as $call) {
                $call->sent = false; // turned away at the door
            }
        }
        $this->failAll($this->farewell
            ?? Error::of('WORKER_LOST', "$this->address: the connection was lost before the answer came"));
    }

    private function failAll(Error $error): void
    {
        foreach ($this->waiting as $call) {
            $call->error = $error;
        }
        $this->close();
    }

    private function isStale(): bool
    {
        // After a fork, the parent's connection is not ours to use.
        return $this->pid !== getmypid() || (hrtime(true) - $this->usedAt > self::IDLE_NS && $this->isReadable());
    }

    private function isReadable(): bool
    {
        $read = [$this->stream];
        $write = $except = null;
        return @stream_select($read, $write, $except, 0) !== 0;
    }

    private function connect(int $until): ?string
    {
        $isUnix = strncmp($this->address, 'unix:', 5) === 0;
        $target = $isUnix && substr($this->address, 5, 2) !== '//' ? 'unix://' . substr($this->address, 5)
            : $this->address;
        $flags = STREAM_CLIENT_CONNECT | ($this->isPersistent ? STREAM_CLIENT_PERSISTENT : 0);
        $context = $isUnix ? null
            : stream_context_create(['socket' => ['tcp_nodelay' => true], 'ssl' => $this->tls]);
        do {
            $left_s = ($until - hrtime(true)) / 1e9;
            if ($left_s <= 0) {
                return $text ?? 'no time was left to connect';
            }
            $stream = @stream_socket_client($target, $code, $text, $left_s, $flags, $context);
        } while (!$stream && $code === self::EAGAIN && usleep(2000) === null); // the queue of a unix socket is full
        if (!$stream) {
            return $text !== '' ? $text : 'cannot connect';
        }
        stream_set_blocking($stream, false);
        stream_set_chunk_size($stream, self::CHUNK_BYTES);
        $this->stream = $stream;
        $this->unpacker = new \MessagePackUnpacker(false);
        $this->pid = getmypid();
        $this->usedAt = hrtime(true);
        $this->isGreeted = $this->hasRead = false;
        $this->toldContext = null;
        return null;
    }
}
