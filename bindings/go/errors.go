// Errors: their kinds, and their complete texts with the remedy.

package mapring

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrorKind is a kind of error: errors.Is(err, mapring.ErrLayout). The text of an error says what was found, what was
// expected, and the remedy.
type ErrorKind string

// The kinds of errors.
const (
	ErrOpen          ErrorKind = "can't be opened"           // nothing is there, or access is denied
	ErrWrongType     ErrorKind = "something else"            // a map of another type, a region of another kind
	ErrPreamble      ErrorKind = "no valid preamble"         // not initialized, of another version, or overwritten
	ErrContradiction ErrorKind = "contradicts itself"        // preamble, size, BTF and kernel contradict each other
	ErrLayout        ErrorKind = "another layout"            // the Go type does not have the layout of the C type
	ErrNotPrepared   ErrorKind = "not prepared"              // a region without a shard for each possible CPU
	ErrUntrusted     ErrorKind = "not to be trusted"         // a memfd whose owner can end its readers by SIGBUS
	ErrOutOfRange    ErrorKind = "out of range"              // a shard, cell or counter that does not exist
	ErrNotReadable   ErrorKind = "not readable"              // a ring with tails that can't be mapped
	ErrNotWritable   ErrorKind = "not writable"              // a region whose preamble can't be written
	ErrUnsupported   ErrorKind = "not supported"             // by this kernel or machine
	ErrNotWakeable   ErrorKind = "wakes no reader"           // the ring was declared without WAKEABLE
	ErrNotKeeping    ErrorKind = "keeps no oldest records"   // the ring was declared without KEEP_OLDEST
	ErrNoSeat        ErrorKind = "no seat left"              // 64 readers have a seat
	ErrLeaseEnded    ErrorKind = "its lease has ended"       // programs no longer wait for this reader
	ErrBusy          ErrorKind = "a writer was in the value" // at each of many tries
	ErrFull          ErrorKind = "full"                      // all slots of commands are taken
	ErrOwned         ErrorKind = "another process writes it" // and lives
	ErrClosed        ErrorKind = "closed"
)

func (k ErrorKind) Error() string { return "mapring: " + string(k) }

// failure is an error of one kind with its own text.
type failure struct {
	kind  ErrorKind
	text  string
	cause error
}

func (f *failure) Error() string        { return f.text }
func (f *failure) Is(target error) bool { return target == f.kind }
func (f *failure) Unwrap() error        { return f.cause }

// failf formats an error. The last error among the values is its cause.
func failf(kind ErrorKind, format string, values ...any) error {
	f := &failure{kind: kind, text: fmt.Sprintf(format, values...)}
	for _, value := range values {
		if err, ok := value.(error); ok {
			f.cause = err
		}
	}
	return f
}

// closed is the error of what is used after Close.
func closed(what string) error {
	return &failure{kind: ErrClosed, text: what + " is closed", cause: os.ErrClosed}
}

// isErrno tells an error number of the kernel, whatever wraps it.
func isErrno(err error, errnos ...unix.Errno) bool {
	for _, errno := range errnos {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// openHint is the remedy for a map that can't be opened by its pin, or else by its id.
func openHint(err error, byPin bool) string {
	switch {
	case isErrno(err, unix.ENOENT) && byPin:
		return "; is the BPF file system mounted (mount -t bpf -o mode=0755 bpf /sys/fs/bpf), and the loader running?"
	case isErrno(err, unix.ENOENT):
		return "; `bpftool map` lists the ids there are"
	case isErrno(err, unix.EPERM) && byPin:
		return "; before Linux 5.19 opening a pin needs CAP_BPF: have its owner hand over the file descriptor, and open that"
	case isErrno(err, unix.EPERM):
		return "; opening maps by id needs CAP_SYS_ADMIN: run as root, or open the region by a pin"
	case isErrno(err, unix.EACCES) && byPin:
		return "; ask its owner for read and write permission on the pin (chmod 0666, once the map is frozen) and for search " +
			"permission on its directory"
	}
	return ""
}

// counted is `1 shard`, or `4 shards`.
func counted(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.FormatUint(n, 10) + " " + thing + "s"
}

// printable escapes what a terminal would obey: names and paths are text of others.
func printable(text string) string {
	quoted := strconv.QuoteToGraphic(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
