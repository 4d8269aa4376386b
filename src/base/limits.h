/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Fixed limits, each with its reason. What an operator may want to change is an option (base/config.c) instead.
 */
#ifndef FAE_BASE_LIMITS_H
#define FAE_BASE_LIMITS_H

#define FAE_KIB 1024u
#define FAE_MIB (1024u * 1024u)

/* A message is checked whole before it is decoded, so this bounds both the buffer and the Lua values. */
#define FAE_MESSAGE_CEILING (64u * FAE_MIB)
#define FAE_DEPTH_MAX 64          /* arrays and maps inside each other; decoder and encoder recurse this deep */
#define FAE_ELEMENTS_MAX 1000000u /* summed over all levels of one message: 16 bytes a Lua slot make 16 MB */
#define FAE_METHOD_NAME_MAX 128   /* "servant.method"; rows in shared memory hold it by value */
#define FAE_PARAMS_MAX 200        /* positional arguments; a Lua function takes at most 250 */

#define FAE_READ_CHUNK (64u * FAE_KIB) /* most one recv may bring: larger only delays the other sessions */
#define FAE_READ_ARENA (1u * FAE_MIB)  /* one turn's input of all sessions; full means run what is there first */
#define FAE_BATCH_CALLS 256 /* calls run before answers are sent, so that slow ones do not delay quick ones */
#define FAE_BATCH_BYTES (4u * FAE_MIB) /* the same of answers, so that they do not all lie in memory first */
#define FAE_TURN_MS 50                 /* calls run before the loop turns: pipelined ones must not look like a hang */
#define FAE_CONGESTED_AFTER_MS 100     /* calls waited longer than overload_delay_ms all this time: congestion */
#define FAE_CONGESTED_UNTIL_MS 10      /* nobody waited long all this time: it is over */
#define FAE_CONGESTED_EASE_MS 1000     /* and so long after it, once more is enough for it to be back */
#define FAE_CONGESTED_RUN_MS 2  /* calls run in a turn then; the rest is refused, so this is how late they hear of it */
#define FAE_QUEUE_MIN 8         /* fewer sessions that wait are no congestion, however long their calls take */
#define FAE_KEEPALIVE_IDLE_S 60 /* of silence, before the kernel asks whether the client's machine is there ... */
#define FAE_KEEPALIVE_PAUSE_S 10 /* ... and again */
#define FAE_KEEPALIVE_PROBES 3   /* unanswered: it is gone */
#define FAE_FD_RESERVE 32 /* descriptors of a process that no client gets: for backends, files, the other workers */
#define FAE_OUT_PAUSE (1u * FAE_MIB) /* unsent answers at which a session is no longer read */
#define FAE_OUT_SLACK (8u * FAE_MIB) /* a session is cut at message_max + this unsent */
#define FAE_OUT_KEEP (64u * FAE_KIB) /* an output buffer that grew larger is given back to malloc */
#define FAE_LINGER_MS 1000           /* a refused client's time to read why before its connection is reset */
#define FAE_SPARE_TASKS 1024         /* with coroutines, kept for the next calls; what a storm made beyond is freed */
#define FAE_PARALLEL_DEPTH 64        /* fae.parallel inside fae.parallel: ending one recurses this deep */
#define FAE_SESSION_CALLS 128        /* calls in flight at which a session is no longer read */
#define FAE_HANDSHAKES_TURN 4        /* steps of TLS handshakes a turn: one may cost as much as a hundred calls */
#define FAE_ACCEPT_BATCH 64          /* connections taken before others are served */

#define FAE_WORKERS_MAX 64
#define FAE_SLOTS_MAX (FAE_WORKERS_MAX + 2) /* and ops, and the supervisor */
#define FAE_LISTENERS_MAX 16
#define FAE_GATES_MAX 256u   /* limits of methods and servants; each has a counter a worker */
#define FAE_ROLES_MAX 31u    /* a session's roles are bits of a word */
#define FAE_TOKENS_MAX 256u  /* all are compared with one shown, so that time tells nothing */
#define FAE_ACCOUNTS_MAX 64u /* of the machine, and common names of certificates */
#define FAE_FENCES_MAX 64u
#define FAE_POOLS_MAX 64u /* of one kind of backend */
#define FAE_POOL_SERVERS_MAX 64u
#define FAE_POOL_WEIGHT_MAX                                                                                            \
    1024u /* of a ring's servers together: 32 points each, which are made and sorted on the loop */
#define FAE_SHARD_BUCKETS                                                                                              \
    1024u                      /* of the strategy vbucket; lua/fae/shard.lua and the map of the configuration know it */
#define FAE_UPSTREAMS_MAX 512u /* servers of all pools, and breakers of servants: rows in shared memory */
#define FAE_NODE_ID_MAX 31u    /* of the layout fae, which has 5 bits for it */
#define FAE_METHODS_MAX 1024u  /* rows of counters; calls of methods beyond it are counted in the last row */

#define FAE_TICK_MS 50         /* heartbeat of an idle loop; 20 wake-ups a second are not measurable */
#define FAE_SILENT_MS 200      /* a slot silent this long has its sockets served by another */
#define FAE_TURN_SILENT_MS 100 /* the holder of an accept turn silent this long loses it */
#define FAE_CHECKER_MS 2000    /* config evaluation and the self-check of servants */
#define FAE_RESPAWN_MS 100     /* first pause after a death that counts; doubles to FAE_RESPAWN_MAX_MS */
#define FAE_RESPAWN_MAX_MS 5000

#define FAE_MAILBOX_BYTES (64u * FAE_KIB)
#define FAE_LOG_RING_BYTES (512u * FAE_KIB)
#define FAE_LOG_LINE_MAX (8u * FAE_KIB)
#define FAE_BUNDLE_MAX (64u * FAE_MIB) /* all servant files of one generation */

_Static_assert(FAE_READ_ARENA >= 2 * FAE_READ_CHUNK, "a recv must fit the arena");
_Static_assert(FAE_TICK_MS * 2 <= FAE_TURN_SILENT_MS, "an idle loop must not look silent");
_Static_assert(FAE_TURN_SILENT_MS <= FAE_SILENT_MS, "a turn is taken over before a socket is");
_Static_assert(FAE_LOG_LINE_MAX * 4 <= FAE_LOG_RING_BYTES, "a ring holds several of the longest lines");

#endif
