<?php
// SPDX-License-Identifier: BSD-2-Clause
//
// What a PHP script needs to call a node: a stream and the msgpack extension. Run by test_interop.py with an address
// for stream_socket_client; prints "good".
declare(strict_types=1);

error_reporting(E_ALL);
set_error_handler(function (int $no, string $text, string $file, int $line): bool {
    throw new ErrorException($text, 0, $no, $file, $line);
});

final class Client
{
    /** @var resource */
    private $stream;
    private MessagePackUnpacker $unpacker;
    private int $msgid = 0;
    /** @var array<int, array> answers that came before they were asked for */
    private array $early = [];

    public function __construct(string $addr)
    {
        $this->stream = stream_socket_client($addr, $errno, $text, 5.0);
        stream_set_timeout($this->stream, 30);
        $this->unpacker = new MessagePackUnpacker(false);
    }

    public function write(string $bytes): void
    {
        while ($bytes !== '') {
            $n = fwrite($this->stream, $bytes);
            if (!$n) {
                throw new RuntimeException('the node closed');
            }
            $bytes = substr($bytes, $n);
        }
    }

    public function start(string $method, array $params): int
    {
        $msgid = ++$this->msgid;
        $this->write(msgpack_pack([0, $msgid, $method, $params]));
        return $msgid;
    }

    public function notify(string $method, array $params): void
    {
        $this->write(msgpack_pack([2, $method, $params]));
    }

    private function receive(): array
    {
        while (!$this->unpacker->execute()) {
            $bytes = fread($this->stream, 65536);
            if ($bytes === '' || $bytes === false) {
                throw new RuntimeException('the node closed, or took too long');
            }
            $this->unpacker->feed($bytes);
        }
        $message = $this->unpacker->data();
        $this->unpacker->reset();
        return $message;
    }

    /** @return mixed */
    public function finish(int $msgid)
    {
        while (!isset($this->early[$msgid])) {
            $message = $this->receive();
            same(1, $message[0], 'type of an answer');
            $this->early[$message[1]] = $message;
        }
        [, , $error, $result] = $this->early[$msgid];
        unset($this->early[$msgid]);
        if ($error !== null) {
            throw new DomainException($error);
        }
        return $result;
    }

    /** The msgids in the order their answers come. */
    public function order(int $n): array
    {
        $order = [];
        for ($i = 0; $i < $n; $i++) {
            $message = $this->receive();
            $order[] = $message[1];
            $this->early[$message[1]] = $message;
        }
        return $order;
    }

    /** @return mixed */
    public function call(string $method, ...$params)
    {
        return $this->finish($this->start($method, $params));
    }

    public function error(string $method, ...$params): string
    {
        try {
            $this->call($method, ...$params);
        } catch (DomainException $e) {
            return $e->getMessage();
        }
        throw new RuntimeException("$method gave no error");
    }
}

function same($want, $got, string $what): void
{
    if ($want !== $got) {
        throw new RuntimeException("$what: want " . substr(var_export($want, true), 0, 300) . ', got '
            . substr(var_export($got, true), 0, 300));
    }
}

$c = new Client($argv[1]);
same(42, $c->call('probe.add', 40, 2), 'add');
$values = [null, true, false, 0, -1, PHP_INT_MAX, PHP_INT_MIN, 1.5, 'text', "\u{e9}\u{20ac}", '', "\xff\x00", [], [1, [2, [3]]],
    ['a' => ['b' => [null]]], [5 => 'five', 'k' => 'v']];
foreach ($values as $value) {
    same($value, $c->call('sys.echo', $value), 'echo');
}
$big = str_repeat("\xff", 1 << 20);
same($big, $c->call('sys.echo', $big), '1 MB');

$c->call('probe.noted');
$c->notify('probe.note', [['from' => 'php']]);
$c->notify('no.such', []);
same([['value' => ['from' => 'php']]], $c->call('probe.noted'), 'notify');

same('UNKNOWN_METHOD: no method "no.such"', $c->error('no.such'), 'unknown method');
same('BAD_ARGS: argument 1 of probe.a_int must be int, not string', $c->error('probe.a_int', 'x'), 'bad argument');
same('NOT_FOUND: nothing', $c->error('probe.fail', 'NOT_FOUND', 'nothing'), 'error');
same('Hello, PHP!', $c->call('hello.greet', 'PHP'), 'greet');

// A thousand in one write.
$bytes = '';
for ($i = 1000; $i < 2000; $i++) {
    $bytes .= msgpack_pack([0, $i, 'sys.echo', [['n' => $i]]]);
}
$c->write($bytes);
for ($i = 1999; $i >= 1000; $i--) {
    same(['n' => $i], $c->finish($i), 'pipelined');
}

// Answers come when they are ready.
$slow = $c->start('probe.wait', [200, 'slow']);
$middle = $c->start('probe.wait', [50, 'middle']);
$quick = $c->start('sys.noop', ['quick']);
same([$quick, $middle, $slow], $c->order(3), 'order');
same('slow', $c->finish($slow), 'slow');
same('quick', $c->finish($quick), 'quick');

// As a request of php-fpm does: connect, call, hang up.
for ($i = 0; $i < 200; $i++) {
    same($i, (new Client($argv[1]))->call('sys.noop', $i), 'a connection a call');
}
echo "good\n";
