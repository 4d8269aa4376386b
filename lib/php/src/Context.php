<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae;

use function basename, get_object_vars, random_int;

/**
 * Who asks and why: goes along with every call, for the node's logs and a servant's `call`. One is made a PHP request;
 * a worker that runs for long sets a new one a job: `$fae->context = new Fae\Context('import')`.
 */
final class Context
{
    /** @var int id of this request, the same for all its calls; 1 to 2^63-1 */
    public int $rid;
    /** @var string what runs, such as "/cart.php" */
    public string $reason;
    /** @var int|null id of the user it is for */
    public ?int $uid = null;
    /** @var string|null W3C trace context */
    public ?string $traceparent = null;
    /** @var string|null shows the node who asks; without one, the client's option "token". Servants never see it */
    public ?string $token = null;

    private static ?self $ofRequest = null;

    /** @param string|null $reason without one, the name of the script */
    public function __construct(?string $reason = null)
    {
        $this->rid = random_int(1, PHP_INT_MAX);
        $this->reason = $reason ?? self::script();
    }

    /** The context that all clients of this PHP request begin with. */
    public static function ofRequest(): self
    {
        return self::$ofRequest ?? self::$ofRequest = new self();
    }

    /**
     * The map that travels.
     *
     * @return array<string, mixed>
     */
    public function toArray(): array
    {
        $map = get_object_vars($this);
        foreach ($map as $name => $value) {
            if ($value === null) {
                unset($map[$name]);
            }
        }
        return $map;
    }

    private static function script(): string
    {
        $name = $_SERVER['SCRIPT_NAME'] ?? '';

        if ($name === '') {
            return PHP_SAPI;
        }
        return PHP_SAPI === 'cli' ? basename($name) : $name;
    }
}
