<?php
// SPDX-License-Identifier: BSD-2-Clause

namespace Fae\Tests;

/** Runs fake.php for a test. */
final class FakeNode
{
    public string $address;
    /** @var resource */
    private $process;
    /** @var resource */
    private $out;

    /** @param array<int, array<int, array>> $connections the steps of each connection */
    public function __construct(array $connections)
    {
        $steps = array_map(static fn (array $list) => array_map(
            static fn (array $step) => array_pad($step, 3, null),
            $list
        ), $connections);
        $command = [PHP_BINARY, __DIR__ . '/fake.php', 'tcp://127.0.0.1:0', json_encode($steps)];
        $this->process = proc_open($command, [1 => ['pipe', 'w']], $pipes);
        $this->out = $pipes[1];
        $this->address = 'tcp://' . json_decode(fgets($this->out));
    }

    /** Everything the node read, once it has done all its steps; notifications of the client itself left out. */
    public function heard(): array
    {
        $heard = [];
        while (($line = fgets($this->out)) !== false) {
            $message = json_decode($line, true);
            if (!is_array($message) || $message[0] !== 2 || strncmp($message[1], 'sys.', 4) !== 0) {
                $heard[] = $message;
            }
        }
        return $heard;
    }

    public function end(): void
    {
        proc_terminate($this->process, 9);
        proc_close($this->process);
    }
}
