# Sandbox Server: `make run` and `make test` do everything on a fresh Debian 12 machine.
#
#   make build                    every program, build/release
#   make SAN=address,undefined …  the same under build/san-address-undefined
#   make CRASHPOINTS=1 …          the same under build/crashpoints, able to die where a test wants it
#   make CC=clang …               another compiler
#   make BUILD=dir …              another output folder
#
# One makefile, not recursive. A folder is a module: its *.c become build/<folder>.a, and a
# program names the modules it may link (so a forbidden dependency does not link).

ifeq ($(origin CC),default)
CC       := gcc
endif
SAN      ?=
CRASHPOINTS ?=
comma    := ,
VARIANT  := $(if $(CRASHPOINTS),crashpoints,$(if $(SAN),san-$(subst $(comma),-,$(SAN)),release))
BUILD    ?= build/$(VARIANT)
WERROR   ?= -Werror
OPT      ?= $(if $(SAN),-O1,-O2)
VERSION  ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
CPPFLAGS += -I. -D_GNU_SOURCE $(if $(CRASHPOINTS),-DCRASHPOINTS) \
            -DVERSION='"$(VERSION)$(if $(CRASHPOINTS),-crashpoints)"'
CFLAGS   += -std=c11 $(OPT) -g -fno-omit-frame-pointer -pthread \
            -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes \
            -Wundef -Wswitch-enum $(WERROR) $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all,-D_FORTIFY_SOURCE=2) \
            -fstack-protector-strong
LDFLAGS  += -pthread $(if $(SAN),-fsanitize=$(SAN))
# libcivetweb gets these of common/httpd/httpd_libc.c
LDFLAGS  += $(addprefix -Wl$(comma)--export-dynamic-symbol=,listen accept recv send pthread_attr_setstacksize)

LIB_base     := -lcjson -lsodium -lm
LIB_domain   :=
LIB_store    := -lpq
LIB_queue    := -lhiredis
LIB_provider := -lcurl
LIB_httpd    := -lcivetweb
LIB_proxy    := -lssl -lcrypto

PG_INCLUDE := -I$(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql)
CPPFLAGS_common/store := $(PG_INCLUDE)
# the store's tests look at the tables behind its back
CPPFLAGS_tests/integration := $(PG_INCLUDE)

# module name -> sources in its folder
module_src = $(sort $(wildcard common/$(1)/*.c))
define MODULE
$(BUILD)/common/$(1).a: $(patsubst %.c,$(BUILD)/%.o,$(call module_src,$(1)))
	@mkdir -p $$(@D); rm -f $$@; ar rcsD $$@ $$^
endef
# the schema travels inside the programs
MIGRATIONS := $(sort $(wildcard deploy/migrations/*.sql))
$(BUILD)/gen/migrations.c: common/store/migrations.sh $(MIGRATIONS)
	@mkdir -p $(@D); sh common/store/migrations.sh $(MIGRATIONS) >$@
$(BUILD)/gen/migrations.o: $(BUILD)/gen/migrations.c
	@$(CC) $(CPPFLAGS) $(PG_INCLUDE) $(CFLAGS) -Wno-overlength-strings -MMD -MP -c -o $@ $<
$(BUILD)/common/store.a: $(BUILD)/gen/migrations.o
# so do the scripts that run commands in a sandbox
EXEC_SCRIPTS := $(sort $(wildcard common/provider/scripts/*.sh))
$(BUILD)/gen/scripts.c: common/provider/scripts.sh $(EXEC_SCRIPTS)
	@mkdir -p $(@D); sh common/provider/scripts.sh $(EXEC_SCRIPTS) >$@
$(BUILD)/gen/scripts.o: $(BUILD)/gen/scripts.c
	@$(CC) $(CPPFLAGS) $(CFLAGS) -Wno-overlength-strings -MMD -MP -c -o $@ $<
$(BUILD)/common/provider.a: $(BUILD)/gen/scripts.o $(BUILD)/gen/command_runner.o $(BUILD)/gen/command_runner_path.o
# and the program that runs them there: static and small, for whatever a sandbox is made of
RUNNER_SRC := $(sort $(wildcard deploy/command-runner/*.c)) common/base/alloc.c
RUNNER_CFLAGS := -std=c11 -Os -ffunction-sections -fdata-sections -fstack-protector-strong \
            $(filter -W%,$(CFLAGS)) -Wno-unknown-warning-option -Wno-format-truncation
$(BUILD)/sandbox-command-runner: $(RUNNER_SRC) $(wildcard deploy/command-runner/*.h)
	@mkdir -p $(@D); echo "  CC $@"; $(CC) -I. -D_GNU_SOURCE $(RUNNER_CFLAGS) -static -s -Wl,--gc-sections -o $@ $(RUNNER_SRC)
$(BUILD)/gen/command_runner_path.o: $(BUILD)/sandbox-command-runner
	@mkdir -p $(@D); printf '#include "common/provider/sandbox_command.h"\nconst char command_runner_path[] = "/tmp/.sandbox-commands/runner-%.16s";\n' \
	    "$$(sha256sum <$<)" >$(@:.o=.c); $(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $(@:.o=.c)
$(BUILD)/gen/command_runner.o: $(BUILD)/sandbox-command-runner
	@mkdir -p $(@D); cd $(BUILD) && ld -r -b binary -z noexecstack -o gen/command_runner.o sandbox-command-runner

MODULES := base domain store queue provider httpd proxy
$(foreach m,$(MODULES),$(eval $(call MODULE,$(m))))

# sources of a program: its folder and the rooms in it
program_src = $(sort $(wildcard $(1)/*.c $(foreach r,$(ROOMS_$(1)),$(1)/$(r)/*.c)))
ROOMS_gateway := http e2b auth work data cli console
ROOMS_deploy/sandbox-host := api sandbox isolation

# program: folder, binary, modules in link order, extra libraries, objects it shares with another
define PROGRAM
$(BUILD)/$(2): $(patsubst %.c,$(BUILD)/%.o,$(call program_src,$(1)) $(5)) $(foreach m,$(3),$(BUILD)/common/$(m).a)
	@mkdir -p $$(@D); $(CC) $(LDFLAGS) -o $$@ $$(filter %.o,$$^) $(foreach m,$(3),$(BUILD)/common/$(m).a) $(foreach m,$(3),$(LIB_$(m))) $(4)
PROGRAMS += $(BUILD)/$(2)
endef
$(eval $(call PROGRAM,gateway,sandbox-gateway,proxy httpd provider store queue domain base,-ljwt))
$(eval $(call PROGRAM,lifecycle-worker,sandbox-worker,provider store queue domain base,))
$(eval $(call PROGRAM,reaper,sandbox-reaper,store queue domain base,))
$(eval $(call PROGRAM,deploy/sandbox-host,sandbox-host,proxy httpd base,-lseccomp))
$(eval $(call PROGRAM,deploy/sandbox-host/agent,sandbox-agent,httpd base,-lz,common/proxy/signature.c))
$(eval $(call PROGRAM,deploy/template/tool-server,sandbox-tool-server,httpd base,))

.PHONY: build
build: $(PROGRAMS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $<"; $(CC) $(CPPFLAGS) $(CPPFLAGS_$(patsubst %/,%,$(dir $<))) $(CFLAGS) -MMD -MP -c -o $@ $<

# the console's files are built in
$(BUILD)/gateway/console/console.o: $(wildcard gateway/console/*)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# C tests: tests/unit/test_<x>.c and tests/integration/test_<x>.c, one binary each
TEST_MODULES := proxy httpd provider store queue domain base
define CTEST
$(BUILD)/$(patsubst %.c,%,$(1)): $(BUILD)/$(patsubst %.c,%.o,$(1)) $(foreach m,$(TEST_MODULES),$(BUILD)/common/$(m).a) $(TEST_EXTRA_$(notdir $(basename $(1))))
	@echo "  LD $$@"; $(CC) $(LDFLAGS) -o $$@ $$(filter %.o,$$^) $(foreach m,$(TEST_MODULES),$(BUILD)/common/$(m).a) -lcmocka $(foreach m,$(TEST_MODULES),$(LIB_$(m))) -ljwt
endef
UNIT_SRC        := $(sort $(wildcard tests/unit/test_*.c))
INTEGRATION_SRC := $(sort $(wildcard tests/integration/test_*.c))
# objects of a program that a unit test needs beside the modules
AUTH_OBJECTS := $(patsubst %,$(BUILD)/gateway/%.o,auth/api_key auth/auth auth/jwt auth/password auth/login_limit auth/rights auth/user_name cli/user_cli)
TEST_EXTRA_test_auth := $(AUTH_OBJECTS)
TEST_EXTRA_test_login := $(AUTH_OBJECTS)
TEST_EXTRA_test_gate := $(BUILD)/lifecycle-worker/gate.o
TEST_EXTRA_test_placement := $(BUILD)/gateway/data/placement.o
TEST_EXTRA_test_network_rules := $(BUILD)/gateway/data/network_rules.o
TEST_EXTRA_test_files := $(BUILD)/deploy/sandbox-host/isolation/files.o
TEST_EXTRA_test_usage_prices := $(BUILD)/gateway/work/usage_prices.o
TEST_EXTRA_test_activity := $(BUILD)/gateway/work/activity.o
TEST_EXTRA_test_waiters := $(BUILD)/gateway/work/waiter.o
TEST_EXTRA_test_login_limit := $(BUILD)/gateway/auth/login_limit.o
TEST_EXTRA_test_router := $(filter-out %/main.o,$(patsubst %.c,$(BUILD)/%.o,$(call program_src,gateway)))
TEST_EXTRA_test_compare := $(BUILD)/lifecycle-worker/compare.o
TEST_EXTRA_test_spool := $(patsubst %,$(BUILD)/deploy/command-runner/%.o,place spool)
TEST_EXTRA_test_tool_server := $(filter-out %/main.o,$(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard deploy/template/tool-server/*.c))))
$(foreach t,$(UNIT_SRC) $(INTEGRATION_SRC),$(eval $(call CTEST,$(t))))
UNIT_BIN        := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRC))
INTEGRATION_BIN := $(patsubst %.c,$(BUILD)/%,$(INTEGRATION_SRC))

# Fuzz targets: tests/fuzz/fuzz_<x>.c, each built twice: with libFuzzer (only in a variant that is
# instrumented for it, see `make fuzz`), and as replay_<x>, which runs the kept inputs in any variant.
# agent_<x> and mcp_<x> link the objects of the agent and of the tool server, proxy_<x> none, the others
# the gateway's: all but main.o, and of the modules what they need.
FUZZ_SRC     := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(FUZZ_SRC))
define FUZZ_OBJECTS
$(BUILD)/tests/fuzz/$(1)_objects.a: $(filter-out %/main.o,$(patsubst %.c,$(BUILD)/%.o,$(call program_src,$(2)) $(3)))
	@mkdir -p $$(@D); rm -f $$@; ar rcs $$@ $$^
endef
$(eval $(call FUZZ_OBJECTS,gateway,gateway))
$(eval $(call FUZZ_OBJECTS,agent,deploy/sandbox-host/agent,common/proxy/signature.c))
$(eval $(call FUZZ_OBJECTS,mcp,deploy/template/tool-server))
FUZZ_OF_agent := agent
FUZZ_OF_proxy := none
FUZZ_OF_mcp   := mcp
# what a target stands in for
FUZZ_WRAP_data_plane := clock_sleep_ms http_client_over http_client_perform http_client_stream
FUZZ_WRAP_agent_gzip := http_header http_read
FUZZ_WRAP_agent_signed := http_header http_query_param http_query_bytes
define FUZZ_TARGET
FUZZ_LIBS_$(1) := $(foreach o,$(filter-out none,$(or $(FUZZ_OF_$(firstword $(subst _, ,$(1)))),gateway)),$(BUILD)/tests/fuzz/$(o)_objects.a) $(foreach m,$(TEST_MODULES),$(BUILD)/common/$(m).a)
FUZZ_LINK_$(1) := $(addprefix -Wl$(comma)--wrap=,$(FUZZ_WRAP_$(1))) $(BUILD)/tests/fuzz/fuzz_$(1).o -Wl,--start-group $$(FUZZ_LIBS_$(1)) -Wl,--end-group $(foreach m,$(TEST_MODULES),$(LIB_$(m))) -ljwt -lz
$(BUILD)/tests/fuzz/replay_$(1): $(BUILD)/tests/fuzz/fuzz_$(1).o $(BUILD)/tests/fuzz/replay.o $$(FUZZ_LIBS_$(1))
	@echo "  LD $$@"; $(CC) $(LDFLAGS) -o $$@ $(BUILD)/tests/fuzz/replay.o $$(FUZZ_LINK_$(1))
$(BUILD)/tests/fuzz/fuzz_$(1): $(BUILD)/tests/fuzz/fuzz_$(1).o $$(FUZZ_LIBS_$(1))
	@echo "  LD $$@"; $(CC) $(LDFLAGS) -fsanitize=fuzzer -o $$@ $$(FUZZ_LINK_$(1))
endef
$(foreach t,$(FUZZ_TARGETS),$(eval $(call FUZZ_TARGET,$(t))))
REPLAY_BIN := $(FUZZ_TARGETS:%=$(BUILD)/tests/fuzz/replay_%)

.PHONY: tests-build unit
tests-build: $(UNIT_BIN) $(INTEGRATION_BIN) $(REPLAY_BIN)
unit: $(UNIT_BIN)
	@for t in $(UNIT_BIN); do $$t || exit 1; done

.PHONY: clean
clean:
	rm -rf build

# ---- the two commands, and what belongs to them ------------------------------------------------

# as written: the scripts take it relative to the top, which may have spaces in its name
# WITH_CODE_SERVER=1: sandboxes of this machine come up with VS Code in the browser
STACK := WITH_CODE_SERVER='$(WITH_CODE_SERVER)' BUILD_DIR='$(BUILD)' deploy/dev/stack.sh

.PHONY: run start stop status logs env test test-all mutation takeover isolation fuzz fuzz-keep chaos soak bench scale-reaper dashboard-shot console-shot lint format format-check install-build install-run install-test help
install-build:
	@deploy/dev/install.sh build
install-run:
	@deploy/dev/install.sh build run
install-test:
	@deploy/dev/install.sh build run test

# packages first, then a make of its own: header and library paths are looked up when it starts
run start: install-run
	@$(MAKE) --no-print-directory -j2 -s build
	@$(if $(filter 1,$(WITH_CODE_SERVER)),deploy/dev/install.sh code-server && deploy/template/code-server/install.sh build/code-server)
	@$(STACK) $@
stop status logs env:
	@$(STACK) $@
test: install-test
	@/usr/bin/python3 tests/run.py $(TESTFLAGS)
# what is too long for every change: nothing left out under the sanitizers, then each safeguard, more seeds, many rows
test-all: install-test
	@/usr/bin/python3 tests/run.py --all $(TESTFLAGS)
	@$(MAKE) --no-print-directory mutation scale-reaper
	@for seed in 1 2 3 4 5; do $(MAKE) --no-print-directory chaos SEED=$$seed SECONDS=60 || exit 1; done
# the crash table once more at the settings of production, all of it side by side: some six minutes
takeover: install-test
	@$(MAKE) --no-print-directory -j2 -s CRASHPOINTS=1 build
	@CRASH_TIMING=production CRASH_PARALLEL=32 PYTHONPATH=. BUILD_DIR=build/crashpoints \
	    /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/crash/test_crash_table.py -k repaired_in_time
# creates at one provider while another accepts calls and answers none: p99 within 10% on a quiet machine
isolation: install-test
	@$(MAKE) --no-print-directory -j2 -s build
	@ISOLATION=1 PYTHONPATH=. BUILD_DIR='$(BUILD)' /usr/bin/python3 -m pytest -q -s -p no:cacheprovider \
	    tests/e2e/test_provider_load.py -k never
# takes one safeguard after the other out of a copy; MUTANTS names some, default all
mutation: install-test
	@/usr/bin/python3 tests/mutation/run.py $(MUTANTS)
# every target for FUZZ_SECONDS, or the one named by FUZZ; ends at the first finding
FUZZ_SECONDS ?= 60
FUZZ         ?= $(FUZZ_TARGETS)
fuzz:
	@$(MAKE) --no-print-directory -s -j2 SAN=fuzzer-no-link,address,undefined CC=clang BUILD=build/fuzz $(FUZZ:%=build/fuzz/tests/fuzz/fuzz_%)
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' bash tests/fuzz/run.sh build/fuzz $(FUZZ)
# what the last runs found that reaches new code, into the kept corpora
fuzz-keep:
	@FUZZ_KEEP=1 bash tests/fuzz/run.sh build/fuzz $(FUZZ)
# random faults under random load from one seed, then the invariants: tests/chaos/README.md
SEED    ?= $(shell date +%s)
SECONDS ?= 120
chaos: install-test
	@$(MAKE) --no-print-directory -j2 -s build
	@BUILD_DIR='$(BUILD)' /usr/bin/python3 tests/chaos/main.py --seed '$(SEED)' --seconds '$(SECONDS)'
# ordinary load for long, in which nothing may grow
soak: SECONDS := $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),600)
soak: install-test
	@$(MAKE) --no-print-directory -j2 -s build
	@BUILD_DIR='$(BUILD)' /usr/bin/python3 tests/chaos/soak.py --seconds '$(SECONDS)'
# what the reaper costs and how late it is with up to 1,000,000 rows, and pruning; ten minutes
scale-reaper: install-test
	@$(MAKE) --no-print-directory -j2 -s build
	@BUILD_DIR='$(BUILD)' /usr/bin/python3 tests/scale/reaper.py
bench:
	@deploy/dev/install.sh build run test bench
	@$(MAKE) --no-print-directory -j2 -s build
	@BUILD_DIR='$(BUILD)' /usr/bin/python3 tests/bench/bench.py

# the Grafana dashboard with the live data of a system under load, as a picture; five minutes
OUT ?= build/dashboard.png
dashboard-shot:
	@deploy/dev/install.sh build run test dashboard
	@$(MAKE) --no-print-directory -j2 -s build
	@BUILD_DIR='$(BUILD)' /usr/bin/python3 tests/dashboard/main.py --out '$(OUT)'

# each view of the console in light, in dark and on a phone
console-shot: install-test
	@$(MAKE) --no-print-directory -j2 -s build
	@mkdir -p build/console && CONSOLE_PICTURES='$(CURDIR)/build/console' PYTHONPATH=. BUILD_DIR='$(BUILD)' \
	    /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/e2e/test_console.py && ls build/console/*.png

# schemathesis sends what /openapi.json allows and forbids: SCHEMA_EXAMPLES of each call, from SCHEMA_SEED
SCHEMA_EXAMPLES ?= 50
SCHEMA_SEED     ?= $(shell date +%s)
.PHONY: schema-test
schema-test: install-test
	@$(MAKE) --no-print-directory -j2 -s build
	@SCHEMA_EXAMPLES='$(SCHEMA_EXAMPLES)' SCHEMA_SEED='$(SCHEMA_SEED)' PYTHONPATH=. BUILD_DIR='$(BUILD)' \
	    /usr/bin/python3 -m pytest -q -s -p no:cacheprovider tests/e2e/test_generated_clients.py -k document

# VS Code in a real browser, in a sandbox with the code-server that WITH_CODE_SERVER=1 installs; the picture is
# build/code-server.png
.PHONY: test-code-server
test-code-server: install-test
	@deploy/dev/install.sh code-server dashboard && deploy/template/code-server/install.sh build/code-server
	@$(MAKE) --no-print-directory -j2 -s build
	@PYTHONPATH=. BUILD_DIR='$(BUILD)' /usr/bin/python3 -m pytest -q -p no:cacheprovider --basetemp=/tmp/sandbox-code-server-test tests/code_server

# the local sandbox host's promises in numbers; host-churn takes ten minutes
.PHONY: host-bench host-churn
host-bench host-churn:
	@$(MAKE) --no-print-directory -j2 -s build
	@BUILD_DIR='$(BUILD)' /usr/bin/python3 tests/bench/host.py $(if $(filter host-churn,$@),churn,start)
	@$(if $(filter host-bench,$@),BUILD_DIR='$(BUILD)' /usr/bin/python3 tests/bench/host.py many)

# a file of FILE_TEST_BYTES up and down on every provider, with the gateway's memory; some minutes
FILE_TEST_BYTES ?= 1073741824
.PHONY: test-large-files
test-large-files:
	@$(MAKE) --no-print-directory -j2 -s build
	@PYTHONPATH=. BUILD_DIR='$(BUILD)' FILE_TEST_BYTES=$(FILE_TEST_BYTES) /usr/bin/python3 -m pytest -q -s -p no:cacheprovider \
	    tests/e2e/test_provider_files.py -k large_file

lint:
	@bash tests/lint.sh
FORMATTED := $(shell git ls-files '*.c' '*.h' 2>/dev/null)
format:
	@clang-format -i $(FORMATTED)
format-check:
	@clang-format --dry-run -Werror $(FORMATTED)

help:
	@sed -n 's/^#   //p' Makefile; echo "targets: build run start stop status logs env test test-all mutation takeover isolation fuzz fuzz-keep chaos soak bench scale-reaper host-bench host-churn test-large-files dashboard-shot console-shot lint format format-check clean"
