//go:build unix && !solaris && !aix

package main

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the lock of a file, which lasts until it is closed or the process ends.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		return errors.New("another process is the witness of this folder: two would each forget what the other cosigned")
	}
	return errors.New("the file system of the witness's folder has no file locks: keep it on another")
}
