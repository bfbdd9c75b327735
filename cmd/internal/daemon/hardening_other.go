//go:build !unix

package daemon

// noCoreDumps has nothing to do where there are none.
func noCoreDumps() {}
