//go:build !unix || solaris || aix

package sink

import (
	"errors"
	"os"
)

// tryLock refuses: without a lock that dies with its process, two replicas could add to one folder at once.
func tryLock(*os.File) (bool, error) {
	return false, errors.New("a folder of checkpoints needs a system with flock")
}
