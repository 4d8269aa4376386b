# SPDX-License-Identifier: BSD-2-Clause
#
# fae: one Makefile, no generator. `make help` lists the targets. Everything built lands in $(B).
#   V=1 shows whole commands; B=dir builds elsewhere; NODEPS=1 skips the look for Debian packages.

VERSION = 0.1.0

B ?= build
CC = gcc
AR = ar
PYTHON = /usr/bin/python3
PREFIX = /usr/local
SYSCONFDIR = $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
OPT = -O2
WERROR = -Werror
SAN =
SUITES = unit lua e2e fuzz lint
SECS = 60

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all help run check check-unit check-lua check-e2e check-fuzz check-built asan tsan fuzz bench survive cover fmt \
	fmt-check lint tidy docs install dist clean deps deps-build FORCE
.DEFAULT_GOAL := all
export LC_ALL = C.UTF-8

# ---- packages, by their Debian 12 names ----

BUILD_DEPS = make gcc libc6-dev binutils pkg-config libluajit-5.1-dev libevent-dev libjansson-dev libmsgpack-dev \
	libxxhash-dev lua-cjson-dev libssl-dev libseccomp-dev liblmdb-dev libhiredis-dev libmariadb-dev
TEST_DEPS = git libcmocka-dev libmemcached-dev lua-busted lua-check python3 python3-msgpack python3-pytest neovim python3-pynvim \
	php-cli php-msgpack php-redis php-mysql php-fpm nginx-light phpunit clang llvm clang-format clang-tidy libclang-rt-14-dev redis-server \
	memcached nutcracker mariadb-server faketime procps iproute2 nftables curl openssl prometheus $(if $(shell command -v npm),,nodejs npm)

DEPS = $(BUILD_DEPS) $(TEST_DEPS)

# missing LIST: those of the packages that dpkg does not know as installed
missing = $(filter-out $(patsubst %=installed,%,$(filter %=installed,\
	$(shell dpkg-query -W -f='$${Package}=$${db:Status-Status} ' $(1) 2>/dev/null))),$(1))

# RUNLEVEL=1: a package that brings a daemon must not start it here; the tests start their own.
define apt_install
	@command -v apt-get >/dev/null || { echo "no apt-get here: install by hand, then NODEPS=1:$(1)" >&2; exit 1; }
	@echo "  APT $(1)"
	@set -e; sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -q; \
	$$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends $(1)
endef

# ---- flags ----

PKGS = luajit libevent_core libevent_extra libevent_openssl jansson msgpack libxxhash libssl libcrypto libseccomp lmdb hiredis libmariadb
# Asked once, and only by a rule that compiles: `make help` and `make deps` work on a bare machine.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PKGS)))$(PKG_LIBS)

HARDEN = -fPIE -fstack-protector-strong -fcf-protection $(if $(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
# -fexceptions: a Lua error unwinds through C frames, and TSan's shadow stack is wrong without it.
CFLAGS = -std=gnu11 $(OPT) -g -fexceptions -fno-omit-frame-pointer -Wall -Wextra $(WERROR) $(HARDEN) $(SAN)
# lua-cjson.h lies among the headers of Lua 5.1, which must not come before LuaJIT's.
CPPFLAGS = -D_GNU_SOURCE -Isrc $(PKG_CFLAGS) -idirafter /usr/include/lua5.1
LDFLAGS = -rdynamic -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SAN)
LIBS = -l:liblua5.1-cjson.a $(PKG_LIBS) -lpthread -ldl -lm

# ---- what there is ----

SRC := $(sort $(shell find src -name '*.c'))
OBJ := $(SRC:src/%.c=$(B)/obj/%.o)
LIB_OBJ := $(filter-out $(B)/obj/main.o,$(OBJ)) $(B)/embed.o
EMBED := $(sort $(wildcard lua/fae/*.lua servants/*.lua servants/plugins/*.lua))
UNIT := $(patsubst spec/unit/%.c,$(B)/unit/%,$(sort $(wildcard spec/unit/test_*.c)))
UNIT_HELP := $(patsubst spec/unit/%.c,$(B)/spec/unit/%.o,$(filter-out spec/unit/test_%,$(wildcard spec/unit/*.c)))
FUZZ := $(patsubst spec/fuzz/%.c,%,$(sort $(wildcard spec/fuzz/fuzz_*.c)))
REPLAY := $(FUZZ:%=$(B)/replay/%)
FORMATTED = $(shell find src spec -name '*.[ch]')

Q = $(if $(V),,@)
say = $(if $(V),,@printf '  %-4s %s\n' $(1) '$(2)')
# keep FILE TEXT: writes TEXT if FILE says something else, so that what depends on it is rebuilt only then
keep = @mkdir -p $(dir $(1)); printf '%s\n' '$(subst ','\'',$(2))' | cmp -s - $(1) || \
	printf '%s\n' '$(subst ','\'',$(2))' > $(1)
# Outer goals see to the packages first; the inner make then finds them.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
INNER = $(MAKE) --no-print-directory $(JOBS)

all: ## build build/fae
	@$(INNER) $(B)/fae

# ---- build ----

$(B)/fae: $(B)/obj/main.o $(LIB_OBJ) $(B)/objects
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS)

$(B)/libfae.a: $(LIB_OBJ) $(B)/objects
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(B)/obj/%.o: src/%.c $(B)/flags
	$(call say,CC,$*.c)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Only these know the version: a commit does not rebuild the rest.
VERSION_OBJ := $(filter %/cmd/version.o %/vm/bind_sys.o,$(OBJ))
$(VERSION_OBJ): $(B)/version
$(VERSION_OBJ): private CPPFLAGS += -DFAE_VERSION='"$(VERSION)"' -DFAE_BUILD='"$(BUILD_ID)"'
BUILD_ID = $(eval BUILD_ID := $$(or $$(shell git describe --always --dirty 2>/dev/null),unknown))$(BUILD_ID)

$(B)/version: FORCE
	$(call keep,$@,$(VERSION) $(BUILD_ID))
$(B)/flags: FORCE
	$(call keep,$@,$(CC) $(CPPFLAGS) $(CFLAGS))
$(B)/objects: FORCE
	$(call keep,$@,$(OBJ) $(LDFLAGS) $(LIBS))
$(B)/embed.list: FORCE
	$(call keep,$@,$(EMBED))
FORCE:

# The Lua files go in by .incbin, which gcc and clang both know; lengths are counted here, so a change writes it anew.
$(B)/embed.c: $(B)/embed.list $(EMBED) Makefile
	$(call say,GEN,$@)
	$(Q){ \
	echo '/* Made by make from lua/fae and servants. */'; \
	echo '#include "vm/embed.h"'; \
	echo 'const unsigned fae_embed_n_files = $(words $(EMBED));'; \
	i=0; for f in $(EMBED); do i=$$((i + 1)); \
		printf '__asm__(".pushsection .rodata; fae_embed_%u: .incbin \\"%s\\"; .byte 0; .popsection");\n' $$i $$f; \
		printf 'extern const char fae_embed_%u[] __attribute__((visibility("hidden")));\n' $$i; \
	done; \
	echo 'const struct fae_embed_file fae_embed_files[] = {'; \
	i=0; for f in $(EMBED); do i=$$((i + 1)); \
		printf '    { "%s", fae_embed_%u, %u },\n' $$f $$i $$(wc -c < $$f); done; \
	echo '    { NULL, NULL, 0 },'; \
	echo '};'; \
	} > $@

$(B)/embed.o: $(B)/embed.c $(B)/flags
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Programs of spec: one a file, standing on everything but main.c.
$(B)/spec/%.o: spec/%.c $(B)/flags
	$(call say,CC,spec/$*.c)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -Ispec $(CFLAGS) -MMD -MP -c -o $@ $<

$(UNIT): $(B)/unit/%: $(B)/spec/unit/%.o $(UNIT_HELP) $(B)/libfae.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

# The library that it asks.
$(B)/unit/test_selector_memcache: private LIBS += -lmemcached

$(REPLAY): $(B)/replay/%: $(B)/spec/fuzz/%.o $(B)/spec/fuzz/replay.o $(B)/libfae.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(FUZZ:%=$(B)/%): $(B)/%: $(B)/spec/fuzz/%.o $(B)/libfae.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

-include $(OBJ:.o=.d) $(B)/embed.d $(wildcard $(B)/spec/*/*.d)

# ---- run and check ----

run: ## build what is missing and serve with conf/fae.lua
	$(call need,deps-build,$(BUILD_DEPS))
	@$(INNER) $(B)/fae
	@exec $(B)/fae serve -c conf/fae.lua

CHECKED = $(strip $(if $(filter lua e2e,$(SUITES)),$(B)/fae) $(if $(filter unit,$(SUITES)),$(UNIT)) \
	$(if $(filter fuzz,$(SUITES)),$(REPLAY)))
check: ## every suite, closing with "N passed, N failed"; ONLY=name picks specs by name
	$(call need,deps,$(DEPS))
	$(if $(CHECKED),@$(INNER) $(CHECKED))
	@B='$(B)' ONLY='$(ONLY)' PYTHON='$(PYTHON)' spec/run.sh $(SUITES)

check-unit: ## spec/unit: C, one cmocka program a file
	@$(MAKE) --no-print-directory check SUITES=unit
check-lua: ## spec/lua: busted inside the server; JIT on, JIT off, collector never resting
	@$(MAKE) --no-print-directory check SUITES=lua
check-e2e: ## spec/e2e: a real server and stock clients
	@$(MAKE) --no-print-directory check SUITES=e2e
check-fuzz: ## the seeds of spec/fuzz, each once
	@$(MAKE) --no-print-directory check SUITES=fuzz
lint: ## the include arrows, headers alone, SPDX lines, luacheck (all part of check), and clang-tidy
	@$(MAKE) --no-print-directory check SUITES=lint
	@$(MAKE) --no-print-directory tidy

RUNTIME_SUITES = $(filter-out lint,$(SUITES))
# clang: gcc's UBSan runtime beside its ASan writes to stderr whatever log_path says, and a worker's report is lost.
asan: ## check with AddressSanitizer and UBSan, in build/asan
	@$(MAKE) --no-print-directory check B=build/asan CC=clang SUITES='$(RUNTIME_SUITES)' OPT=-O1 \
		SAN='-fsanitize=address,undefined -fno-sanitize-recover=undefined'
tsan: ## check with ThreadSanitizer, in build/tsan; SUITES=unit for the stress programs alone
	@$(MAKE) --no-print-directory check B=build/tsan CC=clang SUITES='$(RUNTIME_SUITES)' OPT=-O1 SAN='-fsanitize=thread'

# ASan's quarantine would fill 256 MiB by itself.
FUZZ_FLAGS = -max_len=4096 -timeout=1 -rss_limit_mb=256 -print_final_stats=1
fuzz: ## T=msgpack SECS=60: libFuzzer on spec/fuzz/fuzz_T.c; a crash is left in build/fuzz
	$(call need,deps,$(DEPS))
	@test -f 'spec/fuzz/fuzz_$(T).c' || { echo "make fuzz T=name [SECS=60]; names: $(FUZZ:fuzz_%=%)" >&2; exit 2; }
	@$(INNER) build/fuzz/fuzz_$(T) B=build/fuzz CC=clang WERROR= OPT=-O1 \
		SAN='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all'
	@mkdir -p build/fuzz/corpus-$(T)
	ASAN_OPTIONS=quarantine_size_mb=16 UBSAN_OPTIONS=print_stacktrace=1 build/fuzz/fuzz_$(T) -max_total_time=$(SECS) \
		$(FUZZ_FLAGS) -artifact_prefix=build/fuzz/$(T)- $(patsubst %,-dict=%,$(wildcard spec/fuzz/$(T).dict)) \
		build/fuzz/corpus-$(T) $(wildcard spec/fuzz/seeds/$(T))

survive: ## what takes too many sessions or too long for check (as root): limits, memory, overload; ARGS='R1 R7'
	$(call need,deps,$(DEPS))
	@$(INNER) $(B)/fae
	@FAE_BIN=$(abspath $(B)/fae) $(PYTHON) -B spec/fault/survive.py $(ARGS)

bench: ## server CPU per call against a bare limit server, several runs with their spread; ARGS='--only NAME'
	$(call need,deps,$(DEPS))
	@$(INNER) $(B)/fae
	@$(PYTHON) -B spec/bench/run.py --fae $(B)/fae $(ARGS)

cover: ## lines that unit and lua suites and cleanly ended servers ran, per file
	@rm -rf build/cover/obj/*/*.gcda
	@$(MAKE) --no-print-directory check B=build/cover SUITES='$(RUNTIME_SUITES)' OPT=-O1 \
		SAN='--coverage -fprofile-update=atomic'
	@for f in $(SRC); do gcov -n -r -o build/cover/obj/$$(dirname $${f#src/}) $$f 2>/dev/null; done | \
		awk -F"'" '/^File/ { file = $$2 } \
		/^Lines executed/ && file ~ /^src\/.*\.c$$/ { split($$0, n, /[:% ]+/); total += n[5]; hit += n[3] * n[5] / 100; \
			printf "%6.1f %%  %s\n", n[3], file; file = "" } \
		END { if (total) printf "%6.1f %%  of %d lines\n", 100 * hit / total, total }'

fmt: ## clang-format over src and spec
	clang-format -i $(FORMATTED)
fmt-check: ## fails where fmt would change something
	@clang-format --dry-run -Werror $(FORMATTED)
tidy: ## clang-tidy over src; the checks are in .clang-tidy
	$(call need,deps,$(DEPS))
	$(call say,TIDY,src)
	$(Q)printf '%s\n' $(SRC) | xargs -n 8 -P "$$(nproc)" sh -c \
		'clang-tidy --quiet "$$@" -- -std=gnu11 $(CPPFLAGS) -DFAE_VERSION=\"0\" -DFAE_BUILD=\"0\" 2>/dev/null' clang-tidy

docs: all ## conf/fae.lua and conf/README.md anew, from the table of options
	$(B)/fae check --print-defaults > $(B)/fae.lua && mv $(B)/fae.lua conf/fae.lua
	$(B)/fae check --print-reference > $(B)/reference.md && mv $(B)/reference.md conf/README.md

# ---- give away ----

install: all ## DESTDIR= PREFIX=/usr/local: the binary, its sample configuration, the client libraries
	install -D -m 755 $(B)/fae $(DESTDIR)$(PREFIX)/bin/fae
	for f in conf/*.lua; do install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/fae/$$f; done
	test -e $(DESTDIR)$(SYSCONFDIR)/fae/fae.lua || install -D -m 644 conf/fae.lua $(DESTDIR)$(SYSCONFDIR)/fae/fae.lua
	if test -f conf/fae.service; then install -D -m 644 conf/fae.service $(DESTDIR)$(PREFIX)/lib/systemd/system/fae.service; fi
	find lib -type f | while read -r f; do install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/share/fae/$$f"; done

dist: ## build/fae-VERSION.tar.gz of what is committed
	@mkdir -p build
	git archive --format=tar.gz --prefix=fae-$(VERSION)/ -o build/fae-$(VERSION).tar.gz HEAD
	@ls -l build/fae-$(VERSION).tar.gz

# ---- set-up ----

# need GOAL,LIST: installs when a package of the list is missing, else costs one dpkg-query
need = $(if $(NODEPS),,$(if $(call missing,$(2)),@$(MAKE) --no-print-directory $(1)))

deps: ## install the Debian packages that are missing (sudo when not root)
	$(if $(call missing,$(DEPS)),$(call apt_install,$(call missing,$(DEPS))),@echo "nothing is missing")
deps-build:
	@$(MAKE) --no-print-directory deps DEPS='$(BUILD_DEPS)'

clean: ## remove everything built
	rm -rf build $(B)

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1 \2/p' Makefile | \
		while read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done
