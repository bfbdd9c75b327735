package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// A custodian's log of requests that came from the broker: one JSON object a line, {"time":"2026-01-31T09:30:00Z","custodian":"gp","requestId":"…"}, where time is
// RFC 3339, custodian its configured key, and requestId the X-Request-ID that came with the request. Other members are passed over.
type logged struct {
	Time      time.Time `json:"time"`
	Custodian string    `json:"custodian"`
	RequestID string    `json:"requestId"`
}

// reconciliation says how custodians' logs and the ledger agree.
type reconciliation struct {
	lines     int
	matched   int
	unentered []problemLine // requests that no entry of the ledger accounts for
	unlogged  int           // accesses that a custodian was to be asked for and whose log has nothing of; a custodian may be down
}

type problemLine struct {
	log  string // its name
	line int
	text string
}

// requestLog is a custodian's log.
type requestLog struct {
	name string
	io.Reader
}

// skew is how far a custodian's clock may be from the ledger's, and window how long after its Begin an access may still ask.
const (
	skew   = 2 * time.Minute
	window = 5 * time.Minute
)

// outgoing is a request id in the form in which it leaves for custodians: a UUID stays, of anything else a name-based one is made.
func outgoing(id string) string {
	uuid := len(id) == 36
	for i := 0; uuid && i < len(id); i++ {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			uuid = id[i] == '-'
		} else {
			uuid = id[i] >= '0' && id[i] <= '9' || id[i] >= 'a' && id[i] <= 'f'
		}
	}
	if uuid {
		return id
	}
	return made(id)
}

func made(id string) string {
	sum := sha256.Sum256([]byte("mycarerecord request id\x00" + id))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// reconcile holds custodians' logs against the accesses that the ledger tells of. Requests before the first or after the last entry are not judged.
func (r *replay) reconcile(logs []requestLog) (reconciliation, error) {
	var out reconciliation
	byID := map[string][]*begun{}
	for _, b := range r.begins {
		for _, id := range []string{outgoing(b.access.RequestID), made(b.access.RequestID)} { // a UUID that looks like it holds an NHS number is replaced too
			byID[id] = append(byID[id], b)
		}
	}
	first, last := micros(r.c.began), micros(r.c.time)
	custodians := map[string]bool{}
	for _, log := range logs {
		lines := bufio.NewScanner(log)
		lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
		for n := 1; lines.Scan(); n++ {
			var l logged
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil || l.Custodian == "" || l.Time.IsZero() {
				return out, fmt.Errorf("line %d of %s cannot be read: give time, custodian and requestId", n, log.name)
			}
			custodians[l.Custodian] = true
			if l.Time.Before(first.Add(-skew)) || l.Time.After(last.Add(skew)) {
				continue
			}
			out.lines++
			ok := false
			for _, b := range byID[l.RequestID] {
				if slices.Contains(b.access.Asked, l.Custodian) && !l.Time.Before(b.at.Add(-skew)) && l.Time.Before(b.at.Add(window+skew)) {
					b.claimed[l.Custodian]++
					ok = true
				}
			}
			if ok {
				out.matched++
			} else {
				out.unentered = append(out.unentered, problemLine{log.name, n, "a request to " + l.Custodian + " that no entry accounts for"})
			}
		}
		if lines.Err() != nil {
			return out, fmt.Errorf("%s cannot be read to its end", log.name)
		}
	}
	for _, b := range r.begins {
		for _, k := range b.access.Asked {
			if custodians[k] && b.claimed[k] == 0 {
				out.unlogged++
			}
		}
	}
	return out, nil
}
