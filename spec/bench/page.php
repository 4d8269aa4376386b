<?php
// SPDX-License-Identifier: BSD-2-Clause
/**
 * The page that spec/bench/web.py measures: ?calls=1 makes five calls one after the other, ?calls=0 has what they would
 * answer. &kept=1 keeps the connection for the next request. A wrong answer is a page of another length.
 */

$cart = ['id' => 7, 'items' => [1, 2, 3], 'name' => 'Ada'];
$texts = ['Hello, Ada!', 'Hello, all!', microtime(true) * 1000, $cart, null];

if ($_GET['calls']) {
    require __DIR__ . '/php/autoload.php';
    $fae = new Fae\Client($_SERVER['FAE_ADDRESS'], ['persistent' => (bool) ($_GET['kept'] ?? false), 'retries' => 0]);
    $seen = [
        $fae->hello->greet('Ada'), $fae->hello->greet('all'), $fae->sys->time(), $fae->sys->echo($cart),
        $fae->sys->noop(),
    ];
    ksort($seen[3]); // maps have no order
    if (abs($seen[2] - $texts[2]) > 10000 || $seen[3] !== $cart || $seen[4] !== null) {
        http_response_code(500);
        exit;
    }
    $texts = $seen;
}
$body = '<!doctype html><title>fae</title><h1>' . htmlspecialchars($texts[0]) . '</h1><p>'
    . htmlspecialchars($texts[1]) . ' It is ' . date('H:i:s', (int) ($texts[2] / 1000)) . ', the cart has '
    . count($texts[3]['items']) . " things in it.</p>\n";
header('Content-Type: text/html; charset=utf-8');
header('Content-Length: ' . strlen($body));
echo $body;
