//go:build !linux

package neighbourhood

import "syscall"

// dieWithParent asks for nothing: only Linux can end a process together with its parent.
func dieWithParent() *syscall.SysProcAttr { return nil }
