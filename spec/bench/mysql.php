<?php
// SPDX-License-Identifier: BSD-2-Clause
/**
 * The page of spec/bench/webmysql.py that reads five rows by their primary key from MariaDB: ?by=node in five calls of
 * my.query, ?by=batch in one round trip, ?by=direct with mysqli over a connection of the request's own, ?by=kept with
 * mysqli over a persistent one. mysqli puts the numbers into the text, which saves it a round trip and is what it does
 * fastest. A wrong answer is a page of another length.
 */

$ids = array_map(fn () => random_int(1000, 9999), range(1, 5));
$sql = 'SELECT id, v, n FROM pk WHERE id = ';
$rows = [];

if ($_GET['by'] === 'direct' || $_GET['by'] === 'kept') {
    [$host, $port] = explode(':', $_SERVER['MYSQL_ADDRESS']);
    mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
    $mysqli = new mysqli(($_GET['by'] === 'kept' ? 'p:' : '') . $host, 'page', 'secret', 'test', (int) $port);
    foreach ($ids as $id) {
        $rows[] = $mysqli->query($sql . $id)->fetch_row();
    }
} else {
    require __DIR__ . '/php/autoload.php';
    $fae = new Fae\Client($_SERVER['FAE_ADDRESS'], ['retries' => 0]);
    if ($_GET['by'] === 'batch') {
        $results = $fae->batch(array_map(fn ($id) => ['my.query', 'main', 'pk', null, "$sql?", [$id]], $ids));
    } else {
        $results = array_map(fn ($id) => $fae->my->query('main', 'pk', null, "$sql?", [$id]), $ids);
    }
    $rows = array_map(fn ($result) => $result['rows'][0], $results);
}
foreach ($rows as $i => [$id, $v, $n]) {
    if ((int) $id !== $ids[$i] || (int) $n !== 2 * $ids[$i] || strlen($v) !== 100) {
        http_response_code(500);
        exit;
    }
}
$body = '<!doctype html><title>fae</title><h1>' . count($rows) . ' rows</h1><p>'
    . htmlspecialchars(implode(', ', array_column($rows, 0))) . "</p>\n";
header('Content-Type: text/html; charset=utf-8');
header('Content-Length: ' . strlen($body));
echo $body;
