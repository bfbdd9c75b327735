package neighbourhood

import "syscall"

// dieWithParent makes the kernel end the demo when the test process dies without its clean-up, as on a test timeout.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
