// Prints the context switches of this machine, in order on each CPU, and how many were missed.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	mapring "github.com/mapring/mapring/bindings/go"
	"golang.org/x/sys/unix"
)

// SwitchEvent is struct switch_event.
type SwitchEvent struct {
	NS       uint64
	PID, CPU uint32
	Comm     [16]uint8
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, object string) error {
	spec, err := ebpf.LoadCollectionSpec(object)
	if err != nil {
		return err
	}
	if err := mapring.Prepare(spec); err != nil { // one shard for each CPU
		return err
	}
	if err := rlimit.RemoveMemlock(); err != nil { // for Linux before 5.11
		return err
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return err
	}
	defer coll.Close()
	if err := mapring.Initialize(spec, coll.Maps); err != nil { // what readers need to know
		return err
	}
	attached, err := link.AttachTracing(link.TracingOptions{Program: coll.Programs["on_switch"]})
	if err != nil {
		return err
	}
	defer attached.Close()

	ring, err := mapring.OpenRing[SwitchEvent](mapring.Map(coll.Maps["switches"])) // compares the fields with C's
	if err != nil {
		return err
	}
	defer ring.Close()
	reader := ring.Reader(mapring.Oldest) // as many as you like, in any process
	defer reader.Close()
	for reader.Wait(ctx) == nil {
		for event := range reader.Drain() {
			e := event.Record
			fmt.Printf("%14.6f cpu %d %s[%d]\n", float64(e.NS)/1e9, event.Shard, unix.ByteSliceToString(e.Comm[:]), e.PID)
		}
	}
	fmt.Printf("%v; %s, compared %s\n", reader.Stats(), ring.Access(), ring.LayoutCheck())
	return reader.Err()
}
