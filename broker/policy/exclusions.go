package policy

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

//go:embed exclusions.txt
var defaultExclusions string

// Exclusions is a dated list of codes that no custodian shares here (C-2.5). It does not change.
type Exclusions struct {
	Date    string // of the list, YYYY-MM-DD
	Version string // SHA-256 of its bytes, as 64 hex digits
	Codes   []ExcludedCode
}

// ExcludedCode is one code of the list, and the group for whose sake it is there.
type ExcludedCode struct{ Group, System, Code string }

// DefaultExclusions returns the list that is built in. It panics if that cannot be read, which the tests of this package rule out.
func DefaultExclusions() Exclusions {
	list, err := parseExclusions([]byte(defaultExclusions))
	if err != nil {
		panic("the built-in exclusion list: " + err.Error())
	}
	return list
}

// LoadExclusions reads a list from a file of at most 1 MiB.
func LoadExclusions(path string) (Exclusions, error) {
	f, err := os.Open(path)
	if err != nil {
		return Exclusions{}, errors.New("the exclusion list: the file cannot be opened")
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil || len(text) > MaxBytes {
		return Exclusions{}, errors.New("the exclusion list: it cannot be read to its end, or is larger than 1 MiB")
	}
	return parseExclusions(text)
}

// parseExclusions is strict, as the role table is: what it does not understand, and what is said twice, is an error with its line.
func parseExclusions(text []byte) (Exclusions, error) {
	sum := sha256.Sum256(text)
	out := Exclusions{Version: hex.EncodeToString(sum[:])}
	if !utf8.Valid(text) {
		return Exclusions{}, errors.New("the exclusion list: the file is not UTF-8")
	}
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		bad := func(want string) (Exclusions, error) {
			return Exclusions{}, fmt.Errorf("the exclusion list: line %d: %s", n, want)
		}
		fields := strings.Fields(line)
		for i, f := range fields { // a # begins a comment only at the beginning of a word: systems may hold one
			if strings.HasPrefix(f, "#") {
				fields = fields[:i]
				break
			}
		}
		switch {
		case len(fields) == 0:
		case fields[0] == "date" && len(fields) == 2:
			if _, err := time.Parse(time.DateOnly, fields[1]); err != nil || out.Date != "" {
				return bad("write one date, YYYY-MM-DD")
			}
			out.Date = fields[1]
		case fields[0] == "exclude" && len(fields) == 3:
			system, code, ok := strings.Cut(fields[2], "|")
			if !ok || system == "" || code == "" || !is(fields[1], 'a', 'z') || len(fields[1]) > 40 {
				return bad("write: exclude GROUP SYSTEM|CODE, with a group of a-z, 0-9 and -")
			}
			if seen[fields[2]] {
				return bad("this code was there before")
			}
			seen[fields[2]] = true
			out.Codes = append(out.Codes, ExcludedCode{fields[1], system, code})
		default:
			return bad("write: date YYYY-MM-DD, or: exclude GROUP SYSTEM|CODE")
		}
	}
	if out.Date == "" {
		return Exclusions{}, errors.New("the exclusion list: it has no date")
	}
	if len(out.Codes) == 0 {
		return Exclusions{}, errors.New("the exclusion list: it excludes nothing; to exclude nothing, say none in the configuration")
	}
	return out, nil
}
