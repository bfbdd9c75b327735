package torture

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// systemCall is one that strace saw. Begin and end are lines of its output: a call that another thread's interrupted has two. What ended before
// another began did so in truth, because strace holds a thread at the end of a call until it has written it down.
type systemCall struct {
	name       string
	begin, end int    // end is 0 where it never came to one
	target     string // what the descriptor was, as -yy says: a path, or "TCP:[local->peer]"
	local      string // host:port of a connection's own end, and of the other; "" for a file
	peer       string
	data       []byte // what was written, as far as -s let it be kept
	result     int64
	header     bool // of the log: 32 bytes at its beginning (SQLite file format, 4.1), which are no commit
}

// readTrace reads what `strace -f -yy -tt` wrote about calls that write and sync.
func readTrace(r io.Reader) ([]*systemCall, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<20), 64<<20)
	var out []*systemCall
	interrupted := map[string]*systemCall{} // by thread
	number := 0
	for lines.Scan() {
		number++
		thread, rest, _ := strings.Cut(lines.Text(), " ")
		_, rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ") // the time
		switch {
		case strings.HasPrefix(rest, "---"), strings.HasPrefix(rest, "+++"), rest == "":
			continue
		case strings.HasPrefix(rest, "<... "):
			c := interrupted[thread]
			if c == nil {
				return nil, fmt.Errorf("line %d ends a call that never began", number)
			}
			delete(interrupted, thread)
			if err := c.ended(rest, number); err != nil {
				return nil, err
			}
			continue
		}
		c, whole, err := readCall(rest, number)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
		if !whole {
			interrupted[thread] = c
			continue
		}
		if err := c.ended(rest, number); err != nil {
			return nil, err
		}
	}
	return out, lines.Err()
}

// readCall reads the beginning of a call: name(descriptor<what it is>, arguments.
func readCall(text string, line int) (c *systemCall, whole bool, err error) {
	c = &systemCall{begin: line}
	c.name, text, _ = strings.Cut(text, "(")
	closing := ">"
	_, after, annotated := strings.Cut(text, "<")
	if strings.HasPrefix(after, "TCP:[") || strings.HasPrefix(after, "TCPv6:[") {
		closing = "]>"
	}
	target, arguments, closed := strings.Cut(after, closing)
	if !annotated || !closed {
		return nil, false, fmt.Errorf("line %d: the descriptor is not annotated", line)
	}
	c.target = target
	if ends, is := strings.CutPrefix(target, "TCP:["); is {
		c.local, c.peer, _ = strings.Cut(ends, "->")
	}
	c.data = quoted(arguments)
	c.header = c.name == "pwrite64" && strings.HasSuffix(c.target, "-wal") && strings.Contains(arguments, ", 32, 0")
	return c, !strings.HasSuffix(text, "<unfinished ...>"), nil
}

// ended reads the end of a call: ) = result.
func (c *systemCall) ended(text string, line int) error {
	i := strings.LastIndex(text, " = ")
	if i < 0 {
		return fmt.Errorf("line %d: a call has no result", line)
	}
	word, _, _ := strings.Cut(text[i+3:], " ")
	if word == "?" { // the process ended in it
		return nil
	}
	var err error
	if c.result, err = strconv.ParseInt(word, 0, 64); err != nil {
		return fmt.Errorf("line %d: a call has no result", line)
	}
	c.end = line
	return nil
}

// quoted returns the bytes of all strings in a call's arguments, with C's escapes undone.
func quoted(text string) []byte {
	var out []byte
	in := false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			in = !in
		case !in:
		case text[i] != '\\' || i+1 == len(text):
			out = append(out, text[i])
		default:
			i++
			if k := strings.IndexByte("ntrfva", text[i]); k >= 0 {
				out = append(out, "\n\t\r\f\v\a"[k])
				continue
			}
			digits := 0
			for digits < 3 && i+digits < len(text) && text[i+digits] >= '0' && text[i+digits] <= '7' {
				digits++
			}
			if digits == 0 {
				out = append(out, text[i])
				continue
			}
			n, _ := strconv.ParseUint(text[i:i+digits], 8, 9) // at most three octal digits
			out = append(out, byte(n))
			i += digits - 1
		}
	}
	return out
}

// place says which connections of a trace are whose.
type place struct {
	rest, grpc string            // host:port of the faces
	mark       string            // host:port of the operations listener, which the client asks after each answer
	custodians map[string]string // key by host:port
	headPage   uint32            // page of the ledger's file that holds its head row; 0: not known, and every commit counts
}

// exchange is one request of a client that makes one after the other, and what it was told.
type exchange struct {
	name   string
	face   face
	handle string   // of a stream: the id of the Patient that the broker authors
	chunks []string // of a stream: the custodians that show something, in the order of their entries in the ledger
}

// order is what became of holding a trace against P1.
type order struct {
	problems []string
	broken   map[string]bool // exchanges with a problem
	commits  int             // of the ledger that add entries, within the exchanges
	others   int             // of the ledger that add none, in the whole trace
	asked    int             // writes to custodians
	answers  int             // writes that hold something of an answer
}

// withoutEntries finds the writes of commits that add no entry: of checkpoints, which the ledger signs in commits of their own when it is idle, and of
// what is noted beside the entries. Whoever adds an entry moves the head row, in the same transaction (audit.Tx), so that its page is among those that
// the commit writes to the log: each stands behind a header of 24 bytes that begins with the number of the page and, in the last one of a commit, the size of
// the file, which is 0 in the others (SQLite file format, 4.1). What no end of a commit follows is not taken out.
func withoutEntries(calls []*systemCall, headPage uint32) (writes map[*systemCall]bool, commits int) {
	writes = map[*systemCall]bool{}
	if headPage == 0 {
		return writes, 0
	}
	var group []*systemCall
	moves, ends := false, false // the head row; whether the page that comes next is the last of its commit
	for _, c := range calls {
		if c.name != "pwrite64" || !strings.HasSuffix(c.target, "/ledger.db-wal") {
			continue
		}
		group = append(group, c)
		switch {
		case c.header:
		case c.result == pageHeader && len(c.data) == pageHeader:
			moves = moves || binary.BigEndian.Uint32(c.data) == headPage
			ends = binary.BigEndian.Uint32(c.data[4:]) != 0
		case ends:
			if !moves {
				commits++
				for _, w := range group {
					writes[w] = true
				}
			}
			group, moves, ends = nil, false, false
		}
	}
	return writes, commits
}

// pageHeader is how long the header of a page in the log is.
const pageHeader = 24

// firstOf finds whose resources stand in an answer.
var firstOf = regexp.MustCompile(`/fhir/[A-Za-z]+/([a-z0-9]{1,12})-`)

// checkOrder holds a trace against what must come first (P1, R-1, R-2): before a custodian is asked, a commit of the ledger that is on disk; before
// the first byte of an answer, a second; before the first byte of each custodian's part of a stream, one more; before what closes a stream,
// one more. A commit is on disk when a sync of the write-ahead log, begun after its last write ended, has come back with success. A commit that adds no
// entry is none of these, and may happen at any moment.
func checkOrder(calls []*systemCall, p place, exchanges []exchange) order {
	type moment struct {
		line int
		ends bool
		call *systemCall
	}
	var moments []moment
	for _, c := range calls {
		moments = append(moments, moment{c.begin, false, c})
		if c.end != 0 {
			moments = append(moments, moment{c.end, true, c})
		}
	}
	// What begins on a line does so before what ends on it: such a line is one call.
	slices.SortStableFunc(moments, func(a, b moment) int {
		if a.line != b.line {
			return a.line - b.line
		}
		if a.ends != b.ends && a.ends {
			return 1
		} else if a.ends != b.ends {
			return -1
		}
		return 0
	})

	out := order{broken: map[string]bool{}}
	other, others := withoutEntries(calls, p.headPage)
	out.others = others
	var now *exchange
	marks := 0
	begun, ended, safe := 0, 0, 0   // writes of the log that have begun and ended, and how many of them are on disk
	covers := map[*systemCall]int{} // by a sync on its way: writes that it will have made safe
	entries, commits := 0, 0        // writes of the log other than its header; commits of this exchange
	atSync := map[*systemCall]int{} // entries when a sync began
	synced := 0                     // entries that are on disk
	taps := map[string]*tap{}       // by gRPC connection
	seen := map[string]bool{}       // of this exchange: whose part has begun to leave
	said := func(format string, args ...any) {
		if now == nil {
			return
		}
		out.broken[now.name] = true
		out.problems = append(out.problems, now.name+": "+fmt.Sprintf(format, args...))
	}
	needs := func(what string, want int, clean bool) {
		out.answers++
		if commits < want {
			said("%s left after %d commits of the ledger, want %d", what, commits, want)
		}
		if clean && safe != begun {
			said("%s left while a write of the ledger was not on disk", what)
		}
	}
	finish := func() {
		if now == nil {
			return
		}
		if !seen["custodian"] {
			said("nobody was asked")
		}
		for _, key := range append(slices.Clone(now.chunks), "") {
			if (key != "" || now.face == byStreamRecord) && !seen["part "+key] {
				said("the part of %q is not in the trace", key)
			}
		}
		if now.face != byStreamRecord && !seen["answer"] {
			said("the answer is not in the trace")
		}
	}

	for _, m := range moments {
		c := m.call
		wal := strings.HasSuffix(c.target, "/ledger.db-wal")
		sync := c.name == "fsync" || c.name == "fdatasync"
		switch {
		case other[c]:
		case wal && sync && !m.ends:
			covers[c], atSync[c] = ended, entries
		case wal && sync && c.result == 0:
			safe = max(safe, covers[c])
			if atSync[c] > synced {
				synced = atSync[c]
				commits++
				if now != nil {
					out.commits++
				}
			}
		case wal && !sync && !m.ends:
			begun++
			if !c.header {
				entries++
			}
		case wal && !sync:
			ended++
		case m.ends || sync || c.local == "":
		case c.local == p.mark:
			finish()
			now, commits, seen = nil, 0, map[string]bool{}
			if marks < len(exchanges) {
				now = &exchanges[marks]
			}
			marks++
		case now == nil: // before the first exchange and after the last; connections are followed all the same
			if c.local == p.grpc {
				tapOf(taps, c.peer).take(c.data)
			}
		case p.custodians[c.peer] != "":
			first := !seen["custodian"]
			seen["custodian"] = true
			out.asked++
			if commits < 1 || first && safe != begun { // later on a stream may be recording the next part
				said("%s was asked before the access was on disk", p.custodians[c.peer])
			}
		case c.local == p.rest:
			if now.face != byREST {
				said("something left by REST")
			}
			seen["answer"] = true
			needs("a part of the answer", 2, true)
		case c.local == p.grpc:
			if c.end != 0 && c.result > int64(len(c.data)) {
				said("a write is kept in part only: strace needs a larger -s")
			}
			t := tapOf(taps, c.peer)
			stream, before := t.stream, len(t.kept)
			t.take(c.data)
			if t.stream != stream {
				before = 0
			}
			fresh := string(t.kept[max(0, before-200):]) // an address may have been cut in two
			if now.face == byGetRecord && (strings.Contains(fresh, `"resourceType":"Bundle"`) || firstOf.MatchString(fresh)) {
				seen["answer"] = true
				needs("a part of the answer", 2, true)
			}
			if now.face != byStreamRecord {
				continue
			}
			// A part is being sent while the next one is being recorded, so the log need not be quiet: the commits are counted.
			for _, key := range keysIn(fresh) {
				if rank := slices.Index(now.chunks, key); rank >= 0 && !seen["part "+key] {
					seen["part "+key] = true
					needs("the part of "+key, 2+rank, false)
				} else if rank < 0 && p.knows(key) {
					said("a part of %s left, and no receipt came for it", key)
				}
			}
			if strings.Contains(fresh, "/fhir/Patient/"+now.handle) && !seen["part "] {
				seen["part "] = true
				needs("the end of the stream", 2+len(now.chunks), false)
			}
		}
	}
	if marks != len(exchanges)+1 {
		out.problems = append(out.problems, fmt.Sprintf("the trace shows the ends of %d exchanges, want %d", marks-1, len(exchanges)))
	}
	return out
}

func tapOf(taps map[string]*tap, peer string) *tap {
	if taps[peer] == nil {
		taps[peer] = &tap{}
	}
	return taps[peer]
}

// keysIn are the custodians whose resources are named in a text, in order.
func keysIn(text string) (keys []string) {
	for _, m := range firstOf.FindAllStringSubmatch(text, -1) {
		if slices.Contains(custodians, m[1]) && !slices.Contains(keys, m[1]) {
			keys = append(keys, m[1])
		}
	}
	return keys
}

func (p place) knows(key string) bool {
	return slices.Contains(slices.Collect(maps.Values(p.custodians)), key)
}

// TestReadTrace reads each form that a call takes in a trace.
func TestReadTrace(t *testing.T) {
	const text = `10  12:00:00.000001 pwrite64(21</s/ledger.db-wal>, "7\177\6\202\0\r\n\"x\\", 32, 0) = 32
10  12:00:00.000002 fsync(21</s/ledger.db-wal> <unfinished ...>
11  12:00:00.000003 write(5<TCP:[127.0.0.1:80->127.0.0.1:9000]>, "ab"..., 4096 <unfinished ...>
12  12:00:00.000004 --- SIGURG {si_signo=SIGURG} ---
10  12:00:00.000005 <... fsync resumed>)       = 0
11  12:00:00.000006 <... write resumed>)       = 4096
11  12:00:00.000007 writev(5<TCP:[127.0.0.1:80->127.0.0.1:9000]>, [{iov_base="cd", iov_len=2}, {iov_base="ef", iov_len=2}], 2) = 4
11  12:00:00.000008 fdatasync(21</s/ledger.db-wal>) = -1 EIO (Input/output error)
11  12:00:00.000009 write(5<TCP:[127.0.0.1:80->127.0.0.1:9000]>, "x", 1) = ?
12  12:00:00.000010 +++ exited with 0 +++
`
	calls, err := readTrace(strings.NewReader(text))
	if err != nil || len(calls) != 6 {
		t.Fatalf("%d calls: %v", len(calls), err)
	}
	if c := calls[0]; !c.header || string(c.data) != "7\177\006\202\x00\r\n\"x\\" || c.begin != 1 || c.end != 1 {
		t.Errorf("the write of a header is misread: %q", c.data)
	}
	if c := calls[1]; c.name != "fsync" || c.begin != 2 || c.end != 5 || c.result != 0 || c.target != "/s/ledger.db-wal" {
		t.Error("an interrupted sync is misread")
	}
	if c := calls[2]; string(c.data) != "ab" || c.local != "127.0.0.1:80" || c.peer != "127.0.0.1:9000" || c.end != 6 || c.result != 4096 {
		t.Error("an interrupted write is misread")
	}
	if string(calls[3].data) != "cdef" || calls[4].result != -1 || calls[5].end != 0 {
		t.Error("a gathered write, an error or a call without an end is misread")
	}
	for _, bad := range []string{"1  t fsync(3) = 0\n", "1  t <... fsync resumed>) = 0\n", "1  t fsync(3</x>)\n"} {
		if _, err := readTrace(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// TestWithoutEntries tells commits that move the head row from those that do not.
func TestWithoutEntries(t *testing.T) {
	const text = `10  t pwrite64(21</s/ledger.db-wal>, "\0\0\0\7\0\0\0\0................", 24, 32) = 24
10  t pwrite64(21</s/ledger.db-wal>, "a page"..., 4096, 56) = 4096
10  t pwrite64(21</s/ledger.db-wal>, "\0\0\0\3\0\0\0\11................", 24, 4152) = 24
10  t pwrite64(21</s/ledger.db-wal>, "a page"..., 4096, 4176) = 4096
10  t fdatasync(21</s/ledger.db-wal>) = 0
10  t pwrite64(21</s/ledger.db-wal>, "7\177\6\202", 32, 0) = 32
10  t pwrite64(21</s/ledger.db-wal>, "\0\0\0\4\0\0\0\0................", 24, 32) = 24
10  t pwrite64(21</s/ledger.db-wal>, "a page"..., 4096, 56) = 4096
10  t pwrite64(21</s/ledger.db-wal>, "\0\0\0\5\0\0\0\11................", 24, 4152) = 24
10  t pwrite64(21</s/ledger.db-wal>, "a page"..., 4096, 4176) = 4096
10  t fdatasync(21</s/ledger.db-wal>) = 0
10  t pwrite64(21</s/ledger.db-wal>, "\0\0\0\6\0\0\0\0................", 24, 8272) = 24
10  t pwrite64(21</s/ledger.db-wal>, "a page"..., 4096, 8296) = 4096
`
	calls, err := readTrace(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for head, want := range map[uint32][]int{3: {5, 6, 7, 8, 9}, 7: {5, 6, 7, 8, 9}, 4: {0, 1, 2, 3}, 5: {0, 1, 2, 3}, 0: nil, 99: {0, 1, 2, 3, 5, 6, 7, 8, 9}} {
		writes, commits := withoutEntries(calls, head)
		var got []int
		for i, c := range calls {
			if writes[c] {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, want) || commits != (len(want)+3)/5 {
			t.Errorf("with the head row on page %d calls %v of %d commits add no entry, want calls %v", head, got, commits, want)
		}
	}
}

// recorded is where the traces in testdata were recorded: a demo on its own ports, with one invented person whom two custodians know.
var recorded = place{rest: "127.0.0.1:8080", grpc: "127.0.0.1:9090", mark: "127.0.0.1:9100", custodians: map[string]string{
	"127.0.0.1:8100": "gp", "127.0.0.1:8101": "acute", "127.0.0.1:8102": "mentalhealth", "127.0.0.1:8103": "community", "127.0.0.1:8104": "socialcare",
	"127.0.0.1:8105": "ambulance", "127.0.0.1:8106": "pharmacy", "127.0.0.1:8107": "nhs111", "127.0.0.1:8108": "outofhours"}}

// TestCheckOrder holds the judge to recorded traces. Those named good-* are of the product. Those named bad-* are of builds that were spoilt for
// the purpose, in the way that the name says, and must be condemned for just that. What the ledger's pages hold was left out of them.
func TestCheckOrder(t *testing.T) {
	const handle = "cxvzy3osyvktwzwl4ae462zxn3gvpv7uc34a"
	whole := exchange{name: "one", face: byREST}
	stream := exchange{name: "one", face: byStreamRecord, handle: handle, chunks: []string{"gp", "acute"}}
	for file, tc := range map[string]struct {
		e    exchange
		want []string // words of the problems; none: there must be none
	}{
		"good-rest":                    {whole, nil},
		"good-stream":                  {stream, nil},
		"bad-rest-asked-before-begin":  {whole, []string{"was asked before the access was on disk"}},
		"bad-rest-sent-before-release": {whole, []string{"left after 1 commits of the ledger, want 2"}},
		"bad-rest-never-synced":        {whole, []string{"was asked before the access was on disk", "left after 0 commits of the ledger, want 2", "while a write of the ledger was not on disk"}},
		"bad-stream-sent-before-chunk": {stream, []string{"the part of gp left after 1 commits of the ledger, want 2", "the part of acute left after 2 commits of the ledger, want 3"}},
		"bad-stream-never-synced":      {stream, []string{"was asked before the access was on disk", "the part of gp left after 0 commits", "the part of acute left after 0 commits", "the end of the stream left after 0 commits"}},
	} {
		f, err := os.Open(filepath.Join("testdata", file+".trace")) //nolint:gosec // of the test's own
		if err != nil {
			t.Fatal(err)
		}
		calls, err := readTrace(f)
		_ = f.Close() // read only
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		got := checkOrder(calls, recorded, []exchange{tc.e})
		if len(tc.want) == 0 && len(got.problems) > 0 {
			t.Errorf("%s is condemned: %v", file, got.problems)
		}
		for _, want := range tc.want {
			if !slices.ContainsFunc(got.problems, func(p string) bool { return strings.Contains(p, want) }) {
				t.Errorf("%s is not condemned as %q: %v", file, want, got.problems)
			}
		}
	}
}
