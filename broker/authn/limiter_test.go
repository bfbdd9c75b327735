package authn

import (
	"fmt"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

func TestLimiter(t *testing.T) {
	l := NewLimiter(Limits{PerSecond: 2, Burst: 5, Callers: 3})
	ada, bob := record.Requester{Issuer: "i", User: "ada"}, record.Requester{Issuer: "i", User: "bob"}
	for i := range 5 {
		if ok, _ := l.allow(ada, noon); !ok {
			t.Fatalf("call %d of the burst was refused", i+1)
		}
	}
	if ok, after := l.allow(ada, noon); ok || after != time.Second {
		t.Errorf("got %v, wait %v; want a refusal and a second", ok, after)
	}
	if ok, _ := l.allow(bob, noon); !ok {
		t.Error("one caller used up another's")
	}
	if ok, _ := l.allow(record.Requester{Issuer: "j", User: "ada"}, noon); !ok {
		t.Error("the same user of another issuer is another caller")
	}
	allowed := 0
	for i := range 100 { // ten seconds, ten calls each
		if ok, _ := l.allow(ada, noon.Add(time.Duration(i+1)*100*time.Millisecond)); ok {
			allowed++
		}
	}
	if allowed != 20 {
		t.Errorf("%d calls in ten seconds, want 20", allowed)
	}
	for i := range 1000 {
		l.allow(record.Requester{Issuer: "i", User: fmt.Sprint(i)}, noon.Add(time.Minute))
	}
	if len(l.buckets) != 3 || l.order.Len() != 3 {
		t.Errorf("%d callers remembered, want 3", len(l.buckets))
	}
}

func TestLimiterSlowRate(t *testing.T) {
	l := NewLimiter(Limits{PerSecond: 0.1, Burst: 1})
	ada := record.Requester{Issuer: "i", User: "ada"}
	if ok, _ := l.allow(ada, noon); !ok {
		t.Fatal("refused")
	}
	if ok, after := l.allow(ada, noon); ok || after != 10*time.Second {
		t.Errorf("got %v, wait %v; want a refusal and 10 s", ok, after)
	}
}
