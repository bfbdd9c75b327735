//go:build !unix || solaris || aix

package sqlite

import (
	"errors"
	"os"
)

// lock refuses: without a lock that dies with its process, two processes could write one ledger.
func lock(string) (*os.File, error) {
	return nil, errors.New("a ledger in a file needs a system with flock; use PostgreSQL here")
}
