// The readers and bells of a ring, which a reader without privilege finds only by their pins.

package mapring

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// pinnedBeside opens the map with this id that is pinned beside a ring. A process that replaces pins may not have moved it to its place
// yet. ESTALE: another one is there.
func pinnedBeside(pin, suffix string, id uint32) (fd int, err error) {
	for _, place := range []string{"", "__next/new", ""} { // it may be moved between the first two
		if fd, err = openPin(pin + place + suffix); err != nil {
			continue
		}
		if info, err := infoOf(fd); err == nil && info.id == id {
			return fd, nil
		}
		_ = unix.Close(fd)
		err = unix.ESTALE
	}
	return -1, err
}

// findCompanions opens the readers and bells that are pinned beside a ring. It returns false if the ring was replaced since it was
// opened.
func (r *region) findCompanions() bool {
	link := uint32(0)
	if r.options.Has(Wakeable) && r.origin.pin != "" {
		a := r.access()
		link = uint32(a.word(wordLink))
	}
	if link == 0 {
		return true
	}
	fd, err := pinnedBeside(r.origin.pin, suffixReaders, link)
	if r.beside[0] = fd; err == nil {
		var readers *region
		if fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			if readers, err = regionOf(fd, "", locator{}); err == nil {
				a := readers.access()
				r.beside[1], err = pinnedBeside(r.origin.pin, suffixBells, uint32(a.word(wordLink)>>32))
				readers.close()
			}
		}
	}
	if err == nil || isErrno(err, unix.ESTALE) {
		return err == nil
	}
	now, err := openPin(r.origin.pin)
	if err != nil {
		return false
	}
	info, err := infoOf(now)
	_ = unix.Close(now)
	return err == nil && info.id == r.info.id
}

// companion opens a map of a ring: the one that was pinned beside it, or else by its id.
func companion(ring *region, beside int, suffix string, id uint32) (fd int, what string, err error) {
	what = fmt.Sprintf("the map %s of %s", suffix, ring.what)
	if beside >= 0 {
		if fd, err = unix.FcntlInt(uintptr(beside), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			return fd, printable(ring.origin.pin + suffix), nil
		}
	} else if fd, err = openID(id); err == nil {
		return fd, what, nil
	}
	return -1, what, failf(ErrOpen, "can't open %s: %v; it isn't pinned beside the ring, and opening it by id needs CAP_SYS_ADMIN: run as "+
		"root, or have it pinned there", what, err)
}
