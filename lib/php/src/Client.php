<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae;

use function array_filter, array_intersect_key, array_key_exists, array_keys, array_map, array_values,
    array_walk_recursive, class_exists, count, get_class, gettype, hrtime, implode, in_array, is_array, is_bool,
    is_callable, is_int, is_object, is_resource, is_scalar, is_string, key, random_int, strstr, substr, usleep,
    var_export;

/**
 * Calls a fae node, or the first of several that can be reached.
 *
 *     $fae = new Fae\Client('unix:/run/fae/fae.sock');
 *     echo $fae->hello->greet('Ada');
 *
 * Connects with the first call. A failed call throws a Fae\Error; README.md lists options and errors.
 */
final class Client
{
    /** Option => default. All but the first four may be changed by with(). */
    public const OPTIONS = [
        'persistent' => false,
        'shuffle' => false,
        'dead_ms' => 1000,
        'tls' => [],
        'connect_timeout_ms' => 500,
        'timeout_ms' => 5000,
        'idempotent' => false,
        'retries' => 1,
        'retry_delay_ms' => 20,
        'token' => '',
    ];
    private const FIXED = ['persistent' => 1, 'shuffle' => 1, 'dead_ms' => 1, 'tls' => 1];

    /** Codes after which a call may be sent again: of an answer, and where there was none. */
    private const NOT_NOW = ['DRAINING' => 1, 'BUSY' => 1, 'HOST_BUSY' => 1, 'OVERLOAD' => 1, 'CONGESTED' => 1];
    private const LOST = ['WORKER_LOST' => 1, 'UNAVAILABLE' => 1] + self::NOT_NOW;

    /** @var Context goes with every call; shared by all clients of a PHP request until you set another */
    public Context $context;

    private Nodes $nodes;
    private array $options;

    /**
     * @param string|string[] $addresses "unix:/path", "tcp://host:port", "tls://host:port"; several: by preference
     * @param array<string, mixed> $options see OPTIONS and README.md
     */
    public function __construct($addresses = 'tcp://127.0.0.1:9001', array $options = [])
    {
        if (!class_exists('MessagePackUnpacker', false)) {
            throw new \RuntimeException('fae/client needs the PHP extension msgpack, which is not loaded in ' . PHP_SAPI
                . ': install it with `apt-get install php-msgpack` or `pecl install msgpack`, then restart php-fpm');
        }
        $this->options = self::checked($options) + self::OPTIONS;
        $this->nodes = new Nodes((array) $addresses, $this->options);
        $this->context = Context::ofRequest();
    }

    /**
     * Calls a method and returns its result.
     *
     * @param array<int, mixed> $params
     * @return mixed
     * @throws Error
     */
    public function call(string $method, array $params = [])
    {
        $call = $this->newCall($method, $params);
        $this->run([$call]);
        if ($call->error) {
            throw $call->error;
        }
        return $call->value;
    }

    /** A servant as an object: `$fae->hello->greet('x')`. */
    public function __get(string $servant): Stub
    {
        return new Stub([$this, 'call'], $servant);
    }

    /**
     * Sends calls together, over one connection, and returns what came of each, in order: the result, or a Fae\Error
     * that is not thrown. timeout_ms is for the whole.
     *
     *     [$a, $b] = $fae->batch([['hello.greet', 'Ada'], ['sys.time']]);
     *     $page = $fae->batch(fn ($b) => ['user' => $b->user->profile(7), 'time' => $b->call('sys.time')]);
     *
     * @param callable|array<array> $calls rows of method and params, or a function that is given a Batch; when that
     *        returns an array of what call() returned, the answer has its keys
     * @return array<mixed>
     */
    public function batch($calls): array
    {
        $batch = new Batch();
        if (is_callable($calls)) {
            $places = $calls($batch);
        } elseif (is_array($calls)) {
            $places = array_map(static fn ($row) => $batch->call(...self::checkedRow($row)), $calls);
        } else {
            throw new \InvalidArgumentException('batch() takes rows of method and params, or a function');
        }
        self::checkPlaces($places, count($batch->rows()));
        $run = array_map(fn (array $row) => $this->newCall($row[0], $row[1]), $batch->rows());
        $this->run($run);
        $results = array_map(static fn (Call $call) => $call->error ?? $call->value, $run);
        return is_array($places) ? array_map(static fn (int $place) => $results[$place], $places) : $results;
    }

    /**
     * Sends a notification: no answer, no error, perhaps no effect.
     *
     * @param array<int, mixed> $params
     * @throws Error when it could not be sent
     */
    public function notify(string $method, array $params = []): void
    {
        $this->newCall($method, $params);
        $until = $this->until();
        for ($round = 0;; $round++) {
            try {
                $this->nodes->connection($this->options['connect_timeout_ms'], $until)
                    ->notify($method, $params, $this->contextWithToken(), $until);
                return;
            } catch (Error $error) {
                if (!isset(self::LOST[$error->errorCode]) || !$this->pause($round, $until)) {
                    throw $error;
                }
            }
        }
    }

    /**
     * The same client with other options, for some calls: `$fae->with(['timeout_ms' => 50])->hello->greet('x')`.
     *
     * @param array<string, mixed> $options
     */
    public function with(array $options): self
    {
        if ($fixed = array_intersect_key($options, self::FIXED)) {
            throw new \InvalidArgumentException(key($fixed) . ' can only be given to the constructor');
        }
        $client = clone $this;
        $client->options = self::checked($options) + $this->options;
        return $client;
    }

    /** The same client for calls that may run twice, and so are sent again when a connection is lost. */
    public function idempotent(): self
    {
        return $this->with(['idempotent' => true]);
    }

    /** Closes the connections of this client, and of those made from it by with(). The next call opens new ones. */
    public function close(): void
    {
        $this->nodes->close();
    }

    /** @param mixed $row */
    private static function checkedRow($row): array
    {
        $row = is_array($row) ? array_values($row) : [];
        if (!isset($row[0]) || !is_string($row[0])) {
            throw new \InvalidArgumentException("a row of batch() is an array such as ['hello.greet', 'Ada']");
        }
        return $row;
    }

    /** @param mixed $places */
    private static function checkPlaces($places, int $n): void
    {
        foreach (is_array($places) ? $places : [] as $key => $place) {
            if (!is_int($place) || $place < 0 || $place >= $n) {
                throw new \InvalidArgumentException("the function given to batch() returns what calls on its argument"
                    . " gave: \"$key\" is something else");
            }
        }
    }

    private function newCall(string $method, array $params): Call
    {
        foreach ($params as $place => $param) {
            if (!is_int($place)) {
                throw Error::of('BAD_ARGS', "$method: params go by place, not by name");
            }
            self::checkParam($param, $method);
        }
        return new Call($method, array_values($params), $this->isIdempotent($method));
    }

    /**
     * Most params are scalars or arrays of some: only what is deeper is walked through.
     *
     * @param mixed $param
     */
    private static function checkParam($param, string $method): void
    {
        foreach (is_array($param) ? $param : [$param] as $value) {
            if (!is_scalar($value) && $value !== null) {
                self::checkDeep([$value], $method);
            }
        }
    }

    /** php-msgpack would turn an object into a list of its values, and a resource into nil. */
    private static function checkDeep(array $values, string $method): void
    {
        array_walk_recursive($values, static function ($value) use ($method): void {
            if (is_object($value) || is_resource($value)) {
                throw Error::of('BAD_ARGS', "$method: a param is or has in it "
                    . (is_object($value) ? 'an object of class ' . get_class($value) : 'a resource')
                    . '; pass scalars and arrays');
            }
        });
    }

    private function isIdempotent(string $method): bool
    {
        $which = $this->options['idempotent'];
        return is_bool($which) ? $which
            : in_array($method, $which, true) || in_array(strstr($method, '.', true) . '.*', $which, true);
    }

    private function contextWithToken(): Context
    {
        if ($this->options['token'] === '' || $this->context->token !== null) {
            return $this->context;
        }
        $context = clone $this->context;
        $context->token = $this->options['token'];
        return $context;
    }

    private function until(): int
    {
        return hrtime(true) + $this->options['timeout_ms'] * 1000000;
    }

    /** @param Call[] $calls */
    private function run(array $calls): void
    {
        $until = $this->until();
        for ($round = 0; $calls; $round++) {
            try {
                $connection = $this->nodes->connection($this->options['connect_timeout_ms'], $until);
                $connection->exchange($calls, $this->contextWithToken(), $until);
                $this->nodes->learn($connection, $calls);
            } catch (Error $error) {
                foreach ($calls as $call) {
                    $call->error = $error;
                }
            }
            $calls = self::thatMayRunAgain($calls);
            if (!$calls || !$this->pause($round, $until)) {
                return;
            }
            foreach ($calls as $call) {
                $call->again();
            }
        }
    }

    /**
     * @param Call[] $calls
     * @return Call[]
     */
    private static function thatMayRunAgain(array $calls): array
    {
        $again = [];
        foreach ($calls as $call) {
            if ($call->error && self::mayRunAgain($call)) {
                $again[] = $call;
            }
        }
        return $again;
    }

    private static function mayRunAgain(Call $call): bool
    {
        $codes = $call->answered ? self::NOT_NOW : self::LOST;
        return isset($codes[$call->error->errorCode]) && ($call->idempotent || !$call->sent);
    }

    /** Waits for the next try, unless there is none. */
    private function pause(int $round, int $until): bool
    {
        $delay_us = $this->options['retry_delay_ms'] * random_int(500, 1500);
        if ($round >= $this->options['retries'] || hrtime(true) + $delay_us * 1000 >= $until) {
            return false;
        }
        usleep($delay_us);
        return true;
    }

    private static function checked(array $options): array
    {
        foreach ($options as $name => $value) {
            if (!array_key_exists($name, self::OPTIONS)) {
                throw new \InvalidArgumentException("no option \"$name\"; there are "
                    . implode(', ', array_keys(self::OPTIONS)));
            }
            $least = substr($name, -10) === 'timeout_ms' ? 1 : 0;
            $fits = $name === 'idempotent'
                ? is_bool($value) || (is_array($value) && $value === array_filter($value, 'is_string'))
                : gettype($value) === gettype(self::OPTIONS[$name]) && (!is_int($value) || $value >= $least);
            if (!$fits) {
                throw new \InvalidArgumentException("option \"$name\" cannot be "
                    . ($name === 'token' ? 'of type ' . gettype($value) : var_export($value, true)));
            }
        }
        return $options;
    }
}
