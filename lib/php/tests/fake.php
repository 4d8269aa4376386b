<?php
// SPDX-License-Identifier: BSD-2-Clause
/**
 * A node that does as told: `php fake.php ADDRESS STEPS`, STEPS being JSON of one list of steps a connection. Writes
 * the address, then every message that it reads, as JSON lines. Steps: ["read", n]; for the nth request read
 * ["answer", n, value], ["answer slowly", n, value] (byte by byte), ["refuse", n, error]; ["send", hex], ["close"],
 * ["until hung up"].
 */

$server = stream_socket_server($argv[1], $code, $why);
if (!$server) {
    exit("$why\n");
}
echo json_encode(stream_socket_get_name($server, false)), "\n";
foreach (json_decode($argv[2], true) as $steps) {
    $client = @stream_socket_accept($server, 20);
    if (!$client) {
        exit;
    }
    $unpacker = new MessagePackUnpacker(false);
    $requests = [];
    foreach ($steps as [$step, $a, $b]) {
        while ($step === 'read' && $a > 0) {
            while ($a > 0 && $unpacker->execute()) {
                $message = $unpacker->data();
                $unpacker->reset();
                echo json_encode($message), "\n";
                if ($message[0] === 0) {
                    $requests[] = $message;
                    $a--;
                }
            }
            if ($a > 0) {
                $bytes = fread($client, 65536);
                if ($bytes === '' || $bytes === false) {
                    echo json_encode('hung up'), "\n";
                    break 2;
                }
                $unpacker->feed($bytes);
            }
        }
        if ($step === 'answer') {
            fwrite($client, msgpack_pack([1, $requests[$a][1], null, $b]));
        } elseif ($step === 'answer slowly') {
            foreach (str_split(msgpack_pack([1, $requests[$a][1], null, $b])) as $byte) {
                fwrite($client, $byte);
                usleep(300);
            }
        } elseif ($step === 'refuse') {
            fwrite($client, msgpack_pack([1, $requests[$a][1], $b, null]));
        } elseif ($step === 'send') {
            fwrite($client, hex2bin($a));
        } elseif ($step === 'until hung up') {
            while (!feof($client)) {
                fread($client, 65536);
            }
            echo json_encode('hung up'), "\n";
        }
    }
    fclose($client);
}
