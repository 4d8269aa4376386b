<?php
// SPDX-License-Identifier: BSD-2-Clause
/**
 * Redis and memcached through the node, by pools that its configuration names:
 *
 *     redis "main" { servers = "127.0.0.1:6379" }
 *     memcache "main" { servers = "127.0.0.1:11211" }
 *
 * An article of a shop: from memcached, else from redis; and what may go wrong without taking the page along.
 *
 *     php backends.php [ADDRESS]
 */

require __DIR__ . '/../autoload.php'; // or composer's vendor/autoload.php

$fae = new Fae\Client($argv[1] ?? 'unix:/run/fae/fae.sock', [
    'timeout_ms' => 500,
    'idempotent' => ['mc.get', 'mc.set'], // may be sent twice when a connection is lost; INCR may not
]);

/** An article's text, by way of the cache. A cache that is down costs time, not the page. */
function article(Fae\Client $fae, int $id): ?string
{
    $key = "article:$id";
    try {
        $text = $fae->mc->get('main', $key);
        if ($text !== null) {
            return $text;
        }
    } catch (Fae\Error $error) { // UNAVAILABLE, CIRCUIT_OPEN, TIMEOUT: as if it were not there
        error_log($error->getMessage());
    }
    $text = $fae->rd->call('main', 'GET', $key);
    if ($text !== null) {
        try {
            $fae->mc->set('main', $key, $text, ['ttl' => 60]);
        } catch (Fae\Error $error) {
            error_log($error->getMessage());
        }
    }
    return $text;
}

try {
    $fae->rd->call('main', 'SET', 'article:7', 'Blue shoes.');
    echo article($fae, 7), "\n";
    echo article($fae, 7), "\n"; // from memcached

    $page = $fae->batch(fn ($b) => [ // one round trip, both servers at once
        'visits' => $b->rd->call('main', 'INCR', 'visits:7'),
        'rating' => $b->rd->call('main', 'HGET', 'ratings', '7'),
        'banner' => $b->mc->get('main', 'banner'),
    ]);
    echo json_encode($page), "\n";
} catch (Fae\Error $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit($error->retryable ? 75 : 1);
}
