/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#define _GNU_SOURCE
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(enum bpf_cmd command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static uint64_t address(const void *pointer)
{
	return (uint64_t)(uintptr_t)pointer;
}

int open_pin(const char *path, bool read_only)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.pathname = address(path);
	attr.file_flags = read_only ? BPF_F_RDONLY : 0;
	return bpf(BPF_OBJ_GET, &attr);
}

int open_map_id(uint32_t id, bool read_only)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_id = id;
	attr.open_flags = read_only ? BPF_F_RDONLY : 0;
	return bpf(BPF_MAP_GET_FD_BY_ID, &attr);
}

static int object_info(int fd, void *info, uint32_t bytes)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = (uint32_t)fd;
	attr.info.info = address(info);
	attr.info.info_len = bytes;
	return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
}

int map_info(int fd, struct bpf_map_info *info)
{
	memset(info, 0, sizeof(*info));
	return object_info(fd, info, sizeof(*info));
}

int lookup(int fd, uint32_t key, void *value)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)fd;
	attr.key = address(&key);
	attr.value = address(value);
	return bpf(BPF_MAP_LOOKUP_ELEM, &attr);
}

void *read_btf(uint32_t id, size_t *bytes)
{
	struct bpf_btf_info info = { 0 };
	union bpf_attr attr;
	void *types = NULL;
	int fd, failed;

	memset(&attr, 0, sizeof(attr));
	attr.btf_id = id;
	fd = bpf(BPF_BTF_GET_FD_BY_ID, &attr);
	if (fd < 0)
		return NULL;
	/* First gets the size, then the types. */
	failed = object_info(fd, &info, sizeof(info));
	*bytes = info.btf_size;
	if (!failed)
		types = calloc(1, *bytes + 1);
	if (types) {
		memset(&info, 0, sizeof(info));
		info.btf = address(types);
		info.btf_size = (uint32_t)*bytes;
		failed = object_info(fd, &info, sizeof(info));
	}
	close(fd);
	if (!types || failed || info.btf_size != *bytes) {
		free(types);
		return NULL;
	}
	return types;
}

int possible_cpus(unsigned *cpus, int room)
{
	FILE *list = fopen("/sys/devices/system/cpu/possible", "r");
	unsigned from, to;
	int count = 0;

	if (!list)
		return -1;
	/* Such as "0-3,8,10-11". */
	while (fscanf(list, "%u", &from) == 1) {
		int behind = fgetc(list);

		to = from;
		if (behind == '-') {
			if (fscanf(list, "%u", &to) != 1)
				break;
			behind = fgetc(list);
		}
		for (unsigned cpu = from; cpu <= to && count < room; cpu++)
			cpus[count++] = cpu;
		if (behind != ',')
			break;
	}
	fclose(list);
	return count ? count : -1;
}
