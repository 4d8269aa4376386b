<?php
// SPDX-License-Identifier: BSD-2-Clause
//
// php-msgpack's part of test_differential.py. Input: pairs of msgpack values, each with its length (u32, big-endian)
// before it. Output, for each pair: one byte, "=" when PHP reads both as the same value, else "!"; then, with its
// length before it, the second value as PHP writes it.
declare(strict_types=1);

ini_set('memory_limit', '1G');
ini_set('msgpack.php_only', '0');

/** The same in type and value, whatever the order of an array's keys. */
function same($a, $b): bool
{
    if (is_float($a) && is_float($b)) {
        return pack('E', $a) === pack('E', $b) || (is_nan($a) && is_nan($b));
    }
    if (!is_array($a) || !is_array($b)) {
        return $a === $b;
    }
    if (count($a) !== count($b)) {
        return false;
    }
    foreach ($a as $key => $value) {
        if (!array_key_exists($key, $b) || !same($value, $b[$key])) {
            return false;
        }
    }
    return true;
}

$in = stream_get_contents(STDIN);
$at = 0;
$next = function () use ($in, &$at): string {
    $len = unpack('N', $in, $at)[1];
    $bytes = substr($in, $at + 4, $len);
    $at += 4 + $len;
    return $bytes;
};
$out = '';
while ($at < strlen($in)) {
    $ours = msgpack_unpack($next());
    $theirs = msgpack_unpack($next());
    $again = msgpack_pack($theirs);
    $out .= (same($ours, $theirs) ? '=' : '!') . pack('N', strlen($again)) . $again;
}
fwrite(STDOUT, $out);
