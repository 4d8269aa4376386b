#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What the compiler does not check: the include arrows, who may see which outside header, headers that compile alone,
# SPDX lines, folder READMEs, luacheck. Prints what is wrong as file:line: text, and closes with "N passed, N failed" checks.
set -u
cd "$(dirname "$0")/.." || exit 1

passed=0
failed=0

# A folder, and the folders it may include. What is not named here is refused; see ARCHITECTURE.md for the reasons.
ARROWS='
main     cmd proc ops vm cluster rpc backend net wire store base
cmd      proc ops vm cluster rpc backend net wire store base
proc     ops vm cluster rpc backend net wire store base
ops      cluster rpc backend net wire store base
vm       cluster rpc backend net wire store base
cluster  rpc backend net wire store base
rpc      net wire store base
backend  net wire store base
store    base
net      base
wire     base
base
'

# The start of an outside header's name, and the only place under src that may include it.
OUTSIDE='
lua.h        vm/
lua-cjson.h  vm/
lauxlib.h    vm/
lualib.h     vm/
luajit.h     vm/
event.h      (nowhere)
event2/      net/
hiredis      backend/redis_wire.c
libmemcached (nowhere)
mysql        backend/mysql
mongoc       backend/mongo.c
zookeeper    cluster/
lmdb.h       store/kv
openssl/     net/
seccomp.h    proc/seccomp.c
'

# Everything below prints one line per finding.

# file:line:"path" for each include of our own headers, file:line:<path> for the others
includes() {
    grep -rnE '^[[:space:]]*#[[:space:]]*include' src --include='*.[ch]' |
        sed -nE 's/^([^:]+:[0-9]+):[^"<]*(["<][^">]+[">]).*/\1:\2/p'
}

check_arrows() {
    includes | awk -F: -v table="$ARROWS" '
        BEGIN {
            n = split(table, rows, "\n")
            for (i = 1; i <= n; i++) {
                m = split(rows[i], word, " ")
                if (m) known[word[1]] = 1
                for (j = 2; j <= m; j++) may[word[1], word[j]] = 1
            }
        }
        $3 ~ /^"/ {
            path = substr($3, 2, length($3) - 2)
            from = substr($1, 5)
            from = index(from, "/") ? substr(from, 1, index(from, "/") - 1) : "main"
            to = index(path, "/") ? substr(path, 1, index(path, "/") - 1) : ""
            if (to == "" || system("test -f src/" path) != 0)
                print $1 ":" $2 ": " $3 " is not a path from src/"
            else if (!(from in known))
                print $1 ":" $2 ": folder " from " has no row in the table of spec/lint.sh"
            else if (from != to && !((from, to) in may))
                print $1 ":" $2 ": " from "/ may not include " to "/"
        }'
}

check_outside() {
    includes | awk -F: -v table="$OUTSIDE" '
        BEGIN {
            n = split(table, rows, "\n")
            for (i = 1; i <= n; i++)
                if (split(rows[i], word, " ") == 2) place[word[1]] = word[2]
        }
        $3 ~ /^</ {
            path = substr($3, 2, length($3) - 2)
            for (head in place)
                if (index(path, head) == 1 && index($1, "src/" place[head]) != 1)
                    print $1 ":" $2 ": <" path "> belongs to " place[head]
        }'
}

# A .c file includes its own header first, which shows that the header needs nothing before it.
check_own_first() {
    local file header first

    while read -r file; do
        header=${file%.c}.h
        [ -f "$header" ] || continue
        first=$(grep -m 1 -nE '^#include' "$file")
        [[ $first == *"\"${header#src/}\""* ]] || echo "$file:${first%%:*}: its first include should be \"${header#src/}\""
    done < <(find src -name '*.c' | sort)
}

check_headers_alone() {
    local flags

    flags=$(pkg-config --cflags luajit libevent_core jansson msgpack libxxhash hiredis libmariadb) || return
    # shellcheck disable=SC2086 # flags are words
    find src -name '*.h' | sort | xargs -r -P "$(nproc)" -I {} \
        gcc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Isrc $flags -idirafter /usr/include/lua5.1 -fsyntax-only -x c {} 2>&1
}

check_spdx() {
    find src lua servants spec conf lib dashboard Makefile .ci -type f \
        \( -name '*.[ch]' -o -name '*.lua' -o -name '*.sh' -o -name '*.py' -o -name '*.php' -o -name '*.js' \
        -o -name '*.css' -o -name Makefile -o -path '.ci/*' \) 2>/dev/null | sort |
        while read -r file; do
            head -n 3 "$file" | grep -q 'SPDX-License-Identifier: BSD-2-Clause' || echo "$file:1: no SPDX line"
        done
}

# Text a reader trips over: tabs in C and Lua, blanks at line ends, no newline at the end, notes to self.
check_text() {
    local files

    mapfile -t files < <(find src lua servants spec conf -type f \( -name '*.[ch]' -o -name '*.lua' -o -name '*.sh' \
        -o -name '*.py' -o -name '*.md' \) ! -path spec/lint.sh 2>/dev/null | sort)
    [ ${#files[@]} -gt 0 ] || return 0
    grep -nE '[[:space:]]+$' "${files[@]}" | sed -E 's/^([^:]+:[0-9]+):.*/\1: blanks at the end of the line/'
    grep -nE '(^|[^A-Za-z0-9_])(TODO|FIXME|XXX)([^A-Za-z0-9_]|$)' "${files[@]}"
    grep -nP '^ *\t' "${files[@]}" | grep -E '\.([ch]|lua|py):' | sed -E 's/^([^:]+:[0-9]+):.*/\1: a tab/'
    local file
    for file in "${files[@]}"; do
        [ ! -s "$file" ] || [ -z "$(tail -c 1 "$file")" ] || echo "$file: no newline at the end"
    done
}

# The README of a folder of src names each of its files, by `name` or `name.c`, and none that is not there.
check_readmes() {
    local folder readme file name

    for folder in src/*/; do
        readme=${folder}README.md
        [ -n "$(find "$folder" -name '*.[ch]' -print -quit)" ] || continue
        if [ ! -f "$readme" ]; then
            echo "$folder: no README.md"
            continue
        fi
        while read -r file; do
            name=${file##*/}
            grep -qE "\`${name%.*}(\.[ch])?\`" "$readme" || echo "$readme: does not tell of $name"
        done < <(find "$folder" -name '*.[ch]' | sort)
        while read -r name; do
            [ -f "$folder$name" ] || [ -f "src/$name" ] || [ "$name" = lua.h ] || echo "$readme: there is no $name"
        done < <(grep -oE '`[a-z0-9_/]+\.[ch]`' "$readme" | tr -d '`' | sort -u)
    done
}

check_luacheck() {
    local folders=() folder

    for folder in lua servants spec/lua; do
        [ -z "$(find "$folder" -name '*.lua' -print -quit 2>/dev/null)" ] || folders+=("$folder")
    done
    [ ${#folders[@]} -eq 0 ] || luacheck --quiet --no-color --codes --formatter plain "${folders[@]}"
}

# A check passes when it prints nothing.
check() {
    local found

    found=$("check_$1" 2>&1)
    if [ -z "$found" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s\n%s\n' "lint: $1" "$found"
    fi
}

for name in arrows outside own_first headers_alone spdx text readmes luacheck; do
    check "$name"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
