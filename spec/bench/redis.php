<?php
// SPDX-License-Identifier: BSD-2-Clause
/**
 * The page of spec/bench/web.py that reads five keys from redis: ?by=node in five calls, ?by=batch in one round trip,
 * ?by=direct with the extension redis over a connection of the request's own. A wrong answer is a page of another
 * length.
 */

$keys = ['user:0', 'user:1', 'user:2', 'user:3', 'user:4'];
$users = [];

if ($_GET['by'] === 'direct') {
    [$host, $port] = explode(':', $_SERVER['REDIS_ADDRESS']);
    $redis = new Redis();
    $redis->connect($host, (int) $port, 1.0);
    foreach ($keys as $key) {
        $users[] = $redis->get($key);
    }
} else {
    require __DIR__ . '/php/autoload.php';
    $fae = new Fae\Client($_SERVER['FAE_ADDRESS'], ['retries' => 0]);
    if ($_GET['by'] === 'batch') {
        $users = $fae->batch(array_map(fn ($key) => ['rd.call', 'main', 'GET', $key], $keys));
    } else {
        foreach ($keys as $key) {
            $users[] = $fae->rd->call('main', 'GET', $key);
        }
    }
}
foreach ($users as $i => $user) {
    if ($user !== "value-of-$i") {
        http_response_code(500);
        exit;
    }
}
$body = '<!doctype html><title>fae</title><h1>' . count($users) . ' users</h1><p>'
    . htmlspecialchars(implode(', ', $users)) . "</p>\n";
header('Content-Type: text/html; charset=utf-8');
header('Content-Length: ' . strlen($body));
echo $body;
