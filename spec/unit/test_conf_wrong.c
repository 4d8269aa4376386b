/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vm/conf: config files that are wrong, to exact error lines.
 */
#include "unit_conf.h"

#define WORD "must be a word of letters, digits, \"_\" and \"-\""
#define METHODS "must be a method such as \"shop.buy\", or \"shop.*\" for all of a servant"

#define MYSQL_A "mysql 'A' { servers = 'h:1', user = 'u' } "

static const struct {
    const char *text, *errors;
} wrong[] = {
    /* options */
    { "workers(900)", "c.lua:1: workers must be 0 to 64, not 900\n" },
    { "\n\nworkers(-1)", "c.lua:3: workers must be a whole number, not \"-1\"\n" },
    { "workers(1.5)", "c.lua:1: workers must be a whole number, not \"1.5\"\n" },
    { "workers(0/0)", "c.lua:1: workers must be a whole number, not \"nan\"\n" },
    { "workers(1e300)", "c.lua:1: workers must be a whole number, not \"1e+300\"\n" },
    { "workers \"4\"", "c.lua:1: workers must be a whole number, not the text \"4\"\n" },
    { "workers(true)", "c.lua:1: workers must be a whole number, not true\n" },
    { "workers {}", "c.lua:1: workers must be a whole number, not a table\n" },
    { "workers()", "c.lua:1: workers takes one value, not 0\n" },
    { "workers(1, 2)", "c.lua:1: workers takes one value, not 2\n" },
    { "workers(nil)", "c.lua:1: workers must be a whole number, not nil\n" },
    { "workers(workers)", "c.lua:1: workers must be a whole number, not a function\n" },
    { "drain_ms \"5s\"", "c.lua:1: drain_ms must be a whole number of milliseconds, not the text \"5s\"\n" },
    { "message_max \"4MB\"", "c.lua:1: message_max must be a size such as 65536, 64KiB, 4MiB or 1GiB, not \"4MB\"\n" },
    { "message_max \"1GiB\"", "c.lua:1: message_max must be 1KiB to 64MiB, not 1GiB\n" },
    { "message_max(true)", "c.lua:1: message_max must be a number, or a size in quotes such as \"4MiB\", not true\n" },
    { "watchdog \"yes\"", "c.lua:1: watchdog must be true or false, not the text \"yes\"\n" },
    { "watchdog(1)", "c.lua:1: watchdog must be true or false, not 1\n" },
    { "run_dir(7)", "c.lua:1: run_dir must be text in quotes, not 7\n" },
    { "run_dir \"\"", "c.lua:1: run_dir must not be empty\n" },
    { "run_dir(string.rep('x', 300))", "c.lua:1: run_dir may have 255 bytes, not 300\n" },
    { "run_dir \"a\\0b\"", "c.lua:1: run_dir must not hold a zero byte\n" },
    { "log_level \"inof\"",
      "c.lua:1: log_level must be one of debug|info|warn|error, not \"inof\": did you mean \"info\"?\n" },
    { "log_level(true)", "c.lua:1: log_level must be a word in quotes, not true\n" },
    { "workers(2)\nworkers(3)", "c.lua:2: workers was already set on line 1\n" },
    { "workers(900)\n\nworkers(3)",
      "c.lua:1: workers must be 0 to 64, not 900\nc.lua:3: workers was already set on line 1\n" },
    { "admin \"0.0.0.0:9101\"", "c.lua:1: admin: 0.0.0.0:9101 is not a loopback address, which needs admin_token, "
                                "admin_cert and admin_key\n" },
    { "admin_token '" HASH "'\nadmin \"10.0.0.1:9101\" admin_cert 'c'",
      "c.lua:2: admin: 10.0.0.1:9101 is not a loopback address, which needs admin_token, admin_cert and admin_key\n"
      "c.lua:2: admin_cert needs admin_key\n" },
    { "\nadmin_key 'k'", "c.lua:2: admin_key needs admin_cert\n" },
    { "admin_token 'secret'", "c.lua:1: admin_token must be a SHA-256 of 64 hex digits\n" },
    { "host_exempt '10.0.0.0/8 10.0.0.300'",
      "c.lua:1: host_exempt must be addresses such as \"10.0.0.7\" or networks such as \"10.0.0.0/8\", not "
      "\"10.0.0.300\"\n" },
    { "query_cache_size '1MiB'", "c.lua:1: query_cache_size must be 0 or at least 8MiB\n" },
    { "node_id(32)", "c.lua:1: node_id must be at most 31 with id_layout fae, not 32\n" },
    { "kv_backend 'redis:main'", "c.lua:1: kv_backend: there is no redis pool \"main\"\n" },
    { "kv_backend 'mysql:main'", "c.lua:1: kv_backend: there is no mysql pool \"main\"\n" },
    { "kv_backend 'redis:man'\nredis 'main' { servers = 'h:1' }",
      "c.lua:1: kv_backend: there is no redis pool \"man\": did you mean \"main\"?\n" },
    { "redis 'main' {}", "c.lua:1: redis \"main\": servers: pool main has none\n" },
    { "redis 'main' { servers = { 'h:1', 'h:1' } }", "c.lua:1: redis \"main\": servers: pool main has h:1 twice\n" },
    { "redis 'main' { servers = { 'h:1*1000', 'h:2*25' } }",
      "c.lua:1: redis \"main\": servers: weights of pool main may add up to 1024, not 1025\n" },
    { "redis 'main' { servers = { 'h:1', 'tcp://h:1*2' } }",
      "c.lua:1: redis \"main\": servers: pool main has h:1 twice\n" },
    { "memcache 'main' { servers = { '/a/b', 'c:1', 'unix:/a/b' } }",
      "c.lua:1: memcache \"main\": servers: pool main has /a/b twice\n" },
    { "for i = 1, 11 do\n"
      "local s = {}\nfor j = 1, 50 do s[j] = 'h' .. j .. ':1' end\n"
      "memcache('p' .. i)({ servers = s })\nend",
      "c.lua:4: memcache \"p11\": servers: all pools together may have 512 of them\n" },
    { "redis 'main' { servers = 'h' }",
      "c.lua:1: redis \"main\": servers must be HOST:PORT with a port of 1 to 65535, not \"h\"\n" },
    { "redis 'main' { servers = 'h:1', max = 4, warm = 5 }",
      "c.lua:1: redis \"main\": warm must be at most max (4), not 5\n" },
    { "mysql 'main' { servers = 'h:1', user = 'u', max = 2, warm = 3 }",
      "c.lua:1: mysql \"main\": warm must be at most max (2), not 3\n" },
    { "redis 'main' { servers = 'h:1', user = 'u' }", "c.lua:1: redis \"main\": user needs password\n" },
    { "mysql 'main' { servers = { 'h:1', 'h:2' }, user = 'u' }",
      "c.lua:1: mysql \"main\": servers: pool main must have one, which is written to; others are replicas, or pools of their "
      "own\n" },
    { "mysql 'main' { servers = 'h:1' }", "c.lua:1: mysql \"main\": user: pool main has none\n" },
    { "mysql 'main' { servers = 'h:1', user = 'u', password = 4711 }",
      "c.lua:1: mysql \"main\": password must be text in quotes, not a number\n" },
    { "mysql 'main' { servers = 'h:1', user = 'u', replicas = { 'h:2', 'h:2' } }",
      "c.lua:1: mysql \"main\": replicas: pool main has h:2 twice\n" },
    { "mysql 'main' { servers = 'tls://h:1', user = 'u', cert = 'x' }", "c.lua:1: mysql \"main\": cert needs key\n" },
    { "memcache 'main' { servers = 'tls://h:1' }",
      "c.lua:1: memcache \"main\": servers must be HOST:PORT or unix:/PATH: memcached is not spoken to over tls, not "
      "\"tls://h:1\"\n" },
    { "shard 'U' { lookup_pool = 'L', lookup_table = 'a.b.c' }",
      "c.lua:1: shard \"U\": lookup_table must be the name of a table, or DB.NAME, not \"a.b.c\"\n" },
    { MYSQL_A "shard 'U' { lookup_pool = 'A' }", "c.lua:1: shard \"U\": lookup_table: shard U needs it\n" },
    { MYSQL_A "shard 'U' { strategy = 'hash' }", "c.lua:1: shard \"U\": pools: shard U needs it\n" },
    { MYSQL_A "shard 'U' { strategy = 'hash', pools = 'A A' }", "c.lua:1: shard \"U\": pools: shard U has A twice\n" },
    { MYSQL_A "shard 'U' { strategy = 'hash', pools = 'A', map = '0-1023=A' }",
      "c.lua:1: shard \"U\": map is not for the strategy hash\n" },
    { "shard 'U' { strategy = 'vbucket' }", "c.lua:1: shard \"U\": pools: shard U needs pools or a map\n" },
    { "shard 'U' { strategy = 'vbucket', map = '0-1024=A' }",
      "c.lua:1: shard \"U\": map must be buckets of 0 to 1023 and a pool, such as 0-511=UserShard1, not "
      "\"0-1024=A\"\n" },
    { MYSQL_A "shard 'U' { strategy = 'vbucket', map = '0-511=A 511-1023=A' }",
      "c.lua:1: shard \"U\": map: shard U has bucket 511 twice\n" },
    { MYSQL_A "shard 'U' { strategy = 'vbucket', map = '0-511=A 513-1023=A' }",
      "c.lua:1: shard \"U\": map: shard U has no pool for bucket 512\n" },
    { MYSQL_A "shard 'U' { strategy = 'vbucket', map = '0-1023=B' }",
      "c.lua:1: shard \"U\": map: there is no mysql pool \"B\"\n" },
    { MYSQL_A "shard 'A' { strategy = 'vbucket', map = '0-1023=A' }",
      "c.lua:1: shard \"A\": name: there is a mysql pool A too, which nobody could reach\n" },
    { "mysql 'Alpha' { servers = 'h:1', user = 'u' } shard 'U' { strategy = 'hash', pools = 'Alpah' }",
      "c.lua:1: shard \"U\": pools: there is no mysql pool \"Alpah\": did you mean \"Alpha\"?\n" },
    { MYSQL_A "shard 'V' { strategy = 'hash', pools = 'A' } shard 'U' { lookup_pool = 'V', lookup_table = 't' }",
      "c.lua:1: shard \"U\": lookup_pool: V is spread itself\n"
      "c.lua:1: shard \"U\": lookup_pool: there is no mysql pool \"V\"\n" },
    { "memcache 'main' { servers = 'h:1', replica_num = 2 }",
      "c.lua:1: memcache \"main\": replica_num must be at most the number of servers (1), not 2\n" },
    { "memcache 'main' { servers = { 'h:1', 'h:2*3' }, select = 'modulo' }",
      "c.lua:1: memcache \"main\": servers: modulo knows no weights\n" },
    { "kv_backend 'rdis:main'", "c.lua:1: kv_backend must be local, redis:POOL or mysql:POOL, not \"rdis:main\"\n" },
    { "secrets { 'a', b = 1 }",
      "c.lua:1: secrets must be words in quotes, or a list of them such as { \"a\", \"b\" }, without names or gaps\n" },
    { "secrets { 'a', 5 }",
      "c.lua:1: secrets must be words in quotes, or a list of them such as { \"a\", \"b\" }, not 5\n" },
    { "secrets { 'a', 'b\\0' }", "c.lua:1: secrets must not hold a zero byte\n" },
    { "secrets(1)", "c.lua:1: secrets must be words in quotes, or a list of them such as { \"a\", \"b\" }, not 1\n" },
    { "secrets(string.rep('abc ', 300))", "c.lua:1: secrets is too long: its words may have 1023 bytes in all\n" },
    { "secrets { zzzzz }", "c.lua:1: unknown option \"zzzzz\"\n" },
    { "admin \"unix:a.sock\"", "c.lua:1: admin must be an address such as 127.0.0.1:9101, not unix:a.sock\n" },
    { "admin \"127.0.0.1\"", "c.lua:1: admin: \"127.0.0.1\" has no port, as in tcp://127.0.0.1:9001\n" },
    { "watchdog_warn_ms(6000)", "c.lua:1: watchdog_warn_ms must be less than watchdog_kill_ms (5000), not 6000\n" },
    { "\nwatchdog_kill_ms(2000)", "c.lua:2: watchdog_warn_ms must be less than watchdog_kill_ms (2000), not 2000\n" },
    { "drain_spread_ms(3000)\ndrain_ms(2999)\nwatchdog_warn_ms(5000)",
      "c.lua:2: drain_spread_ms must be at most drain_ms (2999), not 3000\n"
      "c.lua:3: watchdog_warn_ms must be less than watchdog_kill_ms (5000), not 5000\n" },
    { "return workers(99)", "c.lua:1: workers must be 0 to 64, not 99\n" },
    { "local function f(n)\n  workers(n)\nend\nf(70)", "c.lua:2: workers must be 0 to 64, not 70\n" },
    /* names */
    { "workrs(4)", "c.lua:1: unknown option \"workrs\": did you mean \"workers\"?\n" },
    { "lisen \"tcp://*:1\"", "c.lua:1: unknown option \"lisen\": did you mean \"listen\"?\n" },
    { "servnt \"x\" { a = 1 }", "c.lua:1: unknown option \"servnt\": did you mean \"servant\"?\n" },
    { "log_level(debug)", "c.lua:1: unknown option \"debug\"\n" },
    { "local x = zzzzz + 1 .. 'a'\nlocal y = -zzzzz.b.c(1) < zzzzz", "c.lua:1: unknown option \"zzzzz\"\n"
                                                                     "c.lua:2: unknown option \"zzzzz\"\n" },
    { "workers = 4", "c.lua:1: workers is set by a call: write workers(4)\n" },
    { "run_dir = 'x'", "c.lua:1: run_dir is set by a call: write run_dir(\"x\")\n" },
    { "listen = { 'tcp://*:1' }", "c.lua:1: listen is set by a call: write listen { ... }\n" },
    { "wrokers = 4", "c.lua:1: unknown option \"wrokers\": did you mean \"workers\"?\n" },
    { "zzzzz = 4\nworkers(zzzzz)", "c.lua:1: unknown option \"zzzzz\": a variable of your own begins with local\n" },
    { "print(1)\nrequire 'x'\nlocal f = io.open('x')\nos.exit(1)\n",
      "c.lua:1: unknown option \"print\"\nc.lua:2: unknown option \"require\"\nc.lua:3: unknown option \"io\"\n"
      "c.lua:4: attempt to call field 'exit' (a nil value)\n" },
    { "setfenv(1, {})", "c.lua:1: unknown option \"setfenv\"\n" },
    { "for i = 1, 3 do zzzzz(i) end", "c.lua:1: unknown option \"zzzzz\"\n" },
    /* listen */
    { "listen()", "c.lua:1: listen takes one address or one table, not 0 values\n" },
    { "listen(9001)", "c.lua:1: listen takes an address in quotes or a table, not 9001\n" },
    { "listen {}", "c.lua:1: listen: an address is missing, as in listen { \"unix:fae.sock\" }\n" },
    { "listen \"\"", "c.lua:1: listen: addr must not be empty\n" },
    { "listen \"localhost\"", "c.lua:1: listen: \"localhost\" has no port, as in tcp://127.0.0.1:9001\n" },
    { "listen \"example.org:80\"",
      "c.lua:1: listen: \"example.org\" is not an IP address (names are not looked up)\n" },
    { "listen \"http://127.0.0.1:1\"",
      "c.lua:1: listen: \"http://127.0.0.1:1\": an address starts with tcp://, tls:// or unix:\n" },
    { "listen { \"unix:a\", mod = \"0600\" }", "c.lua:1: listen: unknown option \"mod\": did you mean \"mode\"?\n" },
    { "listen {\n  \"unix:a\",\n  -- mod = 1\n  x = \"mod = 1\",\n  mod = \"0600\",\n}",
      "c.lua:4: listen: unknown option \"x\"\nc.lua:5: listen: unknown option \"mod\": did you mean \"mode\"?\n" },
    { "listen { \"unix:a\",\n  mode = \"0999\" }", "c.lua:2: listen: mode must be an octal number, not \"0999\"\n" },
    { "listen { \"unix:a\",\n\n  [\"mode\"] = 1000 }", "c.lua:3: listen: mode must be 00 to 0777, not 1000\n" },
    { "listen { \"unix:a\",\n  half_close = 1 }", "c.lua:2: listen: half_close must be true or false, not 1\n" },
    { "listen { \"tcp://*:1\",\n mode = \"0600\" }", "c.lua:2: listen: mode is for unix sockets, tcp://*:1 is none\n" },
    { "listen { \"tcp://*:1\",\n group = \"mail\" }",
      "c.lua:2: listen: group is for unix sockets, tcp://*:1 is none\n" },
    { "listen { \"unix:a\", \"unix:b\" }", "c.lua:1: listen: takes one address; call listen again for the next\n" },
    { "listen { \"unix:a\",\n addr = \"unix:b\" }",
      "c.lua:2: listen: takes one address; call listen again for the next\n" },
    { "listen { 5 }", "c.lua:1: listen: addr must be text in quotes, not 5\n" },
    { "listen { \"unix:a\", [true] = 1 }", "c.lua:1: listen: a key is no name\n" },
    { "listen \"unix:a\"\nlisten \"tcp://localhost:7\"\nlisten { \"127.0.0.1:7\" }\nlisten \"unix:a\"",
      "c.lua:3: listen: tcp://127.0.0.1:7 is already on line 2\nc.lua:4: listen: unix:a is already on line 1\n" },
    { "for i = 1, 18 do listen(\"127.0.0.1:\" .. i) end", "c.lua:1: listen: at most 16\n" },
    { "listen 'tls://*:1'", "c.lua:1: listen: tls://*:1 needs cert and key\n" },
    { "listen { 'tls://*:1',\n cert = 'c' }", "c.lua:2: listen: cert needs key\n" },
    { "listen { 'tls://*:1', cert = 'c', key = 'k',\n client_cert_required = true }",
      "c.lua:2: listen: client_cert_required needs client_ca\n" },
    { "listen { 'tcp://*:1',\n cert = 'c',\n client_ca = 'a' }",
      "c.lua:2: listen: cert is for tls:// addresses, tcp://*:1 is none\n"
      "c.lua:3: listen: client_ca is for tls:// addresses, tcp://*:1 is none\n" },
    { "listen { 'tls://*:1', cert = 'c', key = 'k',\n mode = '0600' }",
      "c.lua:2: listen: mode is for unix sockets, tls://*:1 is none\n" },
    { "listen 'tcp://*:1'\nlisten { 'tls://*:1', cert = 'c', key = 'k' }",
      "c.lua:2: listen: tcp://0.0.0.0:1 is already on line 1\n" },
    { "listen { 'unix:a', roles = 'web' }", "c.lua:1: listen: roles: there is no role \"web\"\n" },
    /* sections */
    { "limit(5, {})", "c.lua:1: limit takes a text in quotes and a table, as in limit \"shop.*\" { calls = 100, "
                      "rate = 5000, burst = 500, slow_ms = 200 }, not 5\n" },
    { "limit 'a.b'", "c.lua:1: limit \"a.b\" has no table: write limit \"a.b\" { ... }\n" },
    { "limit 'a.b' 'c'", "c.lua:1: limit \"a.b\": takes a table, not \"c\"\n" },
    { "limit('a.b', 1)", "c.lua:1: limit \"a.b\": takes a table, not 1\n" },
    { "local f = limit 'a.b'\nf {}\nf {}", "c.lua:1: limit \"a.b\": takes one table\n" },
    { "limit 'a.b' {}\n\nlimit 'a.b' {}", "c.lua:3: limit \"a.b\" was already set on line 1\n" },
    { "limit 'a.b' {\n calls = -1,\n rates = 5 }",
      "c.lua:2: limit \"a.b\": calls must be a whole number, not \"-1\"\n"
      "c.lua:3: limit \"a.b\": unknown option \"rates\": did you mean \"rate\"?\n" },
    { "limit 'a.b' { 'c' }", "c.lua:1: limit \"a.b\": names are needed here, as in limit \"shop.*\" { calls = 100, "
                             "rate = 5000, burst = 500, slow_ms = 200 }\n" },
    { "limit 'a.b' { methods = 'c.d' }", "c.lua:1: limit \"a.b\": unknown option \"methods\"\n" },
    { "limit 'a-b' {}", "c.lua:1: limit: methods must be a method such as \"shop.buy\", or \"shop.*\" for all of a "
                        "servant, not \"a-b\"\n" },
    { "limit '*' {}\nlimit 'a.' {}\nlimit 'a.b*' {}\nlimit '.b' {}",
      "c.lua:1: limit: methods " METHODS ", not \"*\"\n"
      "c.lua:2: limit: methods " METHODS ", not \"a.\"\n"
      "c.lua:3: limit: methods " METHODS ", not \"a.b*\"\n"
      "c.lua:4: limit: methods " METHODS ", not \".b\"\n" },
    { "limt 'a.b' {}", "c.lua:1: unknown option \"limt\": did you mean \"limit\"?\n" },
    { "limit 'a.b' { rate = zzzzz }", "c.lua:1: unknown option \"zzzzz\"\n" },
    { "for i = 1, 257 do limit('a.m' .. i, {}) end", "c.lua:1: limit: at most 256\n" },
    { "role 'a b' {}", "c.lua:1: role: name " WORD ", not \"a b\"\n" },
    { "role 'web' {\n allow = 'shop.*',\n deny = { 'a', 'shop/x' } }",
      "c.lua:3: role \"web\": deny must be methods or globs such as \"shop.*\" or \"*\", not \"shop/x\"\n" },
    { "role 'web' {}\ntoken 't' { sha256 = '" HASH "',\n roles = 'wbe' }",
      "c.lua:3: token \"t\": roles: there is no role \"wbe\": did you mean \"web\"?\n" },
    /* A role that was wrong is not called missing as well. */
    { "role 'web' { allow = 1 }\naccount '33' { roles = 'web' }",
      "c.lua:1: role \"web\": allow must be words in quotes, or a list of them such as { \"a\", \"b\" }, not 1\n" },
    { "token 't' {}", "c.lua:1: token \"t\": sha256 is missing, as in token \"cron\" { sha256 = os.getenv "
                      "\"CRON_SHA256\", roles = \"web\" }\n" },
    { "token 't' { sha256 = '1234' }", "c.lua:1: token \"t\": sha256 must have at least 64 bytes, not 4\n" },
    { "token 't' { sha256 = string.rep('x', 64) }",
      "c.lua:1: token \"t\": sha256 must be a SHA-256 of 64 hex digits\n" },
    { "\naccount 'nosuchaccount' {}",
      "c.lua:2: account \"nosuchaccount\": there is no such account on this machine\n" },
    { "account '99999999999' {}", "c.lua:1: account \"99999999999\": there is no such account on this machine\n" },
    { "account 'a b' {}", "c.lua:1: account: name must be the name of an account, or its number, not \"a b\"\n" },
    { "certificate 'shop' { roles = 'x' }", "c.lua:1: certificate \"shop\": roles: there is no role \"x\"\n" },
    { "fence 'a' {\n allow = 'io.popn' }",
      "c.lua:2: fence \"a\": allow must be of debug, ffi, io.popen, loadlib and os.execute, not \"io.popn\": did you "
      "mean \"io.popen\"?\n" },
    { "fence 'a.lua' {}", "c.lua:1: fence: name must be a name of letters, digits and \"_\", not \"a.lua\"\n" },
    { "plugin 'a' { 1 }", "c.lua:1: plugin \"a\": names are needed here, as in { size = 10 }\n" },
    { "plugin 'a' {}\nplugin 'a' {}", "c.lua:2: plugin \"a\" was already set on line 1\n" },
    { "plugin 'a'", "c.lua:1: plugin \"a\" has no table: write plugin \"a\" { ... }\n" },
    /* servants */
    { "servant(5)", "c.lua:1: servant takes a servant's name in quotes, as in servant \"shop\" { ... }, not 5\n" },
    { "servant \"a-b\" { x = 1 }",
      "c.lua:1: servant takes a servant's name in quotes, as in servant \"shop\" { ... }, not \"a-b\"\n" },
    { "servant \"a\"", "c.lua:1: servant \"a\" has no table: write servant \"a\" { ... }\n" },
    { "servant \"a\" \"b\"", "c.lua:1: servant \"a\" takes a table, not \"b\"\n" },
    { "servant(\"a\", 1)", "c.lua:1: servant \"a\" takes a table, not 1\n" },
    { "servant \"a\" {}\nservant \"a\" {}", "c.lua:2: servant \"a\" was already set on line 1\n" },
    { "local f = servant \"a\"\nf {}\nf {}", "c.lua:1: servant \"a\" takes one table\n" },
    { "servant \"a\" { 1, 2 }", "c.lua:1: servant \"a\": names are needed here, as in { size = 10 }\n" },
    { "servant \"a\" {\n  f = function() end,\n  t = { x = 1, 2 },\n  h = { 1, [3] = 3 },\n  n = 1/0,\n}",
      "c.lua:2: servant \"a\": f: a function cannot be a setting\n"
      "c.lua:3: servant \"a\": t: a table is either a list or has names, not both\n"
      "c.lua:4: servant \"a\": h: a list has no gaps and starts at 1\n"
      "c.lua:5: servant \"a\": n: JSON has no such number\n" },
    { "servant \"a\" {\n  p = { q = 1 },\n  r = {\n    { q = 2 },\n    { q = pairs } } }",
      "c.lua:4: servant \"a\": r[2].q: a function cannot be a setting\n" },
    { "servant \"a\" { s = \"\\255\" }", "c.lua:1: servant \"a\": s: text must be UTF-8\n" },
    { "servant \"a\" { [true] = 1 }", "c.lua:1: servant \"a\": a key is neither a name nor a number\n" },
    { "local t = {}\nt.t = t\nservant \"a\" { t = t }",
      "c.lua:3: servant \"a\": t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t: "
      "tables are too deep, or inside themselves\n" },
    { "servant \"a\" { s = string.rep('x', 1100000), t = 1 }",
      "c.lua:1: servant \"a\": t: too much: this is for settings, not for data\n" },
    { "servant \"a\" { x = zzzzz }", "c.lua:1: unknown option \"zzzzz\"\n" },
    /* Lua */
    { "workers(", "c.lua:1: unexpected symbol near '<eof>'\n" },
    { "workers(99)\nlisten {\n  'unix:a'\n  mode = 1\n}",
      "c.lua:4: '}' expected (to close '{' at line 2) near 'mode'\n" },
    { "workers(99)\nlocal x = nil .. 'a'\nworkers(98)",
      "c.lua:1: workers must be 0 to 64, not 99\nc.lua:2: attempt to concatenate a nil value\n" },
    { "string.rep()", "c.lua:1: bad argument #1 to 'rep' (string expected, got no value)\n" },
    { "local s = 'x'\nwhile true do s = s .. s end", "c.lua: needs more than 64 MiB of memory\n" },
    { "local t = {}\nfor i = 1, 1e9 do t[i] = { i } end", "c.lua: needs more than 64 MiB of memory\n" },
    { "local function f() return 1 + f() end\nf()", "c.lua:1: stack overflow\n" },
    { "string.dump(function() end)", "c.lua:1: attempt to call field 'dump' (a nil value)\n" },
    { "for k in pairs { [true] = 1 } do end",
      "c.lua:1: pairs: a key is neither text nor a number, so there is no order\n" },
};

static void names_every_error(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(wrong); i++)
        check_errors(wrong[i].text, wrong[i].errors);
}

static void refuses_compiled_lua(void **state)
{
    (void)state;
    check_errors("\x1bLJ\x02", "c.lua: is compiled Lua; only text is read\n");
}

static void lists_at_most_100(void **state)
{
    struct fae_buf text = { 0 }, want = { 0 };

    (void)state;
    for (unsigned i = 1; i <= 120; i++) {
        fae_buf_printf(&text, "zzzzz%u()\n", i);
        if (i <= 100)
            fae_buf_printf(&want, "c.lua:%u: unknown option \"zzzzz%u\"\n", i, i);
    }
    fae_buf_printf(&want, "c.lua: and 20 more\n");
    check_errors(fae_buf_text(&text), fae_buf_text(&want));
    fae_buf_fini(&text);
    fae_buf_fini(&want);
}

static void keeps_errors_on_one_line(void **state)
{
    (void)state;
    check_errors("log_level \"a\\nb\\27[0m\"",
                 "c.lua:1: log_level must be one of debug|info|warn|error, not \"a?b?[0m\"\n");
}

static void tells_what_is_wrong_with_the_file_itself(void **state)
{
    struct fae_buf rows = { 0 }, errors = { 0 };
    size_t len = 1024 * 1024 + 1;
    char *big = malloc(len);

    (void)state;
    assert_int_equal(fae_conf_eval("none.lua", &rows, &errors), FAE_NOT_FOUND);
    assert_string_equal(fae_buf_text(&errors), "none.lua: No such file or directory\n");
    errors.len = 0;
    assert_int_equal(fae_conf_eval(".", &rows, &errors), FAE_BAD_CONFIG);
    assert_string_equal(fae_buf_text(&errors), ".: Is a directory\n");
    errors.len = 0;
    assert_non_null(big);
    memset(big, ' ', len);
    write_file("big.lua", big, len);
    assert_int_equal(fae_conf_eval("big.lua", &rows, &errors), FAE_BAD_CONFIG);
    assert_string_equal(fae_buf_text(&errors), "big.lua: is larger than 1024 KiB\n");
    assert_int_equal(rows.len, 0);
    free(big);
    fae_buf_fini(&rows);
    fae_buf_fini(&errors);
}

static void gives_what_was_right_when_asked(void **state)
{
    static const char text[] = "workers(3)\nrun_dir(7)\nlisten { \"unix:a\", mode = 1000 }\nlisten \"unix:b\"\n"
                               "servants_dir \"mine\"\nservant \"x\" { f = pairs }\nservant \"y\" { a = 1 }";
    struct fae_buf rows = { 0 }, errors = { 0 };
    static struct fae_config config;
    char why[256];

    (void)state;
    write_file("c.lua", text, strlen(text));
    assert_int_equal(fae_conf_eval_some("c.lua", &rows, &errors), FAE_BAD_CONFIG);
    fae_config_init(&config);
    assert_int_equal(fae_config_apply(&config, rows.data, rows.len, why, sizeof why), FAE_OK);
    assert_int_equal(config.workers, 3);
    assert_string_equal(config.run_dir, "run");
    assert_string_equal(config.servants_dir, "mine");
    assert_int_equal(config.n_listen, 1);
    assert_string_equal(config.listen[0].addr, "unix:b");
    assert_string_equal(config.servants_json, "{\"y\":{\"a\":1}}");
    fae_config_fini(&config);
    fae_buf_fini(&rows);
    fae_buf_fini(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_every_error),
        cmocka_unit_test(refuses_compiled_lua),
        cmocka_unit_test(lists_at_most_100),
        cmocka_unit_test(keeps_errors_on_one_line),
        cmocka_unit_test(tells_what_is_wrong_with_the_file_itself),
        cmocka_unit_test(gives_what_was_right_when_asked),
    };

    return cmocka_run_group_tests(tests, enter_dir, leave_dir);
}
