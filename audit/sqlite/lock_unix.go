//go:build unix && !solaris && !aix

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock makes this process the only one on the ledger, until the file is closed or the process ends, however it ends. A second one would close
// the first one's accesses as abandoned.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the ledger's lock file cannot be opened: %s", reason(err))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another process has the ledger open: one ledger file serves one process")
		}
		return nil, fmt.Errorf("the ledger's file system has no file locks: put it on a local disk")
	}
	return f, nil
}
