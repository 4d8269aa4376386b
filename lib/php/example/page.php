<?php
// SPDX-License-Identifier: BSD-2-Clause
/** A page that makes five calls: two in turn, three at once. FAE_ADDRESS comes from the web server's configuration. */

require __DIR__ . '/../autoload.php'; // or composer's vendor/autoload.php

$fae = new Fae\Client($_SERVER['FAE_ADDRESS'] ?? 'unix:/run/fae/fae.sock', [
    'persistent' => true,
    'idempotent' => ['hello.*', 'sys.*'], // these may run twice, so a lost worker is not the visitor's trouble
    'retries' => 100,                     // with retry_delay_ms = 20: sits out a restart of the node
]);

try {
    $greeting = $fae->hello->greet($_GET['name'] ?? 'world');
    $time_ms = $fae->sys->time();
    $page = $fae->batch(fn ($b) => [
        'ping' => $b->sys->ping(),
        'echo' => $b->sys->echo(['cart' => [1, 2, 3]]),
        'other' => $b->hello->greet('all'),
    ]);
    foreach ($page as $part) {
        if ($part instanceof Fae\Error) {
            throw $part;
        }
    }
} catch (Fae\Error $error) {
    error_log($error->getMessage());
    http_response_code($error->retryable ? 503 : 500);
    exit($error->errorCode . "\n");
}

header('Content-Type: text/html; charset=utf-8');
?>
<!doctype html>
<title>fae</title>
<h1><?= htmlspecialchars($greeting) ?></h1>
<p><?= htmlspecialchars($page['other']) ?> It is <?= date('H:i:s', intdiv($time_ms, 1000)) ?>,
the cart has <?= count($page['echo']['cart']) ?> things in it.</p>
<p><small><?= htmlspecialchars($page['ping']) ?></small></p>
