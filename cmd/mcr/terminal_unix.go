//go:build linux || darwin

package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), readTerminal)
	return err == nil
}

// columns returns how wide the output is: the terminal's width, or $COLUMNS, or 100.
func columns(f *os.File) int {
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), readSize); err == nil && size.Col > 0 {
		return int(size.Col)
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	return 100
}
