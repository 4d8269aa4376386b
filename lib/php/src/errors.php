<?php
// SPDX-License-Identifier: BSD-2-Clause
/** A class for each code of Fae\Error::CODES, so that `catch` can choose. One file: composer's classmap finds them. */

namespace Fae\Error;

use Fae\Error;

/** what came was not a msgpack-RPC message */
final class BadMessage extends Error
{
}

/** no such method; the text names the nearest one */
final class UnknownMethod extends Error
{
}

/** the arguments do not fit the method, or cannot be sent */
final class BadArgs extends Error
{
}

/** request or answer over message_max, or too deep */
final class Limit extends Error
{
}

/** the deadline passed; whether the call ran is not known */
final class Timeout extends Error
{
}

/** the call was given up on the way */
final class Cancelled extends Error
{
}

/** what the call waited for belonged to servants that were replaced */
final class Reloaded extends Error
{
}

/** too much work in flight */
final class Overload extends Error
{
}

/** calls wait too long on the node; it was not run */
final class Congested extends Error
{
}

/** too many calls a second on the node; retryAfterMs says when */
final class RateLimited extends Error
{
}

/** the node has as many connections as it may */
final class Busy extends Error
{
}

/** too many calls in flight from this machine */
final class HostOverload extends Error
{
}

/** too many calls a second from this machine */
final class HostRateLimited extends Error
{
}

/** too many connections from this machine */
final class HostBusy extends Error
{
}

/** too many calls of this servant in flight */
final class ServantOverload extends Error
{
}

/** too many calls of this servant a second */
final class ServantRateLimited extends Error
{
}

/** too many calls of this method in flight */
final class MethodOverload extends Error
{
}

/** too many calls of this method a second */
final class MethodRateLimited extends Error
{
}

/** the token is nobody's; with retryAfterMs: too many wrong ones came from your address lately */
final class Unauthorized extends Error
{
}

/** no role of yours allows the call */
final class Forbidden extends Error
{
}

/** the node is stopping */
final class Draining extends Error
{
}

/** the connection was lost before the answer came; whether the call ran is not known */
final class WorkerLost extends Error
{
}

/** no address could be reached, or a servant's backend could not */
final class Unavailable extends Error
{
}

/** a server behind the node failed too often and is left alone for a while */
final class CircuitOpen extends Error
{
}

/** all connections to a server behind the node were in use, for too long */
final class PoolBusy extends Error
{
}

/** the node has no pool of that name */
final class UnknownPool extends Error
{
}

/** a server behind the node answered with an error, or with what is no answer */
final class Backend extends Error
{
}

/** something the call used was closed */
final class Closed extends Error
{
}

/** no such thing */
final class NotFound extends Error
{
}

/** a write may or may not have been done */
final class Unknown extends Error
{
}

/** the node's disk is full, nothing was written */
final class NoSpace extends Error
{
}

/** the key is not in the cache */
final class CacheMiss extends Error
{
}

/** somebody else holds the lock */
final class Locked extends Error
{
}

/** the lock is not, or no longer, yours */
final class NotOwner extends Error
{
}

/** the key's bucket is being moved to another node */
final class Frozen extends Error
{
}

/** the node's clock was set back: no ids until it has caught up */
final class ClockBack extends Error
{
}

/** an address is in use */
final class AddrInUse extends Error
{
}

/** a configuration is wrong */
final class BadConfig extends Error
{
}

/** a servant does not load */
final class BadServant extends Error
{
}

/** the node is out of memory */
final class NoMemory extends Error
{
}

/** the operating system refused */
final class System extends Error
{
}

/** a bug in a servant or in fae; the node's log says which */
final class Internal extends Error
{
}
