#!/bin/bash
# Litmus tests of the protocols under formal memory models: every test in the folders here must
# be forbidden, with each change that its head calls "also" too; with each that it calls "mutant",
# which takes an ordering away, it must be allowed (or the test shows nothing).
#
#   proofs/litmus/run.sh [FOLDER[/NAME]…]      one table; exit status 0 if all is as it should be
#
# Needs apt and nothing else: herd7 and the kernel's model come from Debian's packages, and are
# unpacked (not installed, no root) under target/litmus, 45 and 165 MB of downloads, once. What
# `herd7` in the PATH and LKMM=…/tools/memory-model name is used instead, if they are there.
set -euo pipefail
cd "$(dirname "$0")"
cache=${CARGO_TARGET_DIR:-$PWD/../../target}/litmus
# herdtools7 is in Debian's unstable suite only.
mirror=${LITMUS_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 '/debian/$' || true)}
suite=${LITMUS_SUITE:-sid}

die() {
	echo "litmus: $*" >&2
	exit 2
}

# apt with lists and a state of its own, as if nothing were installed.
own_apt() {
	if [ ! -e "$cache/apt/ready" ]; then
		command -v apt-get dpkg-deb >/dev/null || die "no apt here: put herd7 in the PATH and set LKMM"
		[ -n "$mirror" ] || die "apt's sources have no Debian mirror: name one in LITMUS_MIRROR"
		local keys=/usr/share/keyrings/debian-archive-keyring.gpg
		[ -e $keys ] || die "no $keys (package debian-archive-keyring)"
		mkdir -p "$cache"/apt/{etc/apt.conf.d,etc/preferences.d,state/lists/partial,cache/archives/partial}
		: >"$cache/apt/state/status"
		echo "deb [signed-by=$keys] $mirror $suite main" >"$cache/apt/etc/sources.list"
		# A mirror may be a snapshot of long ago.
		cat >"$cache/apt/apt.conf" <<-END
			Dir::Etc "$cache/apt/etc";
			Dir::State "$cache/apt/state";
			Dir::State::status "$cache/apt/state/status";
			Dir::Cache "$cache/apt/cache";
			Acquire::Languages "none";
			Acquire::Check-Valid-Until "no";
			APT::Install-Recommends "0";
			APT::Architecture "amd64";
			APT::Architectures { "amd64"; };
			APT::Sandbox::User "";
			Debug::NoLocking "1";
		END
		APT_CONFIG=$cache/apt/apt.conf apt-get -qq update >&2 || die "no package lists from $mirror $suite"
		touch "$cache/apt/ready"
	fi
	(cd "$cache/apt" && APT_CONFIG=$cache/apt/apt.conf "$@" >&2) || die "failed: $*"
}

find_herd() {
	if command -v herd7 >/dev/null; then
		herd=(herd7)
		return
	fi
	local usr=$cache/herd/usr
	if [ ! -x "$usr/bin/herd7" ]; then
		echo "Fetching herd7 from Debian $suite" >&2
		own_apt apt-get -qq -y --download-only install herdtools7
		mkdir -p "$cache/herd.part"
		for package in "$cache"/apt/cache/archives/*.deb; do
			dpkg-deb -x "$package" "$cache/herd.part"
		done
		rm -rf "$cache/herd" "$cache"/apt/cache/archives/*.deb
		mv "$cache/herd.part" "$cache/herd"
	fi
	# With the C library that it was built for.
	herd=("$usr/lib64/ld-linux-x86-64.so.2" --library-path "$usr/lib/x86_64-linux-gnu" "$usr/bin/herd7"
		-set-libdir "$usr/share/herdtools7/herd")
}

find_lkmm() {
	lkmm=${LKMM:-$cache/memory-model}
	if [ ! -e "$lkmm/linux-kernel.cat" ]; then
		echo "Fetching the kernel's memory model from Debian $suite" >&2
		own_apt apt-get -qq update
		local name
		name=$(APT_CONFIG=$cache/apt/apt.conf apt-cache depends linux-source | sed -n 's/.*Depends: \(linux-source-.*\)/\1/p')
		own_apt apt-get -qq download "$name"
		mkdir -p "$cache/linux.part"
		dpkg-deb --fsys-tarfile "$cache/apt/$name"_*.deb | tar -xO --wildcards -f - "*/$name.tar.xz" |
			tar -xJ --strip-components=2 -C "$cache/linux.part" --wildcards -f - '*/tools/memory-model'
		rm -rf "$lkmm" "$cache/apt/$name"_*.deb
		mv "$cache/linux.part/memory-model" "$lkmm"
		rmdir "$cache/linux.part"
	fi
}

# Says "forbidden" or "allowed", and how many final states there are.
judge() {
	local said
	case $1 in
	lkmm/*) said=$(cd "$lkmm" && "${herd[@]}" -conf linux-kernel.cfg "$2" 2>&1) ;;
	*) said=$("${herd[@]}" "$2" 2>&1) ;;
	esac
	local states
	states=$(sed -n 's/^States \([0-9]*\)$/\1/p' <<<"$said")
	case $said in
	*$'\nObservation '*' Never '*) echo "forbidden $states" ;;
	*$'\nObservation '*' Sometimes '* | *$'\nObservation '*' Always '*) echo "allowed $states" ;;
	*) echo "error ${said//$'\n'/ / }" ;;
	esac
}

tests=0 mutants=0 killed=0 wrong=0 all_states=0
# report TEST CHANGE EXPECTED FILE
report() {
	local verdict states note=
	read -r verdict states < <(judge "$1" "$4")
	[ "$3" = "$verdict" ] || { note="  WRONG: must be $3" wrong=$((wrong + 1)); }
	printf '%-30s %-56s %-9s %6s%s\n' "$1" "$2" "$verdict" "$states" "$note"
	[ "$verdict" = error ] || all_states=$((all_states + states))
	if [ "$3" = allowed ]; then
		mutants=$((mutants + 1))
		[ "$verdict" != allowed ] || killed=$((killed + 1))
	else
		tests=$((tests + 1))
	fi
}

find_herd
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- */
files=()
for which; do
	if [ -d "$which" ]; then files+=("${which%/}"/*.litmus); else files+=("$which"); fi
done
[[ " ${files[*]}" != *' lkmm/'* ]] || find_lkmm
start=$SECONDS
printf '%-30s %-56s %-9s %6s\n' test change outcome states
for file in "${files[@]}"; do
	test=${file%.litmus}
	head='^(\* \(also\|mutant\) \(.*\): \(.*\) \*)$'
	grep -v "$head" "$test.litmus" >"$work/plain.litmus"
	report "$test" - forbidden "$work/plain.litmus"
	while IFS=$'\t' read -r kind change script; do
		sed "$script" "$work/plain.litmus" >"$work/changed.litmus"
		cmp -s "$work/plain.litmus" "$work/changed.litmus" && die "$test: $script changes nothing"
		expected=allowed
		[ "$kind" = mutant ] || expected=forbidden
		report "$test" "$change" $expected "$work/changed.litmus"
	done < <(sed -n "s/$head/\1\t\2\t\3/p" "$test.litmus")
done
echo "litmus: cases $tests explored $all_states mutants $mutants killed $killed failures $wrong ($((SECONDS - start)) s)"
[ "$wrong" = 0 ]
