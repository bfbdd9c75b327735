package simulator

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
)

// engineQuery is a query that was understood, or as much of it as was.
type engineQuery struct {
	event   string // QBP^Q11 or QRY^R02
	version string
	mode    string // MSH-11
	control string // MSH-10
	sender  [2]string
	code    string // of the query
	name    string // QPD-1
	tag     string
	number  string
	limit   int
	pointer string
	echo    string // QPD or QRD as it came
}

func (q engineQuery) legacy() bool { return q.event == "QRY^R02" }

// reply is MSH-9 of the answer.
func (q engineQuery) reply() string {
	if q.legacy() {
		return "ORF^R04^ORF_R04"
	}
	return "RSP^K11^RSP_K11"
}

// refused is why a message is not answered: MSA-1, ERR-3 (HL7 table 0357) and its text, ERR-2.
type refused struct{ ack, code, text, where string }

// engineVersions are those that it speaks.
var engineVersions = []string{"2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8"}

// understand reads a message as a strict engine does (HL7 2.5.1 chapters 2 and 5): header, structure, values.
func (e *Engine) understand(text string) (q engineQuery, no *refused) {
	reject := func(code, text, where string) *refused { return &refused{"AR", code, text, where} }
	if !strings.HasPrefix(text, `MSH|^~\&|`) {
		return q, reject("100", "Segment sequence error", "MSH^1")
	}
	if !strings.HasSuffix(text, "\r") || strings.ContainsAny(text, "\n") {
		return q, reject("100", "Segment sequence error", "MSH^1")
	}
	lines := strings.Split(strings.TrimSuffix(text, "\r"), "\r")
	msh := append([]string{"", "|"}, strings.Split(lines[0], "|")[1:]...) // so that msh[n] is MSH-n
	at := func(fields []string, n int) string {
		if n < len(fields) {
			return fields[n]
		}
		return ""
	}
	kind := strings.Split(at(msh, 9), "^")
	q.control, q.version, q.mode, q.sender = at(msh, 10), at(msh, 12), at(msh, 11), [2]string{at(msh, 3), at(msh, 4)}
	q.event = strings.Join(kind[:min(2, len(kind))], "^")
	structures := map[string]string{"QBP^Q11": "QBP_Q11", "QRY^R02": "QRY_R02"}
	switch {
	case kind[0] != "QBP" && kind[0] != "QRY":
		return q, reject("200", "Unsupported message type", "MSH^1^9")
	case structures[q.event] == "":
		return q, reject("201", "Unsupported event code", "MSH^1^9")
	case len(kind) != 3 || kind[2] != structures[q.event]:
		return q, reject("102", "Data type error", "MSH^1^9")
	case q.control == "":
		return q, reject("101", "Required field missing", "MSH^1^10")
	case len(q.control) > 20:
		return q, reject("104", "Value too long", "MSH^1^10")
	case q.mode != "P" && q.mode != "T" && q.mode != "D":
		return q, reject("202", "Unsupported processing id", "MSH^1^11")
	case !slices.Contains(engineVersions, q.version):
		return q, reject("203", "Unsupported version id", "MSH^1^12")
	case !isHL7Time(at(msh, 7)):
		return q, reject("101", "Required field missing", "MSH^1^7")
	case at(msh, 3) == "" || e.cfg.Senders != nil && !slices.Contains(e.cfg.Senders, at(msh, 3)):
		return q, reject("103", "Table value not found", "MSH^1^3")
	case !slices.Contains([]string{"UNICODE UTF-8", "ASCII", "8859/1", ""}, at(msh, 18)):
		return q, reject("103", "Table value not found", "MSH^1^18")
	case at(msh, 15) != "" || at(msh, 16) != "":
		return q, reject("207", "Application internal error: original mode only", "MSH^1^15")
	}
	e.mu.Lock()
	seen := e.controls[q.control]
	e.controls[q.control] = true
	e.mu.Unlock()
	if seen {
		return q, reject("205", "Duplicate key identifier", "MSH^1^10")
	}
	for i, want := range map[bool][]string{false: {"MSH", "QPD", "RCP"}, true: {"MSH", "QRD"}}[q.legacy()] {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want+"|") {
			return q, &refused{"AE", "100", "Segment sequence error", want + "^1"}
		}
	}
	rest := lines[2:]
	if !q.legacy() {
		rest = lines[3:]
	}
	if len(rest) > 0 {
		dsc := strings.Split(rest[0], "|")
		if len(rest) > 1 || dsc[0] != "DSC" || at(dsc, 1) == "" || at(dsc, 2) != "I" {
			return q, &refused{"AE", "100", "Segment sequence error", "DSC^1"}
		}
		q.pointer = dsc[1]
	}
	if q.legacy() {
		return e.understandQRD(q, strings.Split(lines[1], "|"), lines[1], at)
	}
	return e.understandQPD(q, strings.Split(lines[1], "|"), strings.Split(lines[2], "|"), lines[1], at)
}

func (e *Engine) understandQPD(q engineQuery, qpd, rcp []string, line string, at func([]string, int) string) (engineQuery, *refused) {
	q.name, q.tag, q.echo = at(qpd, 1), at(qpd, 2), line
	q.code, _, _ = strings.Cut(q.name, "^")
	quantity, unit, _ := strings.Cut(at(rcp, 2), "^")
	limit, err := strconv.Atoi(quantity)
	switch {
	case !slices.Contains([]string{QueryVisits, QueryResults, QueryDocuments}, q.name):
		return q, &refused{"AE", "103", "Table value not found", "QPD^1^1"}
	case q.tag == "":
		return q, &refused{"AE", "101", "Required field missing", "QPD^1^2"}
	case len(q.tag) > 32:
		return q, &refused{"AE", "104", "Value too long", "QPD^1^2"}
	case at(rcp, 1) != "I":
		return q, &refused{"AE", "103", "Table value not found", "RCP^1^1"}
	case err != nil || limit < 1 || unit != "RD":
		return q, &refused{"AE", "102", "Data type error", "RCP^1^2"}
	}
	q.limit = limit
	cx := strings.Split(at(qpd, 3), "^")
	if len(cx) != 5 || cx[1] != "" || cx[2] != "" || cx[3] != "NHS" || cx[4] != "NH" || !validNHS(cx[0]) {
		return q, &refused{"AE", "102", "Data type error", "QPD^1^3"}
	}
	q.number = cx[0]
	return q, nil
}

func (e *Engine) understandQRD(q engineQuery, qrd []string, line string, at func([]string, int) string) (engineQuery, *refused) {
	q.tag, q.echo, q.code = at(qrd, 4), line, at(qrd, 9)
	quantity, unit, _ := strings.Cut(at(qrd, 7), "^")
	limit, err := strconv.Atoi(quantity)
	who := strings.Split(at(qrd, 8), "^")
	switch {
	case !isHL7Time(at(qrd, 1)) || at(qrd, 2) != "R" || at(qrd, 3) != "I":
		return q, &refused{"AE", "102", "Data type error", "QRD^1^1"}
	case q.tag == "" || len(q.tag) > 10:
		return q, &refused{"AE", "104", "Value too long", "QRD^1^4"}
	case err != nil || limit < 1 || unit != "RD":
		return q, &refused{"AE", "102", "Data type error", "QRD^1^7"}
	case len(who) != 13 || who[8] != "NHS" || who[12] != "NH" || !validNHS(who[0]):
		return q, &refused{"AE", "102", "Data type error", "QRD^1^8"}
	case q.code != legacyResults:
		return q, &refused{"AE", "103", "Table value not found", "QRD^1^9"}
	}
	q.number, q.limit = who[0], limit
	return q, nil
}

// isHL7Time reports whether s is a time to the second with a zone, as a sender of ours has it.
func isHL7Time(s string) bool {
	_, err := time.Parse("20060102150405-0700", s)
	return err == nil
}

// validNHS is the modulus 11 check of NHS numbers.
func validNHS(s string) bool {
	if len(s) != 10 || strings.Trim(s, "0123456789") != "" {
		return false
	}
	sum := 0
	for i := range 9 {
		sum += int(s[i]-'0') * (10 - i)
	}
	return (11-sum%11)%11 == int(s[9]-'0')
}

// head writes MSH of an answer.
func (e *Engine) head(q engineQuery, kind string) string {
	set := "UNICODE UTF-8"
	if e.cfg.Latin {
		set = "8859/1"
	}
	version, mode := q.version, q.mode
	if version == "" {
		version = "2.5.1"
	}
	if mode == "" {
		mode = "P"
	}
	e.mu.Lock()
	n := len(e.controls)
	e.mu.Unlock()
	return `MSH|^~\&|` + e.cfg.Application + "|" + e.cfg.Facility + "|" + q.sender[0] + "|" + q.sender[1] + "|" + time.Now().UTC().Format("20060102150405-0700") + "||" + kind +
		"|E" + strconv.Itoa(n) + "|" + mode + "|" + version + "|||||GBR|" + set + "\r"
}

func (e *Engine) ack(q engineQuery, code, errs string) string {
	return "MSA|" + code + "|" + q.control + "\r" + errs
}

func (e *Engine) qak(q engineQuery, status string, hits, here, left int) string {
	return "QAK|" + q.tag + "|" + status + "|" + q.name + "|" + strconv.Itoa(hits) + "|" + strconv.Itoa(here) + "|" + strconv.Itoa(left) + "\r"
}

// acknowledge answers a message that was not understood.
func (e *Engine) acknowledge(q engineQuery, no refused) string {
	_, trigger, _ := strings.Cut(q.event, "^")
	return e.head(q, strings.Trim("ACK^"+trigger+"^ACK", "^")) + e.ack(q, no.ack, "ERR||"+no.where+"|"+no.code+"^"+no.text+"^HL70357|E\r")
}

// respond writes an answer.
func (e *Engine) respond(q engineQuery, ack, status, errs, body, next string, hits, here, left int) string {
	var b strings.Builder
	b.WriteString(e.head(q, q.reply()) + e.ack(q, ack, errs))
	if q.legacy() {
		b.WriteString(q.echo + "\r" + body)
		if status != "OK" {
			b.WriteString(e.qak(q, status, hits, here, left))
		}
	} else {
		b.WriteString(e.qak(q, status, hits, here, left) + q.echo + "\r" + body)
	}
	if next != "" {
		b.WriteString("DSC|" + next + "|I\r")
	}
	out := b.String()
	if e.cfg.Latin {
		out = latin(out)
	}
	return out
}

// latin writes text in 8859/1; what it does not have becomes a question mark.
func latin(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r > 0xff {
			r = '?'
		}
		b.WriteByte(byte(r))
	}
	return b.String()
}

// pointer is the continuation pointer of a page: opaque, and the same for the same page.
func pointer(offset int) string {
	return base64.RawURLEncoding.EncodeToString([]byte("from " + strconv.Itoa(offset)))
}

// record answers a query that was understood.
func (e *Engine) record(q engineQuery, f Fault) string {
	code := q.code
	if q.legacy() {
		code, _, _ = strings.Cut(QueryResults, "^")
	}
	r := e.people[q.number]
	if f == FaultWrongPatient {
		r = strangersGroups(q.number, code)
		q.pointer = ""
	}
	if r == nil || f == FaultNoRecord {
		if q.legacy() {
			return e.respond(q, "AE", "NF", "ERR||QRD^1^8|204^Unknown key identifier^HL70357|E\r", "", "", 0, 0, 0)
		}
		return e.respond(q, "AA", "NF", "", "", "", 0, 0, 0)
	}
	groups := r.groups[code]
	if len(groups) == 0 {
		return e.respond(q, "AA", "NF", "", "", "", 0, 0, 0)
	}
	offset := 0
	if q.pointer != "" {
		text, err := base64.RawURLEncoding.DecodeString(q.pointer)
		n, bad := strconv.Atoi(strings.TrimPrefix(string(text), "from "))
		if err != nil || bad != nil || n < 0 || n >= len(groups) {
			return e.respond(q, "AE", "AE", "ERR||DSC^1^1|204^Unknown key identifier^HL70357|E\r", "", "", 0, 0, 0)
		}
		offset = n
	}
	to := min(offset+min(q.limit, e.cfg.PageSize), len(groups))
	next := ""
	if to < len(groups) {
		next = pointer(to)
	}
	if f == FaultPageLoop {
		next = pointer(offset)
	}
	var body strings.Builder
	for _, g := range groups[offset:to] {
		writeGroup(&body, r.pid, g)
	}
	if f == FaultMixedPatients {
		other := strangersGroups(q.number, code)
		writeGroup(&body, other.pid, other.groups[code][0])
	}
	return e.respond(q, "AA", "OK", "", body.String(), next, len(groups), to-offset, len(groups)-to)
}

func writeGroup(b *strings.Builder, pid string, g Group) {
	if !strings.HasPrefix(g[0], "PID|") && !strings.HasPrefix(g[0], "EVN|") {
		b.WriteString(pid + "\r")
	}
	for _, line := range g {
		b.WriteString(line + "\r")
	}
}

// strangersGroups is a record of somebody whose number is not the one given. Every segment of it that has words says [StrangerTag].
func strangersGroups(not, code string) *engineRecord {
	return &engineRecord{pid: "PID|1||" + strangersNumber(not) + "^^^NHS^NH~99^^^X9B01^MR||Strangeways^Quentin||19550505|M", groups: map[string][]Group{code: {{
		"PV1|1|I|" + StrangerTag + "||||||||||||||||9900^^^X9B01^VN",
		"OBR|1|77^X|88^X|" + StrangerTag + "^Somebody else's test^L|||20240202||||||||||||||||||F",
		"OBX|1|ST|" + StrangerTag + "^Somebody else's result^L||positive " + StrangerTag + "||||||F",
	}}}}
}
