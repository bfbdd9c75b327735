package simulator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// EngineConfig is one custodian whose integration engine speaks HL7 v2 over MLLP, and what it holds.
type EngineConfig struct {
	Application string                       // MSH-3 of its answers; "" is ENGINE
	Facility    string                       // MSH-4 of its answers, and the assigning authority of its own numbers; "" is X9B01
	PageSize    int                          // at most so many records an answer; 0 is 50
	People      map[string][]json.RawMessage // by NHS number: a whole record in FHIR R4, written as HL7 v2 where that can carry it
	Records     map[string]map[string][]Group
	Senders     []string // sending applications (MSH-3) that may ask; nil is any
	Latin       bool     // answers are in 8859/1, not UTF-8
}

// Group is one record of an answer: segments that belong together, without PID, which the engine puts before them, unless they hold their own.
type Group []string

// The queries that an [Engine] knows, as QPD-1 names them. They are of its own, as every site's are.
const (
	QueryVisits    = "Z70^Visits of a person^LOCAL"
	QueryResults   = "Z71^Results of a person^LOCAL"
	QueryDocuments = "Z72^Documents of a person^LOCAL"
	legacyResults  = "RES" // QRD-9 of QRY^R02
)

// EngineFaults are those of an engine. HL7 v2 has no compression, no nesting, no addresses of further pages and no word for "too many requests".
func EngineFaults() []Fault {
	return []Fault{FaultNone, FaultDown, FaultHang, FaultSlow, FaultTrickle, FaultError500, FaultUnauthorised, FaultGarbage, FaultTruncated, FaultHuge,
		FaultDuplicateKeys, FaultBadUTF8, FaultWrongPatient, FaultMixedPatients, FaultPageLoop, FaultNoRecord, FaultNoConsent}
}

// Engine is a custodian's integration engine: QBP^Q11 by person, answered by RSP^K11, and QRY^R02, answered by ORF^R04, over MLLP, read-only. It checks
// what it is sent as a strict one does and refuses with the standard's own codes. [Engine.ServeMLLP] serves queries on one listener; as an
// http.Handler it has POST /_sim/fault with [EngineFaults], and GET /_sim/requests.
type Engine struct {
	cfg     EngineConfig
	control *control
	people  map[string]*engineRecord
	left    map[string]int

	mu       sync.Mutex
	controls map[string]bool // MSH-10 seen
	conns    map[net.Conn]bool
	closed   bool
	wait     sync.WaitGroup
}

var _ http.Handler = (*Engine)(nil)

// engineRecord is one person: a PID, and records by query.
type engineRecord struct {
	pid    string
	groups map[string][]Group // by code of the query
}

// NewEngine writes the people as segments. The error names the first record that cannot be served, without its content.
func NewEngine(cfg EngineConfig) (*Engine, error) {
	if cfg.Application == "" {
		cfg.Application = "ENGINE"
	}
	if cfg.Facility == "" {
		cfg.Facility = "X9B01"
	}
	if cfg.PageSize <= 0 {
		cfg.PageSize = 50
	}
	e := &Engine{cfg: cfg, control: newControl(EngineFaults()), people: map[string]*engineRecord{}, left: map[string]int{}, controls: map[string]bool{}, conns: map[net.Conn]bool{}}
	for n, number := range slices.Sorted(maps.Keys(cfg.People)) {
		r, err := e.written(number, cfg.People[number])
		if err != nil {
			return nil, fmt.Errorf("simulator: engine %s, record %d of %d: %w", cfg.Application, n+1, len(cfg.People), err)
		}
		e.people[number] = r
	}
	for number, byQuery := range cfg.Records {
		r := e.people[number]
		if r == nil {
			r = &engineRecord{pid: "PID|1||" + number + "^^^NHS^NH||Person^A", groups: map[string][]Group{}}
			e.people[number] = r
		}
		for query, groups := range byQuery {
			code, _, _ := strings.Cut(query, "^")
			r.groups[code] = append(r.groups[code], groups...)
		}
	}
	return e, nil
}

// LeftOut counts, by type, the resources of People that HL7 v2 could not carry here.
func (e *Engine) LeftOut() map[string]int { return maps.Clone(e.left) }

// SetFault does what POST /_sim/fault does.
func (e *Engine) SetFault(spec FaultSpec) error { return e.control.set(spec) }

// Requests does what GET /_sim/requests does.
func (e *Engine) Requests() Counts { return e.control.requests() }

// Log returns the first 10,000 messages, by type and query.
func (e *Engine) Log() []string { return e.control.lines() }

// ServeHTTP implements http.Handler: the control surface and nothing else.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !e.control.serve(w, r) {
		http.Error(w, "records are served over MLLP", http.StatusNotFound)
	}
}

// ServeMLLP serves queries on ln, which it takes over, until [Engine.Close]. Several listeners may be served. TLS is the listener's.
func (e *Engine) ServeMLLP(ln net.Listener) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		_ = ln.Close() // nobody is served any more
		return
	}
	e.wait.Add(1)
	e.mu.Unlock()
	go func() {
		defer e.wait.Done()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			if !e.track(conn) {
				_ = conn.Close() // as above
				continue
			}
			go func() {
				defer e.wait.Done()
				e.serve(conn)
				e.mu.Lock()
				delete(e.conns, conn)
				e.mu.Unlock()
				_ = conn.Close() // whatever is left to say was said
			}()
		}
	}()
	e.mu.Lock()
	e.conns[listenerConn{Listener: ln}] = true
	e.mu.Unlock()
}

// listenerConn lets listeners be closed with the connections.
type listenerConn struct {
	net.Conn
	net.Listener
}

// Close closes the listener.
func (l listenerConn) Close() error { return l.Listener.Close() } //nolint:wrapcheck // as it is

func (e *Engine) track(c net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.conns[c] = true
	e.wait.Add(1)
	return true
}

// Close cuts every connection, hanging ones included, and returns when all has stopped.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	for c := range e.conns {
		_ = c.Close() // cut
	}
	e.mu.Unlock()
	e.wait.Wait()
}

// Times and sizes of the lower layer.
const (
	engineIdle       = 60 * time.Second
	engineMaxMessage = 64 << 10
	blockStart       = 0x0b
	blockEnd         = 0x1c
)

// errFraming ends a connection: what came is no MLLP, and there is nobody to answer.
var errFraming = errors.New("not MLLP")

// serve reads one message after another and answers each before the next.
func (e *Engine) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(engineIdle)) // a closed connection says so at the read
		text, err := readMLLP(r)
		if err != nil {
			if errors.Is(err, errFraming) {
				e.control.other("not MLLP")
			}
			return
		}
		if r.Buffered() > 0 {
			e.control.other("a second message before the first was answered")
			return
		}
		_ = conn.SetReadDeadline(time.Time{}) // as above
		if !e.answer(conn, r, text) {
			return
		}
	}
}

// readMLLP reads a block: 0x0B, the message, 0x1C 0x0D, and nothing between blocks.
func readMLLP(r *bufio.Reader) (string, error) {
	first, err := r.ReadByte()
	if err != nil {
		return "", err //nolint:wrapcheck // the end of the connection
	}
	if first != blockStart {
		return "", errFraming
	}
	var b strings.Builder
	for {
		c, err := r.ReadByte()
		if err != nil {
			return "", errFraming
		}
		switch {
		case c == blockEnd:
			if next, err := r.ReadByte(); err != nil || next != '\r' {
				return "", errFraming
			}
			return b.String(), nil
		case c == blockStart || b.Len() >= engineMaxMessage:
			return "", errFraming
		}
		b.WriteByte(c)
	}
}

// answer deals with one message, and reports whether the connection goes on.
func (e *Engine) answer(conn net.Conn, r *bufio.Reader, text string) bool {
	q, refusal := e.understand(text)
	if refusal != nil {
		e.control.other("refused " + refusal.code)
		return sendBlock(conn, e.acknowledge(q, *refusal))
	}
	spec := e.control.reached(q.event + " " + q.code)
	switch spec.Fault {
	case FaultDown:
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // at worst the close is an orderly one
		}
		return false
	case FaultHang:
		e.untilLeft(conn, r, spec.wait(0))
		return false
	case FaultSlow:
		if !e.untilLeft(conn, r, spec.wait(defaultSlow)) {
			return false
		}
	case FaultGarbage:
		return sendBlock(conn, "<!doctype html>\x00<p>Bad gateway\x1c\r")
	case FaultError500:
		return sendBlock(conn, e.respond(q, "AE", "AE", "ERR||QPD^1^3|207^Application internal error^HL70357|E\r", "", "", 0, 0, 0))
	case FaultUnauthorised:
		return sendBlock(conn, e.acknowledge(q, refused{"AR", "103", "Table value not found", "MSH^1^3"}))
	case FaultNoConsent:
		return sendBlock(conn, e.respond(q, "AA", "PD", "", "", "", 0, 0, 0))
	case FaultHuge:
		return e.huge(conn, q)
	}
	out := e.record(q, spec.Fault)
	switch spec.Fault {
	case FaultDuplicateKeys:
		msa := out[strings.Index(out, "\rMSA|")+1:]
		msa = msa[:strings.Index(msa, "\r")+1]
		out = strings.Replace(out, msa, msa+msa, 1)
	case FaultBadUTF8:
		out = strings.Replace(out, "\rMSA|", "\rSFT|Caf\xff^L|1|Engine|1\rMSA|", 1)
	case FaultTruncated:
		out = out[:len(out)/2]
		out = strings.TrimRight(out, "\r") // not even its last segment is whole
	case FaultTrickle:
		return e.trickleMLLP(conn, r, out, spec.wait(defaultTrickle))
	}
	return sendBlock(conn, out)
}

// sendBlock sends one block and reports whether the other side is still there.
func sendBlock(conn net.Conn, text string) bool {
	_, err := conn.Write([]byte(string(rune(blockStart)) + text + string(rune(blockEnd)) + "\r"))
	return err == nil
}

// untilLeft waits for d, or without end if d is 0, and reports whether the client is still there.
func (e *Engine) untilLeft(conn net.Conn, r *bufio.Reader, d time.Duration) bool {
	if d > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(d)) // as in serve
	}
	_, err := r.Peek(1) // the client has nothing to say until it is answered
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (e *Engine) trickleMLLP(conn net.Conn, r *bufio.Reader, text string, wait time.Duration) bool {
	block := string(rune(blockStart)) + text + string(rune(blockEnd)) + "\r"
	for i := range len(block) {
		if _, err := conn.Write([]byte(block[i : i+1])); err != nil || !e.untilLeft(conn, r, wait) {
			return false
		}
	}
	return true
}

// huge sends a record that does not end before hugeBytes, well-formed.
func (e *Engine) huge(conn net.Conn, q engineQuery) bool {
	pid := "PID|1||" + q.number + "^^^NHS^NH||Person^A\r"
	head := string(rune(blockStart)) + e.head(q, q.reply()) + e.ack(q, "AA", "") + e.qak(q, "OK", 1, 1, 0) + q.echo + "\r" + pid +
		"OBR|1|1^A|2^B|1^Notes^L|||20240101||||||||||||||||||F\r"
	_, err := io.WriteString(conn, head)
	line := "OBX|1|TX|1^Note^L||" + strings.Repeat("Nothing to report. ", 512) + "||||||F\r"
	for sent := 0; sent < hugeBytes && err == nil; sent += len(line) {
		_, err = io.WriteString(conn, line)
	}
	if err == nil {
		_, err = io.WriteString(conn, string(rune(blockEnd))+"\r")
	}
	return err == nil
}
