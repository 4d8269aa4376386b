<?php
// SPDX-License-Identifier: BSD-2-Clause
/** For projects without composer: require this file and use Fae\Client. */

spl_autoload_register(static function (string $class): void {
    // Each page loads them again: a list costs it less than a look at the disk.
    static $files = [
        'Fae\Batch' => 'Batch', 'Fae\Call' => 'Call', 'Fae\Client' => 'Client', 'Fae\Connection' => 'Connection',
        'Fae\Context' => 'Context', 'Fae\Error' => 'Error', 'Fae\Nodes' => 'Nodes', 'Fae\Stub' => 'Stub',
    ];
    if (isset($files[$class])) {
        require __DIR__ . '/src/' . $files[$class] . '.php';
    } elseif (strncmp($class, 'Fae\\Error\\', 10) === 0) {
        require_once __DIR__ . '/src/errors.php';
    }
});
