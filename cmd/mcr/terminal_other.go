//go:build !linux && !darwin

package main

import (
	"os"
	"strconv"
)

// isTerminal says no where we do not know how to ask: then nothing is coloured and no line rewritten.
func isTerminal(*os.File) bool { return false }

// columns returns how wide the output is: $COLUMNS, or 100.
func columns(*os.File) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	return 100
}
