<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae;

/** Collects calls that Client::batch() sends together. Nothing is sent while it collects. */
final class Batch
{
    /** @var array<int, array{string, array}> */
    private array $rows = [];

    /**
     * Adds a call.
     *
     * @param mixed ...$params
     * @return int its place, for the array that the function given to Client::batch() may return
     */
    public function call(string $method, ...$params): int
    {
        $this->rows[] = [$method, $params];
        return count($this->rows) - 1;
    }

    /** `$b->hello->greet('x')` */
    public function __get(string $servant): Stub
    {
        return new Stub(fn (string $method, array $params) => $this->call($method, ...$params), $servant);
    }

    /**
     * @internal
     * @return array<int, array{string, array}>
     */
    public function rows(): array
    {
        return $this->rows;
    }
}
