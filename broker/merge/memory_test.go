package merge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// Memory that one answer is in serves no other: what is there of an answer stays as it is while others are made, and nothing of it is in theirs, not even
// behind the end of what they show.
func TestNoAnswerIsInTheMemoryOfAnother(t *testing.T) {
	reply := func(mark string, n int) Reply {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final",%s,"code":{"text":"%s"}}`, i, toAda, strings.Repeat(mark, 1+i%40)))
		}
		return replyOf(t, list...)
	}
	prepare := func(r Reply) Prepared {
		p, err := Prepare(request(t), everything, r)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := prepare(reply("CANARY", 200))
	var before [][]byte
	for _, e := range first.Entries {
		before = append(before, bytes.Clone(e.JSON))
	}
	if !bytes.Contains(bytes.Join(before, nil), []byte("CANARY")) {
		t.Fatal("there is nothing to be found")
	}
	for n := 1; n < 300; n += 7 {
		prepare(reply("CANARY", n)) // and let go of
		for _, e := range prepare(reply("other.", n)).Entries {
			if bytes.Contains(e.JSON[:cap(e.JSON)], []byte("CANARY")) {
				t.Fatalf("with %d resources the answer before is still there", n)
			}
		}
	}
	for i, e := range first.Entries {
		if !bytes.Equal(e.JSON, before[i]) {
			t.Fatal("an answer has changed while others were made")
		}
	}
}
