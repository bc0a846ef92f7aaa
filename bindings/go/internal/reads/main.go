// Reads a ring as user nobody, once stdin has ended, and prints what it found: proofs/kernel/tests/options/languages.rs compares
// this with what readers in other languages print.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	mapring "github.com/mapring/mapring/bindings/go"
)

// Rec is struct rec of proofs/kernel/bpf/options.bpf.c.
type Rec struct{ N, Twice uint64 }

// Three is a record of another size.
type Three [3]uint64

const nobody = 65534

func main() {
	var err error
	how := append(os.Args, "")[2]
	if how != "types" {
		err = cmp.Or(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody))
	}
	if err == nil && how == "wrong" {
		err = read(os.Args[1], how, func(r Three) string { return "" })
	} else if err == nil {
		err = read(os.Args[1], how, func(r Rec) string { return fmt.Sprintf("%d %d", r.N, r.Twice) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read[T any](pin, how string, text func(T) string) error {
	ring, err := mapring.OpenPinned[T](pin)
	if err != nil {
		return err
	}
	start := mapring.First
	if how == "oldest" {
		start = mapring.Oldest
	}
	reader := ring.Reader(start)
	switch how {
	case "bell":
		return reader.Bell()
	case "require":
		return reader.Require(time.Hour)
	}
	fmt.Println(ring.Access())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	// A record that was not ended holds back later ones, for some passes and 10 ms.
	for empty := 0; empty < 64; empty++ {
		for event, ok := reader.Next(); ok; event, ok = reader.Next() {
			fmt.Printf("record %d %d %s %x\n", event.Shard, event.Ticket, text(event.Record), event.Tail)
			empty = 0
		}
		time.Sleep(time.Millisecond)
		// So that the next pass looks past it.
		if err := reader.Wait(done); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	s := reader.Stats()
	fmt.Printf("delivered %d lapped %d skipped %d tail_lost %d discarded %d stepped_over %d no_slot %d full %d no_shard %d no_tail %d "+
		"too_long %d\n", s.Delivered, s.Lapped, s.Skipped, s.TailLost, s.Discarded, s.SteppedOver, s.NoSlot, s.Full, s.NoShard,
		s.NoTail, s.TooLong)
	return reader.Err()
}
