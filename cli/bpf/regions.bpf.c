// SPDX-License-Identifier: MIT OR Apache-2.0
/* For the tests of `mapring ls`, `show`, `stat`, `tail` and `top`: a map of each kind, filled by one program that the
 * tests run. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/gauge.bpf.h>
#include <mapring/histogram.bpf.h>
#include <mapring/ring.bpf.h>
#include <mapring/top.bpf.h>

/* As in linux/bpf.h, which a machine may lack. */
enum { ARRAY = 2, PERCPU_ARRAY = 6, RINGBUF = 27, MMAPABLE = 1 << 10 };

char LICENSE[] SEC("license") = "GPL";

enum state { IDLE, RUNNING = 7, STOPPED = -1 };

struct point {
	__s32 x, y;
};

struct event {
	__u64 ns;
	__u32 pid;
	enum state state;
	struct point at[2];
	__u32 low : 4, high : 12;
	union {
		__u32 whole;
		__u8 parts[4];
	};
	char comm[16];
	_Bool ok;
};

enum error { DENIED = -1, NONE, AGAIN };

/* Fields and tails that are not plain text or numbers. */
struct raw {
	__u64 number;
	void *address;
	__u8 mac[6];
	__u16 pad;
	enum error error;
	__s32 low : 4;
	char args[16];
};

/* A field that has the name of a time stamp. */
struct span {
	__u64 number, time;
};

struct load {
	__u64 number;
	struct point at;
};

struct name {
	__u64 ns, number;
};

struct sized {
	__u64 ns, number;
};

struct on_node {
	__u64 ns, number;
};

struct setting {
	__u32 number;
	char text[12];
};

MAPRING_RING(t_events, struct event, 64);
MAPRING_RING(t_names, struct name, 16, TAILS(64, 4096));
MAPRING_RING(t_raw, struct raw, 16, TAILS(64, 4096));
MAPRING_RING(t_spans, struct span, 64);
/* The kernel keeps 15 bytes of these names. */
MAPRING_CELLS(t_name_of_many_bytes, struct load, 1);
MAPRING_CELLS(t_name_of_many_words, struct load, 1);
MAPRING_RING(t_ring_of_many_bytes, struct sized, 16, RESIZABLE, WAKEABLE);
MAPRING_RING(t_ring_of_many_words, struct on_node, 16, PER_CPU_MAPS);
MAPRING_RING(t_sized, struct sized, 16, RESIZABLE);
MAPRING_RING(t_nodes, struct on_node, 32, PER_CPU_MAPS);
MAPRING_CELLS(t_loads, struct load, 8);
MAPRING_COUNTERS(t_calls, 1000);
MAPRING_HISTOGRAM(t_waits);
MAPRING_GAUGES(t_depths, 2);
MAPRING_TOP_KEYS(t_keys, 64);

struct {
	__uint(type, ARRAY);
	__uint(map_flags, MMAPABLE);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct setting);
} t_settings SEC(".maps");

struct {
	__uint(type, PERCPU_ARRAY);
	__uint(max_entries, 70); /* more than one batch of lookups */
	__type(key, __u32);
	__type(value, struct point);
} t_each SEC(".maps");

struct {
	__uint(type, RINGBUF);
	__uint(max_entries, 4096);
} t_kernel SEC(".maps");

__u64 t_total;
struct point t_place = { 3, -4 };

struct input {
	__u64 count;
};

SEC("syscall")
int fill(struct input *in)
{
	struct setting setting = { .number = 5, .text = "five" };
	struct point here = { 1, -2 };
	__u32 key = 1;
	__u64 i;

	bpf_map_update_elem(&t_settings, &key, &setting, 0);
	bpf_map_update_elem(&t_each, &key, &here, 0);
	for (i = 0; i < 100 && i < in->count; i++) {
		struct event *e = mapring_reserve(&t_events);

		t_total++;
		if (!e)
			continue;
		__builtin_memset(e, 0, sizeof(*e));
		e->ns = bpf_ktime_get_ns();
		e->pid = t_total;
		e->state = t_total % 2 ? RUNNING : STOPPED;
		e->at[1].y = -5;
		e->low = 9;
		e->high = 300;
		e->whole = 0x01020304;
		__builtin_memcpy(e->comm, t_total % 2 ? "bash" : "x\033[2Jy", 8);
		e->ok = 1;
		mapring_commit(&t_events, e);
	}
	return 0;
}

/* Writes records of 16 bytes with a text: of the first one `bash 1`. */
SEC("syscall")
int fill_kernel(struct input *in)
{
	char text[16] = "bash  \033[2J";
	static char number;
	__u64 i;

	for (i = 0; i < 100 && i < in->count; i++) {
		text[5] = '1' + number;
		if (!bpf_ringbuf_output(&t_kernel, text, sizeof(text), 0))
			number = (number + 1) & 7;
	}
	return 0;
}

struct spans {
	__u64 first, step, modulo;
};

/* Writes 40 records with these times. */
SEC("syscall")
int fill_spans(struct spans *in)
{
	struct load load = {};
	__u64 i;

	mapring_cell_set(&t_name_of_many_bytes, 0, &load);
	mapring_cell_set(&t_name_of_many_words, 0, &load);
	for (i = 0; i < 40; i++) {
		struct span *span = mapring_reserve(&t_spans);

		if (!span)
			continue;
		span->number = i;
		span->time = in->first + i * in->step % in->modulo;
		mapring_commit(&t_spans, span);
	}
	return 0;
}

SEC("syscall")
int fill_others(struct input *in)
{
	struct load load = { .number = 42, .at = { -1, 2 } };
	struct on_node *on_node;
	struct sized *sized;
	struct name *name;
	struct raw *raw;
	__u64 i;

	mapring_cell_set(&t_loads, 3, &load);
	mapring_gauge_set(&t_depths, 1, 17);
	name = mapring_reserve(&t_names);
	if (name) {
		name->ns = bpf_ktime_get_ns();
		name->number = 8;
		__builtin_memcpy(mapring_tail(&t_names, name), "a tail", 6);
		mapring_commit_tail(&t_names, name, 6);
	}
	raw = mapring_reserve(&t_raw);
	if (raw) {
		*raw = (struct raw){ .number = 7, .address = (void *)0xffff888104a2c000, .mac = { 2, 0xff, 0, 3, 1, 4 } };
		raw->error = DENIED;
		raw->low = -1;
		__builtin_memcpy(raw->args, "ls\0-l\0/tmp\0\0\0\0\0", 16);
		__builtin_memcpy(mapring_tail(&t_raw, raw), "cat\0\xff\"\\\0", 8);
		mapring_commit_tail(&t_raw, raw, 8);
	}
	sized = mapring_reserve(&t_sized);
	if (sized) {
		sized->ns = bpf_ktime_get_ns();
		sized->number = 9;
		mapring_commit(&t_sized, sized);
	}
	on_node = mapring_reserve(&t_nodes);
	if (on_node) {
		on_node->ns = bpf_ktime_get_ns();
		on_node->number = 10;
		mapring_commit(&t_nodes, on_node);
	}
	for (i = 0; i < 100 && i < in->count; i++) {
		mapring_counter_add(&t_calls, i, i + 1);
		mapring_histogram_add(&t_waits, 0, i * i);
		mapring_top_add(&t_keys, i % 3, 10);
	}
	return 0;
}
