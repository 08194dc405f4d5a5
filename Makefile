# Twinspan. `make` builds every service into build/bin; `make help` lists the rest. B=DIR builds elsewhere.
B ?= build
CC = gcc
CLANG ?= clang
PYTHON ?= /usr/bin/python3
# V=1 shows the commands.
V ?= 0
Q = $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@echo '  $(1)' $(patsubst $(B)/%,%,$@))
PACKAGES = libzmq libpq libcrypto libprotobuf-c libmicrohttpd jansson libmnl liburcu-qsbr libcurl
.DEFAULT_GOAL := all

PKG_CONFIG ?= pkg-config
ifeq ($(filter help clean down tree,$(MAKECMDGOALS)),)
ifneq ($(shell $(PKG_CONFIG) --exists $(PACKAGES) 2>/dev/null && echo found),found)
$(error some of "$(PACKAGES)" are missing: `sh deploy/install-packages` installs them)
endif
endif
PACKAGE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES))
WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wvla -Werror
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE $(WARNINGS) -fno-strict-aliasing -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE $(CFLAGS) $(SANITIZE) -MMD -MP \
	$(PACKAGE_CFLAGS) -I. -I$(B)/gen
LDFLAGS += -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SANITIZE)
libs = $(shell $(PKG_CONFIG) --libs $(1))

SERVICES = resource route ike esp bgp vrouter
PROTOS = $(wildcard proto/*.proto)
GEN_C = $(PROTOS:proto/%.proto=$(B)/gen/proto/%.pb-c.c)
GEN_H = $(GEN_C:.c=.h)
PROTO_C = $(wildcard proto/*.c)
object = $(patsubst %.c,$(B)/obj/%.o,$(1))

# The parts of common/ (ARCHITECTURE.md, "Where things are"), in the order in which the linker needs them: each stands on those to its right.
COMMON = bus kernel io base
common_lib = $(B)/lib/$(1).a
# What a program with a shell is linked with. Of a library it takes the objects that it uses (static archives) and no more (--as-needed).
SHELL_LIBS = $(foreach c,bus kernel io,$(call common_lib,$(c))) $(PROTO_LIB) $(BASE_LIB)
# The shell of a service is these files; all others are its core (ARCHITECTURE.md, "Core and shell").
shell_of = $(foreach pattern,main bus bus_* net_* db_* http_*,$(wildcard services/$(1)/$(pattern).c))
core_of = $(filter-out $(call shell_of,$(1)),$(wildcard services/$(1)/*.c services/$(1)/*/*.c))

BASE_LIB = $(call common_lib,base)
PROTO_LIB = $(B)/lib/proto.a
core_lib = $(B)/lib/$(1)-core.a
CORE_LIBS = $(foreach s,$(SERVICES),$(call core_lib,$(s)))

IO_LIBS = $(call libs,libzmq libprotobuf-c libpq libmicrohttpd jansson libmnl)
LIBS_resource = $(IO_LIBS) $(call libs,libcrypto)
LIBS_route = $(IO_LIBS)
LIBS_ike = $(IO_LIBS) $(call libs,libcrypto)
LIBS_esp = $(IO_LIBS) $(call libs,libcrypto liburcu-qsbr) -lIPSec_MB -lpthread
LIBS_bgp = $(IO_LIBS)
LIBS_vrouter = $(IO_LIBS)
LIBS_ctl = $(IO_LIBS) $(call libs,libcurl)
# What the core alone may be linked with.
CORE_LIBS_ike = $(call libs,libcrypto)
CORE_LIBS_esp = $(call libs,libcrypto liburcu-qsbr) -lIPSec_MB
BINARIES = $(SERVICES:%=$(B)/bin/twinspan-%) $(B)/bin/twinspan

.PHONY: all help clean check-cores tree
all: $(BINARIES) check-cores

$(B)/gen/proto/%.pb-c.c $(B)/gen/proto/%.pb-c.h &: proto/%.proto
	@mkdir -p $(B)/gen
	$(call say,PROTOC)
	$(Q)protoc-c --c_out=$(B)/gen $<
.SECONDARY: $(GEN_C) $(GEN_H)

# Generated code is compiled without our warnings: it is not ours.
$(B)/obj/gen/proto/%.o: $(B)/gen/proto/%.pb-c.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) -std=c17 -O2 -g -fPIE -I$(B)/gen $(PACKAGE_CFLAGS) $(SANITIZE) -c $< -o $@
$(B)/obj/%.o: %.c | $(GEN_H)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) $(CFLAGS_$(subst /,_,$(<D))) -c $< -o $@

archive = @echo '  AR' $(patsubst $(B)/%,%,$@); mkdir -p $(@D); rm -f $@; ar rcs $@ $^
define common_rule
$(call common_lib,$(1)): $(call object,$(wildcard common/$(1)/*.c))
	$$(archive)
endef
$(foreach c,$(COMMON),$(eval $(call common_rule,$(c))))
$(PROTO_LIB): $(PROTOS:proto/%.proto=$(B)/obj/gen/proto/%.o) $(call object,$(PROTO_C))
	$(archive)
define service_rules
$(call core_lib,$(1)): $(call object,$(call core_of,$(1)))
	$$(archive)
$(B)/bin/twinspan-$(1): $(call object,$(call shell_of,$(1))) $(call core_lib,$(1)) $(SHELL_LIBS)
	@mkdir -p $$(@D)
	$$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $$@ $$^ $$(LIBS_$(1))
endef
$(foreach s,$(SERVICES),$(eval $(call service_rules,$(s))))
$(B)/bin/twinspan: $(call object,$(wildcard services/ctl/*.c)) $(SHELL_LIBS)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_ctl)

# A core links without clock, sockets, files, randomness and logging; a folder includes what deploy/tree.rules allows, no more.
check-cores: $(CORE_LIBS) $(BASE_LIB)
	@deploy/check-cores $(B) $(SERVICES)
	@deploy/tree check
tree: # the folders, their sizes and what each may include
	@deploy/tree

# ---- tests ----
# tests/unit/<part>_<what>_test.c, tests/sim/<part>_<what>_sim.c and tests/fuzz/<part>_<what>_fuzz.c, where <part> is a part of common/, proto or
# a service: they are linked with that part's library (a service: its core) and what it stands on.
CTL_OBJECTS = $(filter-out %/main.o,$(call object,$(wildcard services/ctl/*.c)))
part_of = $(firstword $(subst _, ,$(notdir $(1))))
PART_base =
PART_proto = $(PROTO_LIB)
PART_bus = $(SHELL_LIBS)
PART_kernel = $(SHELL_LIBS)
PART_io = $(SHELL_LIBS)
PART_ctl = $(CTL_OBJECTS) $(SHELL_LIBS)
PART_resource = $(call core_lib,resource) $(PROTO_LIB)
part_libs = $(if $(filter undefined,$(origin PART_$(1))),$(call core_lib,$(1)),$(PART_$(1)))
PART_LIBS_base =
PART_LIBS_proto = $(IO_LIBS)
PART_LIBS_bus = $(IO_LIBS)
PART_LIBS_kernel = $(IO_LIBS)
PART_LIBS_io = $(IO_LIBS)
PART_LIBS_ctl = $(LIBS_ctl)
PART_LIBS_resource = $(call libs,libprotobuf-c jansson libcrypto)
part_system_libs = $(if $(filter undefined,$(origin PART_LIBS_$(1))),$(CORE_LIBS_$(1)),$(PART_LIBS_$(1)))
UNIT_C = $(wildcard tests/unit/*_test.c)
SIM_C = $(wildcard tests/sim/*_sim.c)
FUZZ_C = $(wildcard tests/fuzz/*_fuzz.c)
UNIT = $(UNIT_C:tests/unit/%.c=$(B)/test/unit/%)
SIM = $(SIM_C:tests/sim/%.c=$(B)/test/sim/%)
FUZZ = $(FUZZ_C:tests/fuzz/%.c=$(B)/test/fuzz/%)
define test_rule
$(B)/test/$(2)/$(basename $(notdir $(1))): $(B)/obj/$(basename $(1)).o $(call part_libs,$(call part_of,$(1))) $(BASE_LIB)
	@mkdir -p $$(@D)
	$$(call say,LD)
	$(Q)$(3) $(LDFLAGS) -o $$@ $$^ $(call part_system_libs,$(call part_of,$(1))) $(4)
endef
$(foreach t,$(UNIT_C),$(eval $(call test_rule,$(t),unit,$(CC),-lcmocka)))
$(foreach t,$(SIM_C),$(eval $(call test_rule,$(t),sim,$(CC),-lcmocka)))
# Fuzz targets are made by `make B=build/fuzz CC=clang SANITIZE="-fsanitize=fuzzer-no-link,address,undefined" fuzz-targets`.
$(foreach t,$(FUZZ_C),$(eval $(call test_rule,$(t),fuzz,$(CLANG) -fsanitize=fuzzer,)))
.PHONY: unit sim fuzz-targets
unit: $(UNIT)
sim: $(SIM)
fuzz-targets: $(FUZZ)

# tests/tools/<service>_<name>.c: a small program for the end-to-end tests, linked with that service's core and shell but for its main.c;
# with a part of common/ in front of its name, with that part; tests/tools/<name>.c without either stands alone.
TOOL_C = $(wildcard tests/tools/*.c)
TOOLS = $(TOOL_C:tests/tools/%.c=$(B)/test/tools/%)
define tool_rule
ifneq ($(filter $(SERVICES),$(call part_of,$(1))),)
$(B)/test/tools/$(basename $(notdir $(1))): $(B)/obj/$(basename $(1)).o $(filter-out %/main.o,$(call object,$(call shell_of,$(call part_of,$(1))))) $(call core_lib,$(call part_of,$(1))) $(SHELL_LIBS)
	@mkdir -p $$(@D)
	$$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $$@ $$^ $$(LIBS_$(call part_of,$(1)))
else ifneq ($(filter $(COMMON),$(call part_of,$(1))),)
$(B)/test/tools/$(basename $(notdir $(1))): $(B)/obj/$(basename $(1)).o $(SHELL_LIBS)
	@mkdir -p $$(@D)
	$$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $$@ $$^ $$(IO_LIBS)
else
$(B)/test/tools/$(basename $(notdir $(1))): $(B)/obj/$(basename $(1)).o
	@mkdir -p $$(@D)
	$$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $$@ $$^ -lpthread
endif
endef
$(foreach t,$(TOOL_C),$(eval $(call tool_rule,$(t))))
.PHONY: test-tools test fuzz mutants demo up down bench flood syscalls peers
test-tools: $(TOOLS)

syscalls: all test-tools # how many system calls an idle region's services make; ONLY=name for one
	@[ "$(ONLY)" = handshake ] || $(PYTHON) tests/perf/syscalls.py $(ONLY)
	@[ -n "$(filter-out handshake,$(ONLY))" ] || ONLY=handshake $(PYTHON) tests/perf/ike_flood.py
peers: all test-tools # what a hundred idle nodes cost resource and route; NODES=300 for more
	@$(PYTHON) tests/perf/bus_peers.py $(NODES)

test: # build and run all tests; the last line says how many passed
	@tests/run
fuzz: # fuzz every parser for FUZZ_SECONDS each
	@tests/run fuzz
mutants: # put one small fault at a time into the code: every one has to be noticed by a test; ONLY=name for some
	@$(PYTHON) tests/mutants/run $(ONLY)
up: all # start a whole region on this machine
	@deploy/local/region up
down: # end it and leave nothing behind
	@deploy/local/region down
demo: all # the nine steps of the tutorial against two real customer devices; FAILOVERS=20 takes down as many ports more, each within the limit
	@FAILOVERS=$(FAILOVERS) $(PYTHON) deploy/local/demo.py
bench: all test-tools # throughput beside strongSwan and plain forwarding, in the same run; ONLY=name for one, BASELINE=DIR beside another build
	@BASELINE=$(BASELINE) $(PYTHON) tests/perf/bench.py $(ONLY)

flood: all test-tools # strangers against ike, and what a handshake costs it; ONLY=kind, SECONDS=20
	@ONLY=$(ONLY) SECONDS=$(or $(SECONDS),20) $(PYTHON) tests/perf/ike_flood.py

help: # this list
	@sed -n 's/^\([a-z-]*\):[^=#]*# /  make \1\t/p' Makefile | expand -t 16

clean: # remove what was built
	rm -rf $(B)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
