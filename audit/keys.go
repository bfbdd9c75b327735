package audit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// ErrKeys is wrapped by every error about key files. The text says which file and what to do, never what a key is.
var ErrKeys = errors.New("the ledger's keys cannot be used")

// Keys holds, per key epoch, one key that seals payloads and one that makes the keyed hashes by which people are found (L-3). New
// entries use the newest epoch; older ones are kept to read and find what was written under them. Beside them are the keys that sign
// checkpoints: each that is there signs, so that a new one can be made known before the old one is taken away. It prints as a fixed word.
type Keys struct {
	epochs  []epoch      // by number, ascending; at least one
	signing []signingKey // by number, ascending
}

// signingKey is the seed of an Ed25519 key (RFC 8032).
type signingKey struct {
	number uint32
	seed   [keySize]byte
}

type epoch struct {
	number  uint32
	payload [keySize]byte
	lookup  [keySize]byte
	sealing *xaes       // of payload; nil: it is made when it is needed
	marking hash.Cloner // an HMAC by lookup to which nothing is ever written; nil likewise
}

// newEpoch makes ready what is of the keys and of nobody's data.
func newEpoch(number uint32, payload, lookup [keySize]byte) epoch {
	e := epoch{number: number, payload: payload, lookup: lookup, sealing: newXAES(payload)}
	e.marking, _ = e.mac().(hash.Cloner) // that of the standard library is one
	return e
}

// mac is a new HMAC by lookup.
func (e *epoch) mac() hash.Hash {
	if e.marking != nil {
		if h, err := e.marking.Clone(); err == nil {
			return h // half of what it costs to begin with the key
		}
	}
	return hmac.New(sha256.New, e.lookup[:])
}

// Key files are named payload-0001.key and lookup-0001.key, by epoch, and signing-0001.key; each holds exactly 32 bytes.
const (
	payloadPrefix = "payload-"
	lookupPrefix  = "lookup-"
	signingPrefix = "signing-"
	keySuffix     = ".key"
)

func keyFile(dir, prefix string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%s%04d%s", prefix, number, keySuffix))
}

// CreateKeys makes the keys of epoch 1 and the first signing key in dir, which it creates if it is not there, and loads them. It never overwrites: if
// any key file is there already, it fails and changes nothing. Files are readable by their owner only (0400) and on disk when it returns.
//
// Whoever loses the keys of an epoch can neither read the ledger nor honour the objections in it: back them up, apart from the ledger.
func CreateKeys(dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: the folder cannot be made: %s", ErrKeys, reason(err))
	}
	if found, err := filepath.Glob(filepath.Join(dir, "*"+keySuffix)); err != nil || len(found) > 0 {
		return nil, fmt.Errorf("%w: there are keys in the folder already; load those, or name another folder", ErrKeys)
	}
	if err := makeKeys(keyFile(dir, payloadPrefix, 1), keyFile(dir, lookupPrefix, 1), keyFile(dir, signingPrefix, 1)); err != nil {
		return nil, err
	}
	return LoadKeys(dir)
}

// AddEpoch makes the keys of the next epoch beside those that are there, and returns its number. A ledger uses them once it has loaded them; what
// was written before stays as it is.
func AddEpoch(dir string) (uint32, error) {
	k, err := LoadKeys(dir)
	if err != nil {
		return 0, err
	}
	number := k.current().number + 1
	return number, makeKeys(keyFile(dir, payloadPrefix, number), keyFile(dir, lookupPrefix, number))
}

// AddSigningKey makes the next signing key beside those that are there, and returns its number. A ledger that has loaded it signs with both, until the
// file of the old one is taken away.
func AddSigningKey(dir string) (uint32, error) {
	k, err := LoadKeys(dir)
	if err != nil {
		return 0, err
	}
	number := uint32(1)
	if n := len(k.signing); n > 0 {
		number = k.signing[n-1].number + 1
	}
	return number, makeKeys(keyFile(dir, signingPrefix, number))
}

// makeKeys makes key files, all or none.
func makeKeys(names ...string) error {
	var made []string
	undo := func(name string, err error) error {
		for _, m := range made {
			_ = os.Remove(m) // made by this call and never used
		}
		return fmt.Errorf("%w: %s cannot be written: %s", ErrKeys, filepath.Base(name), reason(err))
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
		if err != nil {
			return undo(name, err)
		}
		made = append(made, name)
		var key [keySize]byte
		_, _ = rand.Read(key[:]) // crypto/rand.Read never returns an error (Go 1.24)
		_, err = f.Write(key[:])
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return undo(name, err)
		}
	}
	d, err := os.Open(filepath.Dir(names[0]))
	if err != nil {
		return undo(names[0], err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return undo(names[0], err)
	}
	return nil
}

// LoadKeys reads the keys of every epoch in dir. It refuses files that others than their owner may touch, files of another length than
// 32 bytes, keys that are nothing but zeros or used twice, epochs that lack one of their two keys, and numbers of epochs with a gap.
func LoadKeys(dir string) (*Keys, error) {
	listed, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: the folder cannot be read: %s", ErrKeys, reason(err))
	}
	payload, lookup, signing := map[uint32][keySize]byte{}, map[uint32][keySize]byte{}, map[uint32][keySize]byte{}
	seen := map[[keySize]byte]bool{}
	for _, f := range listed {
		into, digits := payload, strings.TrimPrefix(f.Name(), payloadPrefix)
		switch {
		case strings.HasPrefix(f.Name(), lookupPrefix):
			into, digits = lookup, strings.TrimPrefix(f.Name(), lookupPrefix)
		case strings.HasPrefix(f.Name(), signingPrefix):
			into, digits = signing, strings.TrimPrefix(f.Name(), signingPrefix)
		}
		number, err := strconv.ParseUint(strings.TrimSuffix(digits, keySuffix), 10, 32)
		if err != nil || !strings.HasSuffix(digits, keySuffix) || digits == f.Name() || number == 0 {
			continue // not a key file
		}
		name := filepath.Join(dir, f.Name())
		if _, twice := into[uint32(number)]; twice {
			return nil, fmt.Errorf("%w: %s: another file is of the same epoch", ErrKeys, f.Name())
		}
		key, err := readKey(name)
		if err != nil {
			return nil, err
		}
		if seen[key] {
			return nil, fmt.Errorf("%w: %s holds the same key as another file; every key must be its own", ErrKeys, f.Name())
		}
		seen[key], into[uint32(number)] = true, key
	}
	k := &Keys{}
	for number, p := range payload {
		l, ok := lookup[number]
		if !ok {
			return nil, fmt.Errorf("%w: %s has no %s beside it", ErrKeys, filepath.Base(keyFile(dir, payloadPrefix, number)), filepath.Base(keyFile(dir, lookupPrefix, number)))
		}
		k.epochs = append(k.epochs, newEpoch(number, p, l))
	}
	for number := range lookup {
		if _, ok := payload[number]; !ok {
			return nil, fmt.Errorf("%w: %s has no %s beside it", ErrKeys, filepath.Base(keyFile(dir, lookupPrefix, number)), filepath.Base(keyFile(dir, payloadPrefix, number)))
		}
	}
	if len(k.epochs) == 0 {
		return nil, fmt.Errorf("%w: there are none in the folder", ErrKeys)
	}
	slices.SortFunc(k.epochs, func(a, b epoch) int { return int(int64(a.number) - int64(b.number)) })
	for i := range k.epochs[1:] {
		if n := k.epochs[i].number + 1; k.epochs[i+1].number != n {
			return nil, fmt.Errorf("%w: there is no %s although a later epoch is there: epochs are numbered without a gap", ErrKeys, filepath.Base(keyFile(dir, payloadPrefix, n)))
		}
	}
	for number, seed := range signing {
		k.signing = append(k.signing, signingKey{number, seed})
	}
	slices.SortFunc(k.signing, func(a, b signingKey) int { return int(int64(a.number) - int64(b.number)) })
	return k, nil
}

func readKey(name string) (key [keySize]byte, err error) {
	base := filepath.Base(name)
	f, err := os.Open(name)
	if err != nil {
		return key, fmt.Errorf("%w: %s cannot be read: %s", ErrKeys, base, reason(err))
	}
	defer func() { _ = f.Close() }() // opened for reading only
	info, err := f.Stat()
	switch {
	case err != nil:
		return key, fmt.Errorf("%w: %s cannot be read: %s", ErrKeys, base, reason(err))
	case !info.Mode().IsRegular():
		return key, fmt.Errorf("%w: %s is not a plain file", ErrKeys, base)
	case info.Mode().Perm()&0o077 != 0:
		return key, fmt.Errorf("%w: %s can be touched by others than its owner (mode %04o); chmod 0400 it", ErrKeys, base, info.Mode().Perm())
	case info.Size() != keySize:
		return key, fmt.Errorf("%w: %s must hold exactly %d bytes", ErrKeys, base, keySize)
	}
	if _, err := io.ReadFull(f, key[:]); err != nil {
		return key, fmt.Errorf("%w: %s cannot be read: %s", ErrKeys, base, reason(err))
	}
	if key == [keySize]byte{} {
		return key, fmt.Errorf("%w: %s holds nothing but zeros", ErrKeys, base)
	}
	return key, nil
}

// reason reduces an error of the file system to words of our own.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it is not there"
	case errors.Is(err, fs.ErrExist):
		return "it is there already"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	}
	return "input or output error"
}

func (k *Keys) current() *epoch { return &k.epochs[len(k.epochs)-1] }

func (k *Keys) epoch(number uint32) (*epoch, bool) {
	i, ok := slices.BinarySearchFunc(k.epochs, number, func(e epoch, n uint32) int { return int(int64(e.number) - int64(n)) })
	if !ok {
		return nil, false
	}
	return &k.epochs[i], true
}

// holds reports whether every epoch of old is among those of k, unchanged.
func (k *Keys) holds(old *Keys) bool {
	for _, e := range old.epochs {
		if mine, ok := k.epoch(e.number); !ok || mine.payload != e.payload || mine.lookup != e.lookup {
			return false
		}
	}
	return true
}

// fingerprint tells keys apart without telling what they are.
func (e *epoch) fingerprint() string {
	h := sha256.New()
	_, _ = io.WriteString(h, "mycarerecord key epoch v1\x00") // hash.Hash.Write never returns an error
	_, _ = h.Write(e.payload[:])
	_, _ = h.Write(e.lookup[:])
	return hex.EncodeToString(h.Sum(nil))
}

// hash is the keyed hash of some values of one kind: HMAC-SHA256 over the kind and, for each value, its length and its bytes.
func (e *epoch) hash(kind MarkKind, values ...string) Mark {
	var room [192]byte
	text := append(room[:0], EntryVersion, byte(kind))
	for _, v := range values {
		v = plain(v)
		text = append(binary.BigEndian.AppendUint32(text, uint32(len(v))), v...) //nolint:gosec // texts are short
	}
	h := e.mac()
	_, _ = h.Write(text)
	return Mark{kind, string(h.Sum(text[:0]))}
}

// plain returns s as a payload holds it: what is not UTF-8 is U+FFFD, byte by byte. A mark is made of what can be read again.
func plain(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// hashes returns the marks of some values under every epoch, newest first.
func (k *Keys) hashes(kind MarkKind, values ...string) []Mark {
	out := make([]Mark, 0, len(k.epochs))
	for i := len(k.epochs) - 1; i >= 0; i-- {
		out = append(out, k.epochs[i].hash(kind, values...))
	}
	return out
}

// persons returns the marks of some numbers under every epoch.
func (k *Keys) persons(numbers []record.NHSNumber) []Mark {
	var out []Mark
	for _, n := range numbers {
		if !n.IsZero() {
			out = append(out, k.hashes(MarkPerson, n.Reveal())...)
		}
	}
	return out
}

// next is the mark of the epoch after those at hand. Epochs are numbered without a gap: where the ledger names any that is newer, it names this one.
func (k *Keys) next() []Mark { return []Mark{epochMark(k.current().number + 1)} }

// behind reports whether the ledger is written under an epoch that is not at hand. What stands under it is not found by these keys: an objection would be
// as if it had never been.
func (k *Keys) behind(r Reader) (bool, error) {
	_, newer, err := r.Newest(k.next())
	return newer, err
}

func epochMark(number uint32) Mark {
	return Mark{MarkEpoch, string(binary.BigEndian.AppendUint32(nil, number))}
}

// signerMark finds the entry that made a signing key known, by its key ID text.
func signerMark(verifier string) Mark {
	sum := sha256.Sum256([]byte(verifier))
	return Mark{MarkSigner, string(sum[:])}
}

const redactedKeys = "audit.Keys(redacted)"

// String returns a fixed word.
func (k Keys) String() string { return redactedKeys }

// GoString returns a fixed word.
func (k Keys) GoString() string { return redactedKeys }

// Format writes a fixed word for every verb.
func (k Keys) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redactedKeys) }

// MarshalText returns a fixed word.
func (k Keys) MarshalText() ([]byte, error) { return []byte(redactedKeys), nil }

// LogValue returns a fixed word.
func (k Keys) LogValue() slog.Value { return slog.StringValue(redactedKeys) }
