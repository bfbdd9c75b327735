package sink

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/mycarerecord/mycarerecord/audit"
)

// Witness asks a witness in another organisation to cosign checkpoints (c2sp.org/tlog-witness, c2sp.org/tlog-cosignature). `verify witness` is one.
type Witness struct {
	address string
	key     cosigner
	client  *http.Client
	has     uint64 // size of the checkpoint that it cosigned last, as far as it has proved that
}

var _ audit.Sink = (*Witness)(nil)

// cosigner is a witness's public key under its name.
type cosigner struct {
	name   string
	id     [4]byte
	public ed25519.PublicKey
}

// NewWitness is for the witness at an address, whose cosignatures are checked with its verifier key: name+id+base64 of 04 and the public key. client nil: one of
// its own without redirects.
func NewWitness(address, key string, client *http.Client) (*Witness, error) {
	k, err := parseCosigner(key)
	if err != nil {
		return nil, err
	}
	if client == nil {
		client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Witness{address: strings.TrimSuffix(address, "/"), key: k, client: client}, nil
}

// parseCosigner reads a verifier key (c2sp.org/signed-note) of type 4, a timestamped Ed25519 cosignature.
func parseCosigner(text string) (cosigner, error) {
	bad := errors.New("the key of a witness is its name, '+', its key ID, '+', and its public key of type 4 in base64, as `verify witness` prints it")
	name, rest, _ := strings.Cut(text, "+")
	id, material, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(material)
	if err != nil || name == "" || strings.ContainsAny(name, " \n") || len(raw) != 1+ed25519.PublicKeySize || raw[0] != cosignatureType {
		return cosigner{}, bad
	}
	k := cosigner{name: name, public: raw[1:]}
	sum := sha256.Sum256(append([]byte(name+"\n"), raw...))
	if copy(k.id[:], sum[:]); fmt.Sprintf("%x", k.id) != id {
		return cosigner{}, bad
	}
	return k, nil
}

const cosignatureType = 4

// Name implements audit.Sink.
func (w *Witness) Name() string { return "the witness " + w.key.name }

// Holds implements audit.Sink: a witness says what it has only when it is given something.
func (w *Witness) Holds(context.Context) (uint64, bool, error) { return w.has, false, nil }

// Extend implements audit.Sink.
func (w *Witness) Extend(ctx context.Context, c audit.Checkpoint, prove func(context.Context, uint64) ([][32]byte, error)) ([]byte, error) {
	given, err := c.State()
	if err != nil {
		return nil, err
	}
	has := w.has // what it says that it has is not signed: nothing of that is believed beyond this call, or one wrong answer would be the last
	contradicted := func() error {
		return fmt.Errorf("%s holds a checkpoint of %d entries that is not continued by that of %d: %w", w.Name(), has, given.Size, audit.ErrContradicted)
	}
	for range 4 { // other replicas may be faster
		if has > given.Size {
			return nil, contradicted()
		}
		var proof [][32]byte
		if has > 0 && has < given.Size {
			if proof, err = prove(ctx, has); err != nil {
				return nil, err
			}
		}
		status, body, err := w.ask(ctx, request(has, proof, c.Note))
		if err != nil {
			return nil, err
		}
		switch status {
		case http.StatusOK:
			line := w.key.cosigned(body, c.Note)
			if line == nil {
				return nil, fmt.Errorf("%s answered with no cosignature of its own: is its key the right one?", w.Name())
			}
			w.has = given.Size
			return line, nil
		case http.StatusConflict:
			size, err := strconv.ParseUint(strings.TrimSuffix(string(body), "\n"), 10, 63)
			if err != nil || size == has { // as many, with another root
				return nil, contradicted()
			}
			has = size
		case http.StatusUnprocessableEntity:
			return nil, contradicted()
		case http.StatusForbidden, http.StatusNotFound:
			return nil, fmt.Errorf("%s does not know this ledger or its key, and must be told: %w", w.Name(), audit.ErrAway)
		default:
			return nil, fmt.Errorf("%s answered with status %d: %w", w.Name(), status, audit.ErrAway)
		}
	}
	return nil, fmt.Errorf("%s is busy with other checkpoints of this ledger: %w", w.Name(), audit.ErrAway)
}

func request(old uint64, proof [][32]byte, note []byte) []byte {
	b := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range proof {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return append(append(b, '\n'), note...)
}

func (w *Witness) ask(ctx context.Context, body []byte) (int, []byte, error) {
	away := fmt.Errorf("%s: %w", w.Name(), audit.ErrAway)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.address+"/add-checkpoint", bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("%s has no address that can be asked", w.Name())
	}
	r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	answer, err := w.client.Do(r)
	if err != nil {
		return 0, nil, away // what net/http says may hold addresses
	}
	defer func() { _ = answer.Body.Close() }() // its body has been read, or is not wanted
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return 0, nil, away
	}
	return answer.StatusCode, text, nil
}

const maxAnswer = 8 << 10

// cosigned returns the first line of an answer that is this witness's valid cosignature of a note; nil if there is none.
func (k cosigner) cosigned(answer, note []byte) []byte {
	body, _, _ := bytes.Cut(note, []byte("\n\n"))
	for line := range strings.Lines(string(answer)) {
		name, sig, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "— "), "\n"), " ")
		raw, err := base64.StdEncoding.DecodeString(sig)
		if err != nil || !strings.HasPrefix(line, "— ") || name != k.name || len(raw) != 4+8+ed25519.SignatureSize || [4]byte(raw) != k.id {
			continue
		}
		message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", binary.BigEndian.Uint64(raw[4:]), body)
		if ed25519.Verify(k.public, message, raw[12:]) {
			return []byte("— " + name + " " + sig + "\n")
		}
	}
	return nil
}
