package worklist

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Lists say who is staff, where staff live and who their kin are, and whose records are watched. The broker holds keyed hashes alone: it can tell that two
// are the same, and nothing else. They may be replaced while they are used.
type Lists struct {
	key   []byte
	rules *Rules
	now   atomic.Pointer[lists]
}

type lists struct {
	staff   map[string]member // by user id
	people  map[hash][]member // staff by who they are as a person
	watched map[hash]bool
}

type member struct {
	organisation record.ODSCode
	person       hash
	home         hash
	surname      hash
	kin          []hash
}

type hash [16]byte

// MaxLists is how large a list may be, in bytes; and maxKin how many kin one member of staff may have.
const (
	MaxLists = 64 << 20
	maxKin   = 20
)

// NewLists returns empty ones. key makes the hashes of the files that Load reads; rules say how rare a surname is.
func NewLists(key []byte, rules *Rules) *Lists {
	l := &Lists{key: key, rules: rules}
	l.now.Store(&lists{})
	return l
}

// Load replaces what is known by a staff list and a watch list, either of which may be nil: what [WriteStaff] and [WriteWatched] wrote with the same key. A list
// that cannot be read to its end replaces nothing.
func (l *Lists) Load(staff, watched io.Reader) error {
	out := &lists{staff: map[string]member{}, people: map[hash][]member{}, watched: map[hash]bool{}}
	if staff != nil {
		if err := out.readStaff(staff, l.check()); err != nil {
			return err
		}
	}
	if watched != nil {
		if err := out.readWatched(watched, l.check()); err != nil {
			return err
		}
	}
	l.now.Store(out)
	return nil
}

// check is the first line's proof that a list was made with this key: with another nothing would ever be the same, and no rule would fire.
func (l *Lists) check() string { return of(l.key, "check").String() }

// Compare says what who asks and whom they ask about have to do with each other, as far as the lists and their names tell. It is called concurrently, and
// does not wait.
func (l *Lists) Compare(r record.Requester, s record.Subject) audit.Evidence {
	now := l.now.Load()
	person := l.person(s.Number)
	e := audit.Evidence{Watched: now.watched[person]}
	for _, m := range now.people[person] {
		e.Colleague = e.Colleague || m.organisation == r.Organisation
	}
	m, known := now.staff[r.User]
	if !known {
		if family := lastWord(r.Name); family != "" && surname(family) == surname(s.Family) {
			e.Surname = l.rules.Rarity(s.Family)
		}
		return e
	}
	e.Staff, e.Own, e.Kin = true, m.person == person, slices.Contains(m.kin, person)
	if e.Own {
		e.Colleague = false
	}
	home := home(s.Postcode, s.Address)
	e.SameAddress = home != "" && m.home == of(l.key, "home", home)
	if name := surname(s.Family); name != "" && m.surname == of(l.key, "surname", name) {
		e.Surname = l.rules.Rarity(s.Family)
	}
	return e
}

func (l *Lists) person(n record.NHSNumber) hash { return of(l.key, "person", n.Reveal()) }

func of(key []byte, words ...string) hash {
	h := hmac.New(sha256.New, key)
	for _, w := range words {
		_, _ = fmt.Fprintf(h, "%d:%s", len(w), w) // a hash takes everything
	}
	return hash(h.Sum(nil)[:16])
}

// String returns 32 hex digits.
func (h hash) String() string { return hex.EncodeToString(h[:]) }

// lastWord is the surname in a name as tokens give it.
func lastWord(name string) string {
	f := strings.Fields(name)
	if len(f) < 2 {
		return ""
	}
	return f[len(f)-1]
}

// home is an address as it is compared: the postcode, and what tells the doors behind it apart: the words of the first lines that hold a digit, or the letters
// where none does.
func home(postcode, address string) string {
	code := strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return unicode.ToUpper(c)
		}
		return -1
	}, postcode)
	if len(code) < 5 {
		return ""
	}
	door := ""
	for _, w := range strings.FieldsFunc(address, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }) {
		if strings.ContainsFunc(w, unicode.IsDigit) {
			door += "/" + strings.ToUpper(w)
		}
	}
	if door == "" {
		door = surname(address)
	}
	if door == "" {
		return ""
	}
	return code + "|" + door
}

const (
	staffHead = "mycarerecord staff 1 "
	watchHead = "mycarerecord watch 1 "
)

// RowError says what is wrong with one row of a list. It never repeats a value.
type RowError struct {
	Row  int
	Want string
}

// Error returns the row and what to give.
func (e *RowError) Error() string { return fmt.Sprintf("row %d: %s", e.Row, e.Want) }

var staffColumns = []string{"user", "organisation", "nhs_number", "surname", "postcode", "address", "kin"}

// WriteStaff reads a staff list in CSV, whose first row names the columns user, organisation, nhs_number, surname, postcode, address and kin (NHS numbers with
// blanks between them), all but the first two of which may be empty in a row, and writes the list of hashes that Load reads.
func WriteStaff(in io.Reader, out io.Writer, key []byte) (rows int, err error) {
	w := bufio.NewWriter(out)
	_, _ = fmt.Fprintln(w, staffHead+of(key, "check").String()) // Flush says whether it was written
	users := map[string]bool{}
	rows, err = eachRow(in, staffColumns, func(row int, f []string) error {
		if f[0] == "" || len(f[0]) > 64 || strings.ContainsAny(f[0], " \t") || users[f[0]] {
			return &RowError{row, "user: an SDS user id of at most 64 bytes, each once"}
		}
		if users[f[0]] = true; !record.ODSCode(f[1]).Valid() {
			return &RowError{row, "organisation: an ODS code"}
		}
		fields := []string{f[0], f[1], "-", "-", "-"}
		if f[2] != "" {
			n, err := record.ParseNHSNumber(f[2])
			if err != nil {
				return &RowError{row, "nhs_number: ten digits whose last one fits the others"}
			}
			fields[2] = of(key, "person", n.Reveal()).String()
		}
		if s := surname(f[3]); s != "" {
			fields[3] = of(key, "surname", s).String()
		}
		if h := home(f[4], f[5]); h != "" {
			fields[4] = of(key, "home", h).String()
		}
		kin := strings.Fields(f[6])
		if len(kin) > maxKin {
			return &RowError{row, fmt.Sprintf("kin: at most %d NHS numbers", maxKin)}
		}
		for _, text := range kin {
			n, err := record.ParseNHSNumber(text)
			if err != nil {
				return &RowError{row, "kin: NHS numbers without blanks in them, with blanks between them"}
			}
			fields = append(fields, of(key, "person", n.Reveal()).String())
		}
		_, _ = fmt.Fprintln(w, strings.Join(fields, " "))
		return nil
	})
	return rows, errors.Join(err, written(w.Flush()))
}

// WriteWatched reads a watch list in CSV, whose first row names the column nhs_number, and writes the list of hashes that Load reads.
func WriteWatched(in io.Reader, out io.Writer, key []byte) (rows int, err error) {
	w := bufio.NewWriter(out)
	_, _ = fmt.Fprintln(w, watchHead+of(key, "check").String()) // Flush says whether it was written
	rows, err = eachRow(in, []string{"nhs_number"}, func(row int, f []string) error {
		n, err := record.ParseNHSNumber(f[0])
		if err != nil {
			return &RowError{row, "nhs_number: ten digits whose last one fits the others"}
		}
		_, _ = fmt.Fprintln(w, of(key, "person", n.Reveal()))
		return nil
	})
	return rows, errors.Join(err, written(w.Flush()))
}

func written(err error) error {
	if err != nil {
		return errors.New("the list cannot be written")
	}
	return nil
}

func eachRow(in io.Reader, columns []string, f func(row int, fields []string) error) (int, error) {
	r := csv.NewReader(io.LimitReader(in, MaxLists))
	r.FieldsPerRecord = len(columns)
	head, err := r.Read()
	if err == nil && strings.TrimPrefix(head[0], "\uFEFF") != columns[0] || err == nil && !slices.Equal(head[1:], columns[1:]) || err != nil {
		return 0, &RowError{1, "it names the columns " + strings.Join(columns, ",")}
	}
	for row := 2; ; row++ {
		fields, err := r.Read()
		if err == io.EOF {
			return row - 2, nil
		}
		if err != nil {
			return row - 2, &RowError{row, fmt.Sprintf("%d fields with commas between them", len(columns))}
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if err := f(row, fields); err != nil {
			return row - 2, err
		}
	}
}

func (l *lists) readStaff(in io.Reader, check string) error {
	return eachLine(in, staffHead+check, func(f []string) bool {
		if len(f) < 5 || len(f) > 5+maxKin || !record.ODSCode(f[1]).Valid() {
			return false
		}
		m := member{organisation: record.ODSCode(f[1])}
		ok := true
		for i, text := range f[2:] {
			h, fine := parseHash(text)
			ok = ok && fine
			switch i {
			case 0:
				m.person = h
			case 1:
				m.surname = h
			case 2:
				m.home = h
			default:
				m.kin = append(m.kin, h)
			}
		}
		if _, twice := l.staff[f[0]]; twice || !ok {
			return false
		}
		l.staff[f[0]] = m
		if m.person != (hash{}) {
			l.people[m.person] = append(l.people[m.person], m)
		}
		return true
	})
}

func (l *lists) readWatched(in io.Reader, check string) error {
	return eachLine(in, watchHead+check, func(f []string) bool {
		h, ok := parseHash(f[0])
		l.watched[h] = true
		return ok && len(f) == 1 && h != (hash{})
	})
}

func parseHash(text string) (h hash, ok bool) {
	if text == "-" {
		return h, true
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, false
	}
	return hash(b), true
}

func eachLine(in io.Reader, head string, take func(fields []string) bool) error {
	s := bufio.NewScanner(io.LimitReader(in, MaxLists))
	row := 0
	for s.Scan() {
		row++
		if row == 1 {
			if s.Text() != head {
				return errors.New("it was not made by `broker staff` with the keys of this deployment, or is another list")
			}
			continue
		}
		if f := strings.Fields(s.Text()); len(f) == 0 || !take(f) {
			return &RowError{row, "it is not what `broker staff` writes: make the list anew"}
		}
	}
	if s.Err() != nil || row == 0 {
		return errors.New("it cannot be read to its end")
	}
	return nil
}
