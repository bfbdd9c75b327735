package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signed notes (c2sp.org/signed-note), checkpoints (c2sp.org/tlog-checkpoint) and cosignatures (c2sp.org/tlog-cosignature), written from their specifications.

const (
	typeSignature   = 1 // Ed25519 over the note's text
	typeCosignature = 4 // Ed25519 over the text and a time, by a witness
	maxNote         = 32 << 10
	maxSignatures   = 100
)

// key is a public key under a name.
type key struct {
	name   string
	id     uint32
	kind   byte
	public ed25519.PublicKey
}

func keyID(name string, kind byte, public []byte) uint32 {
	sum := sha256.Sum256(append(append([]byte(name+"\n"), kind), public...))
	return binary.BigEndian.Uint32(sum[:])
}

var errKey = errors.New("a key is a name, '+', a key ID in eight hex digits, '+', and the type and public key in base64, as `broker keys public` and `verify witness` print it")

// parseKey reads a verifier key.
func parseKey(text string) (key, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(text), "+")
	id, material, _ := strings.Cut(rest, "+")
	n, err := strconv.ParseUint(id, 16, 32)
	raw, err2 := base64.StdEncoding.DecodeString(material)
	if err != nil || err2 != nil || len(id) != 8 || name == "" || strings.ContainsAny(name, " \t\r\n") || len(raw) != 1+ed25519.PublicKeySize {
		return key{}, errKey
	}
	k := key{name, uint32(n), raw[0], raw[1:]}
	if k.kind != typeSignature && k.kind != typeCosignature || k.id != keyID(name, k.kind, k.public) {
		return key{}, errKey
	}
	return k, nil
}

func (k key) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.id, base64.StdEncoding.EncodeToString(append([]byte{k.kind}, k.public...)))
}

// checkpoint is a note that states a size and a root.
type checkpoint struct {
	origin string
	size   uint64
	root   hash
	text   []byte // what is signed: everything up to the empty line
	lines  []signature
}

type signature struct {
	name string
	id   uint32
	raw  []byte
}

var errCheckpoint = errors.New("this is not a checkpoint: a signed note of origin, size and root")

// parseCheckpoint reads a note. It checks no signature.
func parseCheckpoint(note []byte) (checkpoint, error) {
	text, sigs, found := bytes.Cut(note, []byte("\n\n"))
	if !found || len(note) > maxNote || bytes.ContainsAny(note, "\r\x00") {
		return checkpoint{}, errCheckpoint
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 3 || lines[0] == "" {
		return checkpoint{}, errCheckpoint
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	root, err2 := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || err2 != nil || lines[1] != strconv.FormatUint(size, 10) || len(root) != sha256.Size {
		return checkpoint{}, errCheckpoint
	}
	c := checkpoint{lines[0], size, hash(root), append(text, '\n'), nil}
	for line := range strings.Lines(string(sigs)) {
		rest, ok := strings.CutPrefix(line, "— ")
		name, encoded, ok2 := strings.Cut(strings.TrimSuffix(rest, "\n"), " ")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || !ok2 || err != nil || len(raw) < 5 || !strings.HasSuffix(line, "\n") {
			return checkpoint{}, errCheckpoint
		}
		s := signature{name, binary.BigEndian.Uint32(raw), raw[4:]}
		if slices.ContainsFunc(c.lines, func(o signature) bool { return o.name == s.name && o.id == s.id }) {
			continue // of each key the first counts: a witness that is asked again signs again
		}
		if len(c.lines) == maxSignatures {
			return checkpoint{}, errCheckpoint
		}
		c.lines = append(c.lines, s)
	}
	return c, nil
}

// signedBy reports whether any of the keys signed the checkpoint under its own origin.
func (c checkpoint) signedBy(keys []key) bool {
	for _, k := range keys {
		for _, s := range c.lines {
			if k.kind == typeSignature && k.name == c.origin && s.name == k.name && s.id == k.id && len(s.raw) == ed25519.SignatureSize && ed25519.Verify(k.public, c.text, s.raw) {
				return true
			}
		}
	}
	return false
}

// cosignedBy returns when a witness cosigned the checkpoint, and false if it did not.
func (c checkpoint) cosignedBy(k key) (time.Time, bool) {
	for _, s := range c.lines {
		if k.kind == typeCosignature && s.name == k.name && s.id == k.id && len(s.raw) == 8+ed25519.SignatureSize {
			at := binary.BigEndian.Uint64(s.raw)
			if at < 1<<62 && ed25519.Verify(k.public, cosigned(c.text, at), s.raw[8:]) {
				return time.Unix(int64(at), 0).UTC(), true
			}
		}
	}
	return time.Time{}, false
}

// cosigned is the message of a cosignature.
func cosigned(text []byte, at uint64) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), text...)
}

// cosign returns the line of a witness's signature.
func cosign(name string, private ed25519.PrivateKey, text []byte, at time.Time) string {
	public := private.Public().(ed25519.PublicKey)
	b := binary.BigEndian.AppendUint32(nil, keyID(name, typeCosignature, public))
	b = binary.BigEndian.AppendUint64(b, uint64(at.Unix()))
	b = append(b, ed25519.Sign(private, cosigned(text, uint64(at.Unix())))...)
	return "— " + name + " " + base64.StdEncoding.EncodeToString(b) + "\n"
}
