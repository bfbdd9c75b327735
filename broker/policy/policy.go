// Package policy is the table of what each role may see, for which purpose: one plain text file that an information-governance
// lead can read and change. The file says how it is written; policy.txt is the one that holds where no other is configured.
//
// A [Table] is read once, when the process starts, and never changes; its version goes into every entry of the ledger.
package policy

import (
	_ "embed"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// NoRole is the name of the role of those whom the table does not name.
const NoRole = "none"

// MaxBytes is how large a table may be.
const MaxBytes = 1 << 20

//go:embed policy.txt
var defaultText string

// Table says what each role may do. It does not change and is safe for concurrent use.
type Table struct {
	version      string
	person       *consent.Role
	staff        map[string]*consent.Role // by job role code
	followers    map[string]*consent.Role // by client id
	followed     []Follower               // the same, in the order of the file
	noPermission map[record.ODSCode]bool
	oversight    map[record.ODSCode]oversight
	unasked      []record.CustodianKey
}

// oversight is whose accesses the officers of an organisation see beside their own's.
type oversight struct {
	all           bool
	organisations []record.ODSCode
}

// Follower is a system that must know of objections, and is told of changes.
type Follower struct {
	Issuer     string // of its tokens: a client id is a name among those of one issuer
	Client     string
	Name       string
	Custodians []record.CustodianKey // beside objections to all and to sections, those to these are told; nil: to every one
}

// Followers returns the systems that are told of changes.
func (t *Table) Followers() []Follower { return slices.Clone(t.followed) }

// Unasked returns the custodians that may go unasked where their locator, kept fresh, lists nothing about the person.
func (t *Table) Unasked() []record.CustodianKey { return slices.Clone(t.unasked) }

// Default returns the table that is built in. It panics if that cannot be read, which the tests of this package rule out.
func Default() *Table {
	t, err := Parse(strings.NewReader(defaultText))
	if err != nil {
		panic("the built-in policy table: " + err.Error())
	}
	return t
}

// Load reads the table from a file. The error of a file that can be read is an [Errors].
func Load(path string) (*Table, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("the policy table: there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("the policy table: this process may not read the file")
	case err != nil:
		return nil, errors.New("the policy table: the file cannot be opened")
	}
	defer func() { _ = f.Close() }() // it was only read
	return Parse(f)
}

// Parse reads a table. It is strict: what it does not understand, and what is said twice, is an error with its line.
func Parse(r io.Reader) (*Table, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, errors.New("the policy table: it cannot be read to its end")
	}
	if len(text) > MaxBytes {
		return nil, errors.New("the policy table: larger than 1 MiB")
	}
	return parse(text)
}

// Version returns the SHA-256 of the table's bytes, as 64 hex digits.
func (t *Table) Version() string { return t.version }

// Role returns what the requester may do. Whom the table does not name may do nothing: a role with the name [NoRole], and
// nothing but the table's version besides.
func (t *Table) Role(r record.Requester) consent.Role {
	var found *consent.Role
	switch r.Kind {
	case record.Professional:
		found = t.staff[r.JobRole]
	case record.Person:
		found = t.person
	case record.System:
		if f := t.followers[r.Client]; f != nil && slices.ContainsFunc(t.followed, func(x Follower) bool { return x.Client == r.Client && x.Issuer == r.Issuer }) {
			found = f
		}
	}
	if found == nil {
		return consent.Role{Name: NoRole, Version: t.version}
	}
	role := *found
	role.Sections, role.Follows = maps.Clone(found.Sections), slices.Clone(found.Follows)
	role.Version = t.version
	if r.Kind == record.Professional && role.SearchesLedger {
		over := t.oversight[r.Organisation]
		role.Oversees, role.OverseesAll = slices.Clone(over.organisations), over.all
	}
	role.NoPermission = r.Kind == record.Professional && t.noPermission[r.Organisation]
	return role
}
