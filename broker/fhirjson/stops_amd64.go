package fhirjson

// markBlocks is markWords in the instructions for sixteen bytes that every processor of this kind has. Those for 32 bytes, which most have, save no
// more than a fiftieth of what reading takes, and would have to be asked for.
//
//go:noescape
func markBlocks(to *marks, text []byte)
