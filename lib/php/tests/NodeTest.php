<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae\Tests;

use Fae\Client;
use Fae\Context;
use Fae\Error;
use PHPUnit\Framework\TestCase;

/** Against a running node with spec/e2e/servants/probe.lua: FAE_TCP and FAE_UNIX are its addresses. */
final class NodeTest extends TestCase
{
    private static function address(string $kind): string
    {
        return getenv('FAE_' . $kind) ?: self::fail("FAE_$kind is not set: start a node with the servant probe");
    }

    private static function client(array $options = [], string $kind = 'UNIX'): Client
    {
        return new Client(self::address($kind), $options);
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

    /** @dataProvider kinds */
    public function testCallsInEverySpelling(string $kind): void
    {
        $fae = self::client([], $kind);
        self::assertSame('Hello, Ada!', $fae->call('hello.greet', ['Ada']));
        self::assertSame('Hello, Ada!', $fae->hello->greet('Ada'));
        self::assertSame('Hello, world!', $fae->call('hello.greet'));
        self::assertSame(['Hello, a!', 5], $fae->batch([['hello.greet', 'a'], ['probe.add', 2, 3]]));
    }

    public function kinds(): array
    {
        return [['TCP'], ['UNIX']];
    }

    public function testTheAddressMayBeWrittenAsAUrl(): void
    {
        $fae = new Client(str_replace('unix:/', 'unix:///', self::address('UNIX')));
        self::assertSame(3, $fae->probe->add(1, 2));
    }

    /** @dataProvider values */
    public function testValuesComeBackAsTheyWere($value): void
    {
        self::assertSame($value, self::client()->sys->echo($value));
        self::assertSame([[$value]], self::client()->sys->echo([[$value]]));
    }

    public function values(): array
    {
        $values = [
            true, false, 0, -1, 127, 128, -32, -33, 65536, 1 << 31, 1 << 32, (1 << 53) + 1, PHP_INT_MAX, PHP_INT_MIN,
            0.5, -1e300, '', 'text', "\u{1F600} äö", "\xff\x00\xfe", str_repeat("\x80", 300), str_repeat('x', 70000),
            [], [1, 2, 3], ['a' => ['b' => [true, 1.5, []]]], [5 => 'five'], ['' => 'empty key'], range(1, 1000),
        ];
        return array_map(static fn ($value) => [$value], $values);
    }

    public function testWhatPhpCannotTellApart(): void
    {
        $fae = self::client();
        self::assertNull($fae->sys->echo(null));
        self::assertSame(1, $fae->sys->echo(1.0));
        self::assertSame([], $fae->probe->empty_map());
        self::assertSame("\xff\xfe", $fae->probe->bin("\xff\xfe"));
        self::assertSame([1, null, 3], $fae->probe->holes());
        self::assertSame(['map'], [$fae->probe->a_map([]) ? 'map' : 'none']);
    }

    public function testWhatCameNeverBecomesAnObject(): void
    {
        // php-msgpack's own form of an object of class ArrayObject
        $wire = ['' => 'ArrayObject', 'a' => 1];
        self::assertSame($wire, self::client()->sys->echo($wire));
    }

    public function testObjectsAreRefusedBeforeAnythingIsSent(): void
    {
        foreach ([new \stdClass(), [[new \DateTime()]], [STDIN], static fn () => 1] as $param) {
            $error = self::errorOf(fn () => self::client()->sys->echo($param));
            self::assertInstanceOf(Error\BadArgs::class, $error);
            self::assertStringContainsString('sys.echo: a param is or has in it a', $error->getMessage());
        }
        $error = self::errorOf(fn () => self::client()->call('sys.echo', ['value' => 1]));
        self::assertStringContainsString('by place', $error->getMessage());
    }

    public function testErrorsAreOfTheirClass(): void
    {
        $fae = self::client();
        $error = self::errorOf(fn () => $fae->call('hello.gret'));
        self::assertInstanceOf(Error\UnknownMethod::class, $error);
        self::assertStringContainsString('hello.greet', $error->getMessage());
        self::assertInstanceOf(Error\BadArgs::class, self::errorOf(fn () => $fae->probe->add('x', 1)));
        self::assertInstanceOf(Error\Internal::class, self::errorOf(fn () => $fae->probe->raise('INTERNAL', 'x')));
        self::assertInstanceOf(Error\Limit::class, self::errorOf(fn () => $fae->probe->text(5 << 20)));
        self::assertInstanceOf(Error\Limit::class, self::errorOf(fn () => $fae->sys->echo(str_repeat('x', 5 << 20))));
        self::assertSame(3, $fae->probe->add(1, 2));
    }

    public function testAnErrorBringsAllThatTheServantSaid(): void
    {
        $fields = ['retryable' => true, 'retry_after_ms' => 250, 'detail' => ['left' => 0]];
        $error = self::errorOf(fn () => self::client()->probe->fail('SOLD_OUT', 'no more', $fields));
        self::assertSame(Error::class, get_class($error));
        self::assertSame('SOLD_OUT', $error->errorCode);
        self::assertSame('SOLD_OUT: no more', $error->getMessage());
        self::assertTrue($error->retryable);
        self::assertSame(250, $error->retryAfterMs);
        self::assertSame(['left' => 0], $error->detail);
    }

    public function testAnswersComeInTheOrderOfTheCalls(): void
    {
        $begin = hrtime(true);
        $answers = self::client()->batch([
            ['probe.wait', 60, 'slow'], ['nope.nope'], ['probe.wait', 20, 'middle'], ['probe.add', 1, 2],
        ]);
        self::assertSame('slow', $answers[0]);
        self::assertInstanceOf(Error\UnknownMethod::class, $answers[1]);
        self::assertSame(['middle', 3], array_slice($answers, 2));
        self::assertGreaterThan(55e6, hrtime(true) - $begin);
    }

    public function testABatchMayBeAFunctionAndHaveKeys(): void
    {
        $fae = self::client();
        $answers = $fae->batch(fn ($b) => ['b' => $b->probe->add(1, 2), 'a' => $b->call('hello.greet', 'x')]);
        self::assertSame(['b' => 3, 'a' => 'Hello, x!'], $answers);
        self::assertSame([3], $fae->batch(function ($b): void {
            $b->call('probe.add', 1, 2);
        }));
        self::assertSame(['k' => 7], $fae->batch(['k' => ['sys.echo', 7]]));
        self::assertSame([], $fae->batch([]));
    }

    /** More than the sockets and the node's own buffers hold: both sides must read and write by turns. */
    public function testALargeBatchDoesNotLock(): void
    {
        $text = str_repeat("\x81", 1000000);
        foreach (['TCP', 'UNIX'] as $kind) {
            $answers = self::client(['timeout_ms' => 20000], $kind)->batch(array_fill(0, 24, ['sys.echo', $text]));
            self::assertSame(array_fill(0, 24, true), array_map(static fn ($answer) => $answer === $text, $answers));
        }
        $numbers = range(1, 3000);
        self::assertSame($numbers, self::client()->batch(array_map(static fn ($i) => ['sys.echo', $i], $numbers)));
    }

    public function testTheContextGoesAlong(): void
    {
        $fae = self::client();
        $seen = $fae->probe->call();
        self::assertSame(Context::ofRequest(), $fae->context);
        self::assertSame(Context::ofRequest()->rid, $seen['rid']);
        self::assertSame($seen['rid'], self::client()->probe->call()['rid']);
        self::assertGreaterThan(1 << 40, $seen['rid']);
        self::assertSame(basename($_SERVER['SCRIPT_NAME']), $seen['reason']);
        self::assertArrayNotHasKey('uid', $seen);

        $fae->context = new Context('import');
        $fae->context->uid = 7;
        $fae->context->token = 'secret';
        $fae->context->traceparent = '00-aa-bb-01';
        $next = $fae->probe->call();
        self::assertNotSame($seen['rid'], $next['rid']);
        self::assertSame(['import', 7, '00-aa-bb-01'], [$next['reason'], $next['uid'], $next['traceparent']]);
        self::assertArrayNotHasKey('token', $next); // that is between us and the node
        self::assertSame($seen['rid'], self::client()->probe->call()['rid']);
    }

    public function testTheTimeoutIsTheCallsDeadlineToo(): void
    {
        $fae = self::client()->with(['timeout_ms' => 1000]);
        $left = $fae->probe->call()['left_ms'];
        self::assertLessThanOrEqual(1000, $left);
        self::assertGreaterThan(500, $left);
        $begin = hrtime(true);
        self::assertInstanceOf(Error\Timeout::class, self::errorOf(fn () => $fae->probe->wait(5000)));
        self::assertLessThan(3e9, hrtime(true) - $begin);
    }

    public function testNotificationsBringTheContext(): void
    {
        $fae = self::client();
        $fae->probe->noted();
        $fae->notify('probe.note', ['first']);
        $fae->context = new Context('other');
        $fae->notify('probe.note', ['second']);
        $noted = $fae->probe->noted();
        self::assertSame(['first', 'second'], array_column($noted, 'value'));
        self::assertSame([Context::ofRequest()->rid, $fae->context->rid], array_column($noted, 'rid'));
    }

    public function testPersistentClientsShareAConnection(): void
    {
        $a = self::client(['persistent' => true]);
        $session = $a->probe->call()['session'];
        self::assertSame($session, self::client(['persistent' => true])->probe->call()['session']);
        self::assertNotSame($session, self::client()->probe->call()['session']);
        $a->close();
        self::assertNotSame($session, $a->probe->call()['session']);
    }

    public function testAConnectionIsKept(): void
    {
        $fae = self::client();
        $session = $fae->probe->call()['session'];
        self::errorOf(fn () => $fae->call('nope.nope'));
        self::assertSame($session, $fae->with(['timeout_ms' => 1000])->probe->call()['session']);
    }

    public function testAForkedChildMakesAConnectionOfItsOwn(): void
    {
        $fae = self::client(['persistent' => true]);
        $session = $fae->probe->call()['session'];
        [$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        $pid = pcntl_fork();
        if ($pid === 0) {
            fwrite($theirs, (string) $fae->probe->call()['session']);
            posix_kill(getmypid(), SIGKILL); // nothing of phpunit's may run here
        }
        pcntl_waitpid($pid, $status);
        self::assertNotSame((string) $session, fread($ours, 100));
        self::assertSame($session, $fae->probe->call()['session']);
    }
}
