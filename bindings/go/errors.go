// Errors: their kinds, and their complete texts with the remedy.

package mapring

import (
	"errors"
	"fmt"
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
	ErrNoPlace       ErrorKind = "no place left"             // 64 readers have a place
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

// isErrno tells an error number of the kernel, whatever wraps it.
func isErrno(err error, errnos ...unix.Errno) bool {
	for _, errno := range errnos {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// openHint is the remedy for a map that can't be opened.
func openHint(err error) string {
	switch {
	case isErrno(err, unix.ENOENT):
		return "; nothing is there: its loader pins it after mapring.Initialize, and ids are those of `bpftool map`"
	case isErrno(err, unix.EPERM):
		return "; Linux before 5.19 needs CAP_BPF for this, and opening by id needs CAP_SYS_ADMIN: run as root, or have the " +
			"file descriptor handed over"
	case isErrno(err, unix.EACCES):
		return "; the pin, or a directory above it, is not for this user: pin the map with mode 0666 after freezing it"
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
