// See net_steering.h. RFC 3948 §2.2 and §2.3: on UDP port 4500 a message that begins with four zero octets is IKE's, a single
// octet 0xff is a keepalive, all else is ESP and begins with an SPI, which is never zero. The SPI names the worker, so that
// every SA has one worker and one writer of its replay window.
//
// The program is BPF_PROG_TYPE_SK_REUSEPORT with a BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, assembled by hand: a dozen instructions
// need no compiler and no loader. A datagram for which the table has no socket is dropped; falling back on the kernel's own
// choice by hash would hand ESP to IKE while esp restarts.
#include "services/esp/net_steering.h"

#include "services/esp/limits.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { UDP_HEADER = 8, KEY = -4, START = -8 }; // KEY and START: places on the program's stack

static int bpf(enum bpf_cmd command, union bpf_attr *attributes)
{
	long result = syscall(SYS_bpf, command, attributes, sizeof *attributes);
	return result < 0 ? -errno : (int)result;
}

static struct bpf_insn move(uint8_t to, uint8_t from)
{
	return (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = to & 0xfu, .src_reg = from & 0xfu};
}

static struct bpf_insn number(uint8_t operation, uint8_t to, int32_t value)
{
	return (struct bpf_insn){.code = operation | BPF_K, .dst_reg = to & 0xfu, .imm = value};
}

static struct bpf_insn jump(uint8_t condition, uint8_t with, int32_t value, int16_t over)
{
	return (struct bpf_insn){.code = BPF_JMP | condition | BPF_K, .dst_reg = with & 0xfu, .imm = value, .off = over};
}

static struct bpf_insn call(int32_t helper)
{
	return (struct bpf_insn){.code = BPF_JMP | BPF_CALL, .imm = helper};
}

enum { MOVE = BPF_ALU64 | BPF_MOV, ADD = BPF_ALU64 | BPF_ADD, MODULO = BPF_ALU | BPF_MOD };

static int load(int map, unsigned workers)
{
	const struct bpf_insn store_key = {.code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = 10, .src_reg = 7, .off = KEY};
	const struct bpf_insn load_start = {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 8, .src_reg = 10, .off = START};
	const struct bpf_insn program[] = {
	    move(6, 1), // the context, kept over calls
	    // r7, the index: 0 with no workers, else 1 (worker 0) unless the SPI says otherwise
	    number(MOVE, 7, workers > 0),
	    number(MOVE, 2, UDP_HEADER),
	    move(3, 10),
	    number(ADD, 3, START),
	    number(MOVE, 4, 4),
	    call(BPF_FUNC_skb_load_bytes),
	    jump(BPF_JNE, 0, 0, 7), // fewer than four octets: a keepalive or nothing
	    load_start,
	    {.code = BPF_ALU | BPF_END | BPF_TO_BE, .dst_reg = 8, .imm = 32},
	    number(MOVE, 7, 0),
	    jump(BPF_JEQ, 8, 0, 3), // IKE
	    number(MODULO, 8, workers > 0 ? (int32_t)workers : 1),
	    // r7 = 1 + SPI % workers; with no workers, 0
	    {.code = BPF_ALU64 | BPF_ADD | BPF_X, .dst_reg = 7, .src_reg = 8},
	    number(ADD, 7, workers > 0),
	    store_key,
	    move(1, 6),
	    {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 2, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
	    {0},
	    move(3, 10),
	    number(ADD, 3, KEY),
	    number(MOVE, 4, 0),
	    call(BPF_FUNC_sk_select_reuseport),
	    jump(BPF_JEQ, 0, 0, 2),
	    number(MOVE, 0, SK_DROP),
	    {.code = BPF_JMP | BPF_EXIT},
	    number(MOVE, 0, SK_PASS),
	    {.code = BPF_JMP | BPF_EXIT},
	};
	char complaint[4096] = "";
	union bpf_attr attributes = {
	    .prog_type = BPF_PROG_TYPE_SK_REUSEPORT,
	    .insns = (uintptr_t)program,
	    .insn_cnt = sizeof program / sizeof program[0],
	    .license = (uintptr_t) "Apache-2.0",
	    .log_level = 1,
	    .log_buf = (uintptr_t)complaint,
	    .log_size = sizeof complaint,
	};
	return bpf(BPF_PROG_LOAD, &attributes);
}

int steering_open(struct steering *steering, unsigned workers)
{
	*steering = (struct steering){-1, -1};
	union bpf_attr attributes = {
	    .map_type = BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, .key_size = 4, .value_size = 8, .max_entries = 1 + ESP_WORKERS_MAX};
	int map = bpf(BPF_MAP_CREATE, &attributes);
	if (map < 0) {
		return map;
	}
	int program = load(map, workers);
	if (program < 0) {
		close(map);
		return program;
	}
	*steering = (struct steering){map, program};
	return 0;
}

int steering_set(const struct steering *steering, unsigned index, int socket)
{
	uint32_t key = index;
	uint64_t value = (uint64_t)socket;
	union bpf_attr attributes = {
	    .map_fd = (uint32_t)steering->map, .key = (uintptr_t)&key, .value = (uintptr_t)&value, .flags = BPF_ANY};
	return bpf(BPF_MAP_UPDATE_ELEM, &attributes);
}

int steering_attach(const struct steering *steering, int socket)
{
	return setsockopt(socket, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &steering->program, sizeof steering->program) == 0
	           ? 0
	           : -errno;
}

void steering_close(struct steering *steering)
{
	if (steering->map >= 0) {
		close(steering->map);
		close(steering->program);
	}
	*steering = (struct steering){-1, -1};
}

// A raw socket shows the IPv4 header too, whose length is in its first octet.
int steering_filter_raw(int socket, unsigned worker, unsigned workers)
{
	struct sock_filter filter[] = {
	    BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),       BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0),
	    BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, workers), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, worker, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),        BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
	return setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : -errno;
}
