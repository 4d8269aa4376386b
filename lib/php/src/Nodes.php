<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae;

use function apcu_enabled, apcu_fetch, apcu_store, array_filter, count, function_exists, hrtime, implode, intdiv,
    microtime, shuffle;

/**
 * The addresses of a client: which to try first, which were dead a moment ago, and their connections.
 *
 * @internal
 */
final class Nodes
{
    private const NOT_HERE = ['DRAINING' => 1, 'BUSY' => 1, 'HOST_BUSY' => 1, 'OVERLOAD' => 1, 'CONGESTED' => 1];

    /** @var Connection[] by address, in the order of preference */
    private array $connections = [];
    private int $dead_ms;
    /** @var array<string, float> address => wall clock until which others are tried first */
    private static array $dead = [];

    /** @param string[] $addresses */
    public function __construct(array $addresses, array $options)
    {
        if (!$addresses) {
            throw new \InvalidArgumentException('no address to connect to');
        }
        if ($options['shuffle']) {
            shuffle($addresses);
        }
        foreach ($addresses as $address) {
            $this->connections[$address] = Connection::to($address, $options['persistent'], $options['tls']);
        }
        $this->dead_ms = $options['dead_ms'];
    }

    /**
     * An open connection to the first address that has one to give.
     *
     * @throws Error
     */
    public function connection(int $connect_timeout_ms, int $until): Connection
    {
        $why = [];
        foreach ($this->inOrder() as $connection) {
            $failed = $connection->open($connect_timeout_ms, $until);
            if ($failed === null) {
                return $connection;
            }
            $this->avoid($connection);
            $why[] = $connection->address . ': ' . $failed;
            if (hrtime(true) >= $until) {
                break;
            }
        }
        throw Error::of('UNAVAILABLE', implode('; ', $why));
    }

    /**
     * What answers say about the node that gave them.
     *
     * @param Call[] $calls
     */
    public function learn(Connection $connection, array $calls): void
    {
        foreach ($calls as $call) {
            if ($call->error && isset(self::NOT_HERE[$call->error->errorCode])) {
                $this->avoid($connection);
            }
            if ($call->error && $call->error->errorCode === 'DRAINING') {
                $connection->close();
            }
        }
    }

    public function close(): void
    {
        foreach ($this->connections as $connection) {
            $connection->close();
        }
    }

    /** @return Connection[] those that seem alive, then the others */
    private function inOrder(): array
    {
        if (count($this->connections) === 1) {
            return $this->connections;
        }
        $alive = array_filter($this->connections, fn (Connection $connection) => !$this->isDead($connection));
        return $alive + $this->connections;
    }

    private function isDead(Connection $connection): bool
    {
        $until = self::$dead[$connection->address] ?? (self::hasApcu() ? apcu_fetch(self::key($connection)) : 0.0);
        return $until > microtime(true);
    }

    private function avoid(Connection $connection): void
    {
        $until = microtime(true) + $this->dead_ms / 1000;
        self::$dead[$connection->address] = $until;
        if (self::hasApcu() && count($this->connections) > 1) {
            apcu_store(self::key($connection), $until, 1 + intdiv($this->dead_ms, 1000));
        }
    }

    private static function key(Connection $connection): string
    {
        return 'fae dead ' . $connection->address;
    }

    private static function hasApcu(): bool
    {
        return function_exists('apcu_enabled') && apcu_enabled();
    }
}
