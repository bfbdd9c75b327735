//go:build !unix

package wire

// There is no way to look at a socket without waiting, so no connection is used twice.
const canLook = false

func silent(uintptr) bool { return false }
