//go:build !amd64

package fhirjson

func markBlocks(to *marks, text []byte) { markWords(to, text) }
