package documents_test

import (
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
)

// T-15: what a document makes of itself in memory stays within 64 MiB, beside its own bytes.
func TestMemory(t *testing.T) {
	holder := newAnswering(t)
	src := hostileSource(t, holder.url, holder.url)
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	heap := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	worst := uint64(0)
	for name, body := range map[string]string{
		"elements":   "<a>" + strings.Repeat("<b/>", 2<<20) + "</a>",
		"attributes": "<a>" + strings.Repeat(`<b a="1" b="2" c="3" d="4"/>`, 300_000) + "</a>",
		"text":       "<a>" + strings.Repeat("word ", 1<<20) + "</a>",
		"pieces":     "<a>" + strings.Repeat("x<?a?>", 1<<20) + "</a>",
		"values":     `{"resourceType":"Bundle","x":[` + strings.Repeat("{},", 1<<21) + `{}]}`,
		"numbers":    `{"resourceType":"Bundle","x":[` + strings.Repeat("1,", 1<<21) + `1]}`,
		"members":    `{"resourceType":"Bundle",` + members(200_000) + `"y":1}`,
		"a div":      `{"resourceType":"Bundle","div":"` + strings.Repeat("<b/>", 1<<20) + `"}`,
		"a picture":  `{"resourceType":"Binary","data":"` + strings.Repeat("QUFB", 1<<20) + `"}`,
	} {
		holder.say(typed("application/xml", body))
		q := query(t, held)
		q.Limits = broker.DefaultLimits
		debug.FreeOSMemory()
		before, peak, done, ended := heap(), uint64(0), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				if h := heap(); h > peak {
					peak = h
				}
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}()
		_, err := src.Document(t.Context(), q, holder.url+"/d")
		close(done)
		<-ended
		extra := peak - min(peak, before)
		worst = max(worst, extra)
		t.Logf("%s: %d MiB, at most %d MiB more while it is read: %v", name, len(body)>>20, extra>>20, err)
		if extra > 64<<20+2*uint64(len(body)) { // the server of this test holds what it sends, too
			t.Errorf("%s took %d MiB", name, extra>>20)
		}
	}
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"k`)
		b.WriteString(strings.Repeat("a", i%7))
		b.WriteString(strconv.Itoa(i))
		b.WriteString(`":1,`)
	}
	return b.String()
}
