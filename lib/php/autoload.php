<?php
// SPDX-License-Identifier: BSD-2-Clause
/** For projects without composer: require this file and use Fae\Client. */

spl_autoload_register(static function (string $class): void {
    if (strncmp($class, 'Fae\\Error\\', 10) === 0) {
        require_once __DIR__ . '/src/errors.php';
    } elseif (preg_match('/^Fae\\\\(\w+)$/D', $class, $part) && is_file(__DIR__ . '/src/' . $part[1] . '.php')) {
        require_once __DIR__ . '/src/' . $part[1] . '.php';
    }
});
