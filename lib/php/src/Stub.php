<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae;

/** A servant as an object: `$fae->hello->greet('x')` is `$fae->call('hello.greet', ['x'])`. */
final class Stub
{
    /** @var callable(string, array): mixed */
    private $call;
    private string $servant;

    /** @internal made by Client and Batch */
    public function __construct(callable $call, string $servant)
    {
        $this->call = $call;
        $this->servant = $servant;
    }

    /**
     * @param array<int, mixed> $params
     * @return mixed
     */
    public function __call(string $method, array $params)
    {
        return ($this->call)($this->servant . '.' . $method, $params);
    }
}
