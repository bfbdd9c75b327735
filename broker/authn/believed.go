package authn

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// maxBelieved bounds how many signatures are remembered. A deployment has some hundred clinicians at work at once.
const maxBelieved = 4096

// believed remembers which signatures have been verified, and with which keys, because the same clinician's token comes with each of their
// requests and verifying it is the dearest thing that a small request costs. It holds digests of tokens and nothing of what they say: whatever else is
// checked of a token (whose it is, for whom, since when and how long) is checked each time. A key set that was fetched anew believes nothing that the
// one before it did. The zero value is ready. It is safe for concurrent use.
type believed struct {
	mu   sync.Mutex
	list map[[sha256.Size]byte]belief
}

type belief struct {
	keys  *jose.JSONWebKey // the first of the list that was tried: a fetch makes another
	until time.Time
}

// has reports whether the token was verified with these keys.
func (b *believed) has(token string, keys []jose.JSONWebKey, now time.Time) bool {
	if len(keys) == 0 {
		return false
	}
	sum := sha256.Sum256([]byte(token))
	b.mu.Lock()
	defer b.mu.Unlock()
	have, is := b.list[sum]
	return is && have.keys == &keys[0] && now.Before(have.until)
}

// add notes that the token was verified with these keys. It may be forgotten at any time: where there is no room all is, which costs a
// verification each.
func (b *believed) add(token string, keys []jose.JSONWebKey, now time.Time) {
	sum := sha256.Sum256([]byte(token))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.list == nil || len(b.list) >= maxBelieved {
		b.list = make(map[[sha256.Size]byte]belief)
	}
	b.list[sum] = belief{&keys[0], now.Add(believedFor)}
}

// believedFor bounds how long a digest is believed: tokens live for an hour at most where nothing else is configured.
const believedFor = time.Hour
