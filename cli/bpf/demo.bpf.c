// SPDX-License-Identifier: MIT OR Apache-2.0
/* Publishes this machine's system calls and context switches in shared memory. It sends nothing; readers map the
 * memory. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

enum { SWITCH, CALL };
enum { CALLS = 512, OTHER = CALLS - 1, CPUS = 1024, SLOTS = 16384 };

/* An event. With its sequence word it fills a cache line. */
struct event {
	__u64 ns;
	__u16 kind, cpu;
	__u32 value; /* the number of a system call */
	__u32 pid, other;
	char comm[16], other_comm[16];
};

/* The state of a CPU since its last switch. */
struct cpu {
	__u64 ns, switches, preempted, idle_ns;
	__u32 pid, unused;
	char comm[16];
};

MAPRING_RING(events, struct event, SLOTS);
MAPRING_COUNTERS(calls, CALLS);
MAPRING_CELLS(cpus, struct cpu, CPUS);
MAPRING_COUNTERS(reader_calls, 1);

/* The thread id of the reader, in its own pid namespace. */
const volatile __u32 reader_tid;
const volatile __u64 pidns_dev, pidns_ino;
/* The reader's id in the initial pid namespace, once the reader was seen. */
__u64 reader;

struct bpf_pidns_info {
	__u32 pid, tgid;
};

static __always_inline int is_reader(void)
{
	__u64 me = bpf_get_current_pid_tgid();
	struct bpf_pidns_info id;

	if (reader)
		return me == reader;
	if (bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, &id, sizeof(id)) || id.pid != reader_tid)
		return 0;
	reader = me;
	return 1;
}

SEC("raw_tp/sys_enter")
int on_call(__u64 *ctx)
{
	__u64 nr = ctx[1];
	struct event *e;

	mapring_counter_inc(&calls, nr < OTHER ? nr : OTHER);
	if (is_reader())
		mapring_counter_inc(&reader_calls, 0);
	e = mapring_reserve(&events);
	if (!e)
		return 0;
	e->ns = bpf_ktime_get_ns();
	e->kind = CALL;
	e->cpu = bpf_get_smp_processor_id();
	e->value = nr;
	e->pid = bpf_get_current_pid_tgid();
	e->other = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	__builtin_memset(e->other_comm, 0, sizeof(e->other_comm));
	mapring_commit(&events, e);
	return 0;
}

/* The two fields that are read. libbpf finds their offsets when it loads the program. */
struct task_struct {
	int pid;
	char comm[16];
} __attribute__((preserve_access_index));

SEC("tp_btf/sched_switch")
int on_switch(__u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];
	__u32 id = bpf_get_smp_processor_id();
	__u64 now = bpf_ktime_get_ns();
	struct event *e;
	struct cpu *cpu;

	cpu = mapring_cell_begin(&cpus, id);
	if (cpu) {
		if (!prev->pid && cpu->ns)
			cpu->idle_ns += now - cpu->ns;
		cpu->ns = now;
		cpu->switches++;
		cpu->preempted += (ctx[0] & 1);
		cpu->pid = next->pid;
		bpf_probe_read_kernel(cpu->comm, sizeof(cpu->comm), next->comm);
		mapring_cell_end(cpu);
	}
	e = mapring_reserve(&events);
	if (!e)
		return 0;
	e->ns = now;
	e->kind = SWITCH;
	e->cpu = id;
	e->value = 0;
	e->pid = prev->pid;
	e->other = next->pid;
	bpf_probe_read_kernel(e->comm, sizeof(e->comm), prev->comm);
	bpf_probe_read_kernel(e->other_comm, sizeof(e->other_comm), next->comm);
	mapring_commit(&events, e);
	return 0;
}
