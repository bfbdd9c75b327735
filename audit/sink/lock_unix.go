//go:build unix && !solaris && !aix

package sink

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the lock of a file, which lasts until it is closed or the process ends, and reports whether nobody else has it.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, syscall.EINTR):
		return false, nil
	}
	return false, errors.New("the file system of the folder of checkpoints has no file locks: keep it on another")
}
