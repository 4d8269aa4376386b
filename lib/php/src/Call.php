<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae;

/**
 * One call and how it went.
 *
 * @internal
 */
final class Call
{
    public string $method;
    public array $params;
    public bool $idempotent;
    /** @var bool may the node have seen it? */
    public bool $sent = false;
    /** @var bool did the node answer it? */
    public bool $answered = false;
    /** @var mixed */
    public $value = null;
    public ?Error $error = null;

    public function __construct(string $method, array $params, bool $idempotent)
    {
        $this->method = $method;
        $this->params = $params;
        $this->idempotent = $idempotent;
    }

    /** Forgets how it went, for another try. */
    public function again(): void
    {
        $this->sent = $this->answered = false;
        $this->error = null;
    }
}
