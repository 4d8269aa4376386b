<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae\Tests;

use Fae\Client;
use Fae\Error;
use PHPUnit\Framework\TestCase;

/** What goes wrong on the way, told by a node that fails as ordered. */
final class FailureTest extends TestCase
{
    private const NO_WAIT = ['retry_delay_ms' => 1];

    /** @var FakeNode[] */
    private array $nodes = [];

    protected function tearDown(): void
    {
        foreach ($this->nodes as $node) {
            $node->end();
        }
    }

    private function node(array ...$connections): FakeNode
    {
        return $this->nodes[] = new FakeNode($connections);
    }

    /** An address that nobody listens on. */
    private static function deadAddress(): string
    {
        $server = stream_socket_server('tcp://127.0.0.1:0');
        return 'tcp://' . stream_socket_get_name($server, false);
    }

    private static function errorOf(callable $call): Error
    {
        try {
            $call();
        } catch (Error $error) {
            return $error;
        }
        self::fail('no error was thrown');
    }

    public function testALostCallIsNotSentAgain(): void
    {
        $node = $this->node([['read', 1], ['close']]);
        $fae = new Client($node->address, self::NO_WAIT);
        $error = self::errorOf(fn () => $fae->cart->add(1));
        self::assertInstanceOf(Error\WorkerLost::class, $error);
        self::assertTrue($error->retryable);
        self::assertCount(1, $node->heard());
    }

    /** @dataProvider waysToSayIdempotent */
    public function testALostIdempotentCallIs(callable $client, string $method): void
    {
        $node = $this->node([['read', 1], ['close']], [['read', 1], ['answer', 0, 'second']]);
        self::assertSame('second', $client($node->address)->call($method, [1]));
        $heard = $node->heard();
        self::assertCount(2, $heard);
        self::assertSame(['user.get', [1]], array_slice($heard[1], 2, 2));
    }

    public function waysToSayIdempotent(): array
    {
        $with = static fn ($which) => fn ($address) => new Client($address, ['idempotent' => $which] + self::NO_WAIT);
        return [
            'all' => [$with(true), 'user.get'],
            'by name' => [$with(['cart.get', 'user.get']), 'user.get'],
            'by servant' => [$with(['user.*']), 'user.get'],
            'by the call' => [fn ($address) => (new Client($address, self::NO_WAIT))->idempotent(), 'user.get'],
        ];
    }

    public function testRetriesHaveAnEnd(): void
    {
        $node = $this->node([['read', 1]], [['read', 1]], [['read', 1]], [['until hung up']]);
        $fae = new Client($node->address, ['idempotent' => true, 'retries' => 2] + self::NO_WAIT);
        self::assertInstanceOf(Error\WorkerLost::class, self::errorOf(fn () => $fae->a->b()));
        fclose(stream_socket_client($node->address));
        self::assertSame(
            ['a.b', 'a.b', 'a.b', 'hung up'],
            array_map(static fn ($heard) => is_array($heard) ? $heard[2] : $heard, $node->heard())
        );
    }

    public function testOnlyTheLostCallsOfABatchAreSentAgain(): void
    {
        $node = $this->node(
            [['read', 3], ['answer', 1, 'one'], ['close']],
            [['read', 1], ['answer', 0, 'zero']]
        );
        $fae = new Client($node->address, ['idempotent' => ['a.get']] + self::NO_WAIT);
        $answers = $fae->batch([['a.get', 0], ['a.get', 1], ['a.put', 2]]);
        self::assertSame(['zero', 'one'], array_slice($answers, 0, 2));
        self::assertInstanceOf(Error\WorkerLost::class, $answers[2]);
        self::assertCount(4, $node->heard());
    }

    public function testWhatAServantCannotReachIsNotTriedAgain(): void
    {
        $node = $this->node([['read', 1], ['refuse', 0, 'UNAVAILABLE: redis-a is down'], ['until hung up']]);
        $fae = new Client($node->address, ['idempotent' => true] + self::NO_WAIT);
        self::assertInstanceOf(Error\Unavailable::class, self::errorOf(fn () => $fae->a->b()));
        unset($fae);
        self::assertSame(['a.b', 'hung up'], [($heard = $node->heard())[0][2], $heard[1]]);
    }

    public function testTheNextAddressIsTaken(): void
    {
        $node = $this->node([['read', 2], ['answer', 0, 1], ['answer', 1, 2]]);
        $fae = new Client([self::deadAddress(), 'unix:/nowhere/fae.sock', $node->address], ['retries' => 0]);
        self::assertSame([1, 2], $fae->batch([['a.b'], ['a.b']]));
    }

    public function testWithNoAddressLeftAllAreNamed(): void
    {
        $dead = self::deadAddress();
        $error = self::errorOf(fn () => (new Client([$dead, 'unix:/nowhere/fae.sock']))->a->b());
        self::assertInstanceOf(Error\Unavailable::class, $error);
        self::assertStringContainsString(
            "$dead: Connection refused; unix:/nowhere/fae.sock: No such file",
            $error->getMessage()
        );
    }

    /** A call that never left may be sent again whatever it does. */
    public function testNothingSentIsNothingLost(): void
    {
        $dead = self::deadAddress();
        $fae = new Client($dead, ['retries' => 100, 'retry_delay_ms' => 20]);
        $command = [PHP_BINARY, '-r', 'usleep(150000); require $argv[1];', '--', __DIR__ . '/late.php', $dead];
        $late = proc_open($command, [], $pipes);
        self::assertSame('late', $fae->a->b());
        proc_close($late);
    }

    public function testADeadAddressIsLeftAloneForAWhile(): void
    {
        $first = $this->node(
            [['read', 1], ['refuse', 0, 'DRAINING: stopping'], ['close']],
            [['read', 1], ['answer', 0, 'first']]
        );
        $second = $this->node([['read', 1], ['answer', 0, 'second'], ['read', 1], ['answer', 1, 'second']]);
        $options = ['idempotent' => true, 'dead_ms' => 600] + self::NO_WAIT;
        $fae = new Client([$first->address, $second->address], $options);
        self::assertSame('second', $fae->a->b());
        self::assertSame('second', $fae->a->b());
        usleep(650000);
        self::assertSame('first', $fae->a->b());
    }

    public function testADrainingNodeDoesNotRunACallTwice(): void
    {
        $draining = ['code' => 'DRAINING', 'message' => 'stopping'];
        $node = $this->node([['read', 1], ['refuse', 0, $draining], ['until hung up']]);
        $fae = new Client($node->address, self::NO_WAIT);
        self::assertInstanceOf(Error\Draining::class, self::errorOf(fn () => $fae->cart->add(1)));
        self::assertSame('hung up', $node->heard()[1]);
    }

    public function testTurnedAwayAtTheDoorIsNotLost(): void
    {
        $busy = bin2hex("\x93\x02\xa9sys.error\x91\xbaBUSY: too many connections");
        $full = $this->node([['send', $busy], ['close']]);
        $other = $this->node([['read', 1], ['answer', 0, 'yes']]);
        self::assertSame('yes', (new Client([$full->address, $other->address], self::NO_WAIT))->cart->add(1));
        $full = $this->node([['read', 1], ['send', $busy], ['close']]);
        $error = self::errorOf(fn () => (new Client($full->address, ['retries' => 0]))->cart->add(1));
        self::assertInstanceOf(Error\Busy::class, $error);
    }

    public function testWhyTheNodeHangsUpIsTold(): void
    {
        $farewell = bin2hex(msgpack_pack([2, 'sys.error', [['code' => 'LIMIT', 'message' => 'message is too long']]]));
        $node = $this->node([['read', 1], ['send', $farewell], ['close']]);
        $error = self::errorOf(fn () => (new Client($node->address))->a->b());
        self::assertInstanceOf(Error\Limit::class, $error);
        self::assertSame('LIMIT: message is too long', $error->getMessage());
    }

    /** @dataProvider foreignBytes */
    public function testAnotherProtocolIsRecognized(string $hex): void
    {
        $node = $this->node([['read', 1], ['send', $hex], ['until hung up']]);
        $begin = hrtime(true);
        $error = self::errorOf(fn () => (new Client($node->address))->a->b());
        self::assertInstanceOf(Error\BadMessage::class, $error);
        self::assertStringContainsString($node->address, $error->getMessage());
        self::assertLessThan(1e9, hrtime(true) - $begin);
    }

    public function foreignBytes(): array
    {
        return [
            'http' => [bin2hex("HTTP/1.1 400 Bad Request\r\n\r\n")], 'nothing like msgpack' => ['c1c1'],
            'no answer' => ['9403c0c0c0'], 'a request' => ['940001a16190'], 'too short' => ['93010203'],
        ];
    }

    public function testAStrangersAnswerIsNotTaken(): void
    {
        $other = bin2hex("\x94\x01\xce\xff\xff\xff\x00\xc0\xa5wrong");
        $node = $this->node([['read', 1], ['send', $other], ['answer', 0, 'right']]);
        self::assertSame('right', (new Client($node->address))->a->b());
    }

    public function testAfterATimeoutTheConnectionIsGone(): void
    {
        $node = $this->node(
            [['read', 1], ['until hung up']],
            [['read', 1], ['answer', 0, 'second']]
        );
        $fae = new Client($node->address, ['persistent' => true]);
        $begin = hrtime(true);
        $error = self::errorOf(fn () => $fae->with(['timeout_ms' => 100, 'idempotent' => true])->a->first());
        $took_ms = (hrtime(true) - $begin) / 1e6;
        self::assertInstanceOf(Error\Timeout::class, $error);
        self::assertGreaterThanOrEqual(100, $took_ms);
        self::assertLessThan(3000, $took_ms);
        self::assertSame('second', $fae->a->second());
        [$first, $end, $second] = $node->heard();
        self::assertSame(['a.first', 'hung up', 'a.second'], [$first[2], $end, $second[2]]);
        self::assertNotSame($first[1], $second[1]);
    }

    public function testAnAnswerInPiecesIsPutTogether(): void
    {
        $value = ['x' => [1, -300, 'text', null], 'y' => str_repeat('z', 40)];
        $node = $this->node([['read', 1], ['answer slowly', 0, $value], ['read', 1], ['answer', 1, 'y']]);
        $fae = new Client($node->address);
        self::assertSame($value, $fae->a->b());
        self::assertSame('y', $fae->a->b());
    }

    public function testAConnectTimeoutHolds(): void
    {
        // A queue of one that nobody empties: further connections wait.
        $server = stream_socket_server('tcp://127.0.0.1:0', $code, $why, STREAM_SERVER_BIND | STREAM_SERVER_LISTEN,
            stream_context_create(['socket' => ['backlog' => 1]]));
        $address = 'tcp://' . stream_socket_get_name($server, false);
        $held = [];
        for ($i = 0; $i < 8; $i++) {
            $held[] = @stream_socket_client($address, $code, $why, 0.05);
        }
        self::assertContains(false, $held);
        $begin = hrtime(true);
        $fae = new Client($address, ['connect_timeout_ms' => 100, 'retries' => 0]);
        self::assertInstanceOf(Error\Unavailable::class, self::errorOf(fn () => $fae->a->b()));
        $took_ms = (hrtime(true) - $begin) / 1e6;
        self::assertGreaterThan(90, $took_ms);
        self::assertLessThan(2000, $took_ms);
    }

    /** @dataProvider wrongSettings */
    public function testSettingsAreChecked($addresses, array $options, string $said): void
    {
        $this->expectException(\InvalidArgumentException::class);
        $this->expectExceptionMessage($said);
        new Client($addresses, $options);
    }

    public function wrongSettings(): array
    {
        $ok = 'tcp://127.0.0.1:9001';
        return [
            [[], [], 'no address'],
            ['localhost', [], '"localhost" is neither'],
            ['tcp://localhost', [], 'neither'],
            ['tcp://localhost:65537', [], 'neither'],
            [$ok, ['timeout' => 1], 'no option "timeout"; there are persistent, '],
            [$ok, ['timeout_ms' => 0], 'timeout_ms'],
            [$ok, ['timeout_ms' => 1.5], 'timeout_ms'],
            [$ok, ['retries' => -1], 'retries'],
            [$ok, ['retries' => '1'], 'retries'],
            [$ok, ['persistent' => 1], 'persistent'],
            [$ok, ['idempotent' => 'a.b'], 'idempotent'],
            [$ok, ['idempotent' => ['a.b', 1]], 'idempotent'],
            [$ok, ['token' => ['no secret']], '"token" cannot be of type array'],
        ];
    }

    /** Text is no number: the least of others is not asked of it. */
    public function testAnyTextIsAToken(): void
    {
        foreach (['', 'abc', '-x', '+/=', '0'] as $token) {
            $node = $this->node([['read', 1], ['answer', 0, 'yes']]);
            self::assertSame('yes', (new Client($node->address, ['token' => $token]))->a->b());
            self::assertSame($token === '' ? null : $token, $node->heard()[0][4]['token'] ?? null);
        }
    }

    /** @dataProvider wrongBatches */
    public function testBatchesAreChecked($calls, string $said): void
    {
        $this->expectException(\InvalidArgumentException::class);
        $this->expectExceptionMessage($said);
        (new Client('unix:/nonexistent'))->batch($calls);
    }

    public function wrongBatches(): array
    {
        return [
            ['a.b', 'rows of method and params'],
            [['a.b', 'c.d'], "such as ['hello.greet', 'Ada']"],
            [[[]], "such as ['hello.greet', 'Ada']"],
            [[[1, 'a.b']], "such as ['hello.greet', 'Ada']"],
            [static fn ($b) => ['x' => 'a.b'], '"x" is something else'],
            [static fn ($b) => ['x' => $b->call('a.b') + 1], '"x" is something else'],
        ];
    }

    public function testWhatIsFixedCannotBeChanged(): void
    {
        $this->expectException(\InvalidArgumentException::class);
        (new Client())->with(['persistent' => true]);
    }
}
