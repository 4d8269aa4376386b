<?php
// SPDX-License-Identifier: BSD-2-Clause
/**
 * What a php-fpm process sees of its connection, as JSON. ?wait=MS makes a call that long; ?leave=MS ends with an
 * answer on its way that nobody waits for; ?fatal=1 dies in the middle of an answer, with no finally and no destructor.
 */

require __DIR__ . '/../autoload.php';

$fae = new Fae\Client($_SERVER['FAE_ADDRESS'], ['persistent' => true, 'retries' => 0]);
$seen = ['pid' => getmypid(), 'uid_of_php' => posix_geteuid()] + $fae->probe->call();

if (isset($_GET['wait'])) {
    $seen['waited'] = $fae->probe->wait((int) $_GET['wait'], 'mine');
}
if (isset($_GET['leave'])) {
    // The stream that PHP keeps for this address, and that the client uses.
    $stream = stream_socket_client(
        str_replace('unix:', 'unix://', $_SERVER['FAE_ADDRESS']),
        $code,
        $why,
        1,
        STREAM_CLIENT_CONNECT | STREAM_CLIENT_PERSISTENT
    );
    fwrite($stream, msgpack_pack([0, 4294967295, 'probe.wait', [(int) $_GET['leave'], 'not yours']]));
}
if (isset($_GET['fatal'])) {
    ini_set('memory_limit', '3M');
    $fae->probe->text(4000000);
}
echo json_encode($seen);
