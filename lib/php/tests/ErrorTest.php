<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae\Tests;

use Fae\Error;
use PHPUnit\Framework\TestCase;

/** Codes, classes and the three forms of an error; where classes are found. */
final class ErrorTest extends TestCase
{
    public function testAutoloadKnowsEveryFile(): void
    {
        foreach (glob(__DIR__ . '/../src/[A-Z]*.php') as $file) {
            self::assertTrue(class_exists('Fae\\' . basename($file, '.php')), $file);
        }
        self::assertFalse(class_exists('Fae\NoSuchClass'));
    }

    public function testEveryCodeHasAClass(): void
    {
        foreach (Error::CODES as $code => $retryable) {
            $error = Error::of($code, 'text');
            self::assertSame(Error::className($code), get_class($error));
            self::assertNotSame(Error::class, get_class($error));
            self::assertSame($retryable, $error->retryable);
            self::assertSame($code, $error->errorCode);
            self::assertSame("$code: text", $error->getMessage());
        }
    }

    public function testNoClassIsWithoutACode(): void
    {
        preg_match_all('/class (\w+) extends Error/', file_get_contents(__DIR__ . '/../src/errors.php'), $names);
        $expected = array_map([Error::class, 'className'], array_keys(Error::CODES));
        self::assertSame($expected, array_map(static fn ($name) => Error::class . "\\$name", $names[1]));
    }

    public function testAServantsOwnCodeIsTheBaseClass(): void
    {
        $error = Error::fromWire(['code' => 'SOLD_OUT', 'message' => 'no more', 'retryable' => false]);
        self::assertSame(Error::class, get_class($error));
        self::assertSame('SOLD_OUT', $error->errorCode);
    }

    /** @dataProvider forms */
    public function testForms($wire, string $code, string $message, bool $retryable, ?int $after, $detail): void
    {
        $error = Error::fromWire($wire);
        self::assertSame($code, $error->errorCode);
        self::assertSame($message, $error->getMessage());
        self::assertSame($retryable, $error->retryable);
        self::assertSame($after, $error->retryAfterMs);
        self::assertSame($detail, $error->detail);
    }

    public function forms(): array
    {
        $map = ['code' => 'BUSY', 'message' => 'later', 'retryable' => false, 'retry_after_ms' => 7, 'detail' => [1]];
        return [
            'map' => [$map, 'BUSY', 'BUSY: later', false, 7, [1]],
            'short map' => [['code' => 'BUSY', 'message' => 'x'], 'BUSY', 'BUSY: x', true, null, null],
            'string' => ["TIMEOUT: a: b\nc", 'TIMEOUT', "TIMEOUT: a: b\nc", true, null, null],
            'array' => [['LIMIT', 'big'], 'LIMIT', 'LIMIT: big', false, null, null],
            'plain text' => ['oops', 'INTERNAL', 'INTERNAL: oops', false, null, null],
            'nonsense' => [[1, 2], 'INTERNAL', 'INTERNAL: [1,2]', false, null, null],
        ];
    }
}
