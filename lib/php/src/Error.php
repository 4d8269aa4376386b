<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae;

/**
 * A call that failed. Each code of the node has a class of its own in errors.php; a servant's own codes come as this.
 * getMessage() is "CODE: what happened"; go by errorCode or the class, texts change.
 */
class Error extends \RuntimeException
{
    /** Code => may the same call be sent again as it is. The codes of src/base/err.h. */
    public const CODES = [
        'BAD_MESSAGE' => false,
        'UNKNOWN_METHOD' => false,
        'BAD_ARGS' => false,
        'LIMIT' => false,
        'TIMEOUT' => true,
        'CANCELLED' => false,
        'RELOADED' => true,
        'OVERLOAD' => true,
        'CONGESTED' => true,
        'RATE_LIMITED' => true,
        'BUSY' => true,
        'HOST_OVERLOAD' => true,
        'HOST_RATE_LIMITED' => true,
        'HOST_BUSY' => true,
        'SERVANT_OVERLOAD' => true,
        'SERVANT_RATE_LIMITED' => true,
        'METHOD_OVERLOAD' => true,
        'METHOD_RATE_LIMITED' => true,
        'UNAUTHORIZED' => false,
        'FORBIDDEN' => false,
        'DRAINING' => true,
        'WORKER_LOST' => true,
        'UNAVAILABLE' => true,
        'CIRCUIT_OPEN' => true,
        'POOL_BUSY' => true,
        'UNKNOWN_POOL' => false,
        'BACKEND' => false,
        'CLOSED' => false,
        'NOT_FOUND' => false,
        'UNKNOWN' => false,
        'NO_SPACE' => true,
        'CACHE_MISS' => false,
        'LOCKED' => true,
        'NOT_OWNER' => false,
        'FROZEN' => true,
        'CLOCK_BACK' => true,
        'ADDR_IN_USE' => false,
        'BAD_CONFIG' => false,
        'BAD_SERVANT' => false,
        'NO_MEMORY' => true,
        'SYSTEM' => true,
        'INTERNAL' => false,
    ];

    /** @var string "TIMEOUT", "BAD_ARGS", ... or a servant's own */
    public string $errorCode;
    /** @var bool may the same call be sent again as it is? Whether it ran the first time is not known then. */
    public bool $retryable;
    /** @var int|null milliseconds to wait before that, when the node said so */
    public ?int $retryAfterMs;
    /** @var mixed what the servant added */
    public $detail;

    final public function __construct(
        string $errorCode,
        string $text,
        ?bool $retryable = null,
        ?int $retryAfterMs = null,
        $detail = null
    ) {
        parent::__construct("$errorCode: $text");
        $this->errorCode = $errorCode;
        $this->retryable = $retryable ?? self::CODES[$errorCode] ?? false;
        $this->retryAfterMs = $retryAfterMs;
        $this->detail = $detail;
    }

    /**
     * An error of the class that belongs to the code.
     *
     * @param mixed $detail
     */
    public static function of(
        string $errorCode,
        string $text,
        ?bool $retryable = null,
        ?int $retryAfterMs = null,
        $detail = null
    ): self {
        $class = isset(self::CODES[$errorCode]) ? self::className($errorCode) : self::class;
        return new $class($errorCode, $text, $retryable, $retryAfterMs, $detail);
    }

    /** "WORKER_LOST" -> Fae\Error\WorkerLost */
    public static function className(string $errorCode): string
    {
        return self::class . '\\' . str_replace('_', '', ucwords(strtolower($errorCode), '_'));
    }

    /**
     * An error as it travels: a map, "CODE: text", or [code, text].
     *
     * @param mixed $wire
     */
    public static function fromWire($wire): self
    {
        if (is_array($wire) && isset($wire['code'])) {
            return self::of(
                (string) $wire['code'],
                (string) ($wire['message'] ?? ''),
                isset($wire['retryable']) ? (bool) $wire['retryable'] : null,
                isset($wire['retry_after_ms']) ? (int) $wire['retry_after_ms'] : null,
                $wire['detail'] ?? null
            );
        }
        if (is_array($wire) && isset($wire[0], $wire[1]) && is_string($wire[0]) && is_string($wire[1])) {
            return self::of($wire[0], $wire[1]);
        }
        if (is_string($wire) && preg_match('/^([A-Z][A-Z0-9_]*): (.*)$/sD', $wire, $part)) {
            return self::of($part[1], $part[2]);
        }
        return self::of('INTERNAL', is_string($wire) ? $wire : (string) json_encode($wire));
    }
}
