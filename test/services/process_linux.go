package services

import "syscall"

// attributes lets a server run as somebody else, and end when its parent does. SIGTERM would have it wait for its clients.
func attributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
}
