package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// witness cosigns checkpoints of the ledgers that it is told of (c2sp.org/tlog-witness). It keeps one size and root for each, durably, and signs nothing that does not
// continue them: not a smaller tree, not another one of the same size, not a larger one without a proof. That is all it knows; nothing of a person ever comes here.
type witness struct {
	name    string
	private ed25519.PrivateKey
	dir     string
	logs    map[string][]key // by origin
	now     func() time.Time
	out     io.Writer
	lock    *os.File // held as long as it is open: two processes on one folder would each forget what the other cosigned

	mu   sync.Mutex // one checkpoint at a time: what was kept must not be overtaken
	kept map[string]kept
}

// kept is what a witness remembers of one ledger.
type kept struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   []byte `json:"root"`
}

// openWitness reads the key and what was cosigned from a folder, and makes the key the first time.
func openWitness(dir, name string, logs []key, out io.Writer) (*witness, error) {
	if name == "" || strings.ContainsAny(name, " +\t\r\n") {
		return nil, errors.New("a witness has a name without spaces or '+', such as witness.example")
	}
	if len(logs) == 0 {
		return nil, errors.New("name at least one ledger by its key: -ledger KEY, as `broker keys public` prints it")
	}
	w := &witness{name: name, dir: dir, logs: map[string][]key{}, now: time.Now, out: out, kept: map[string]kept{}}
	for _, k := range logs {
		if k.kind != typeSignature {
			return nil, errors.New("the key of a ledger is of type 1")
		}
		w.logs[k.name] = append(w.logs[k.name], k)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errors.New("the folder of the witness cannot be made")
	}
	var err error
	if w.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, errors.New("the folder of the witness cannot be locked")
	}
	if err := lockFile(w.lock); err != nil {
		return nil, errors.Join(err, w.lock.Close())
	}
	if err := w.load(); err != nil {
		return nil, errors.Join(err, w.lock.Close())
	}
	return w, nil
}

// load reads the key, or makes it, and what was cosigned.
func (w *witness) load() error {
	var err error
	if w.private, err = witnessKey(filepath.Join(w.dir, "witness.key")); err != nil {
		return err
	}
	for origin := range w.logs {
		text, err := os.ReadFile(w.file(origin))
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return errors.New("what was cosigned before cannot be read: do not go on without it")
		}
		var k kept
		if json.Unmarshal(text, &k) != nil || k.Origin != origin || len(k.Root) != sha256.Size || k.Size == 0 {
			return errors.New("what was cosigned before cannot be understood: do not go on without it")
		}
		w.kept[origin] = k
	}
	return nil
}

// close lets another process be the witness.
func (w *witness) close() error { return w.lock.Close() }

// witnessKey reads the seed of an Ed25519 key, or makes one.
func witnessKey(path string) (ed25519.PrivateKey, error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		seed = make([]byte, ed25519.SeedSize)
		_, _ = rand.Read(seed) // crypto/rand.Read never returns an error (Go 1.24)
		if err := durably(path, seed, 0o400); err != nil {
			return nil, errors.New("the key of the witness cannot be written")
		}
	} else if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("witness.key is not a readable file of 32 bytes")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		return nil, errors.New("witness.key can be touched by others than its owner: chmod 0400 it")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func (w *witness) key() key {
	public := w.private.Public().(ed25519.PublicKey)
	return key{w.name, keyID(w.name, typeCosignature, public), typeCosignature, public}
}

func (w *witness) file(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return filepath.Join(w.dir, hex.EncodeToString(sum[:8])+".json")
}

// durably replaces a file, and returns when the new one would survive the loss of power.
func durably(path string, text []byte, mode os.FileMode) error {
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) { // of a process that was killed in the middle
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

const (
	maxRequest = 64 << 10
	maxProof   = 63
)

// ServeHTTP answers add-checkpoint.
func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/add-checkpoint" {
		http.Error(rw, "the one address is /add-checkpoint", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost {
		rw.Header().Set("Allow", http.MethodPost)
		http.Error(rw, "POST a checkpoint", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	if err != nil {
		http.Error(rw, "the request cannot be read, or is larger than 64 KiB", http.StatusBadRequest)
		return
	}
	old, proof, note, err := parseRequest(body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	c, err := parseCheckpoint(note)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	status, text := w.add(old, proof, c)
	if status == http.StatusConflict {
		rw.Header().Set("Content-Type", "text/x.tlog.size")
	} else {
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	rw.WriteHeader(status)
	_, _ = io.WriteString(rw, text) // the caller may have left; what was cosigned is kept
}

// add is one checkpoint: checked, kept, and only then signed.
func (w *witness) add(old uint64, proof []hash, c checkpoint) (int, string) {
	keys, known := w.logs[c.origin]
	switch {
	case !known:
		return http.StatusNotFound, "this ledger is not known here\n"
	case !c.signedBy(keys):
		return http.StatusForbidden, "no signature of a key that is known here\n"
	case old > c.size:
		return http.StatusBadRequest, "the old size is greater than the checkpoint's\n"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	has := w.kept[c.origin]
	conflict := func() (int, string) { return http.StatusConflict, strconv.FormatUint(has.Size, 10) + "\n" }
	if old != has.Size {
		return conflict()
	}
	switch {
	case old == 0:
		if len(proof) > 0 || c.size == 0 {
			return http.StatusUnprocessableEntity, "there is nothing to be consistent with: no proof, and at least one entry\n"
		}
	case old == c.size:
		if hash(has.Root) != c.root {
			w.tell("CONFLICT: %s signed two ledgers of %d entries", c.origin, c.size)
			return conflict()
		}
		if len(proof) > 0 {
			return http.StatusUnprocessableEntity, "the sizes are the same: no proof\n"
		}
	case !consistent(old, c.size, hash(has.Root), c.root, proof):
		w.tell("REFUSED: %s does not prove that %d entries are continued by %d", c.origin, old, c.size)
		return http.StatusUnprocessableEntity, "the proof does not lead from what was cosigned to this checkpoint\n"
	}
	if old != c.size {
		now := kept{c.origin, c.size, c.root[:]}
		text, err := json.Marshal(now)
		if err == nil {
			err = durably(w.file(c.origin), text, 0o600)
		}
		if err != nil {
			return http.StatusInternalServerError, "it cannot be kept now\n"
		}
		w.kept[c.origin] = now
	}
	return http.StatusOK, cosign(w.name, w.private, c.text, w.now())
}

func (w *witness) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(w.out, w.now().UTC().Format(time.RFC3339)+" "+format+"\n", args...) // nobody may be reading
}

var errRequest = errors.New("the request is a line `old SIZE`, at most 63 lines of a proof in base64, an empty line, and a checkpoint")

func parseRequest(body []byte) (old uint64, proof []hash, note []byte, err error) {
	head, note, found := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	old, err = strconv.ParseUint(size, 10, 63)
	if !found || !ok || err != nil || size != strconv.FormatUint(old, 10) || len(lines)-1 > maxProof {
		return 0, nil, nil, errRequest
	}
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(h) != sha256.Size {
			return 0, nil, nil, errRequest
		}
		proof = append(proof, hash(h))
	}
	return old, proof, note, nil
}

// serve runs the witness until ctx ends.
func (w *witness) serve(ctx context.Context, l net.Listener, identity *tls.Config) error {
	s := &http.Server{Handler: w, ReadHeaderTimeout: 2 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 8 << 10}
	if identity != nil {
		l = tls.NewListener(l, identity)
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case <-failed:
		return errors.New("the listener stopped")
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.Shutdown(end)
}
