//go:build unix

package daemon

import "syscall"

// noCoreDumps keeps the memory of a crashed process off the disk.
func noCoreDumps() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
