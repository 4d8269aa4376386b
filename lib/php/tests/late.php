<?php
// SPDX-License-Identifier: BSD-2-Clause
/** Answers one request, "late", on the address that is the last argument. */

$server = stream_socket_server(end($argv));
$client = stream_socket_accept($server, 10);
$unpacker = new MessagePackUnpacker(false);
do {
    $unpacker->feed((string) fread($client, 65536));
    while ($unpacker->execute()) {
        $message = $unpacker->data();
        $unpacker->reset();
        if ($message[0] === 0) {
            fwrite($client, msgpack_pack([1, $message[1], null, 'late']));
            fclose($client);
            exit;
        }
    }
} while (!feof($client));
